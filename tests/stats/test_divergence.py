"""Jensen-Shannon against scipy and by hand; the permutation test on lots and on a real difference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from alignment.stats import divergence_test, jensen_shannon


def test_the_divergence_is_scipys_and_in_bits() -> None:
    assert jensen_shannon([1, 0], [0, 1]) == pytest.approx(1.0)
    assert jensen_shannon([2, 4, 6], [1, 2, 3]) == 0.0
    # p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): H(m) - H(q)/2 = 0.811278 - 0.5
    assert jensen_shannon([3, 0], [5, 5]) == pytest.approx(0.311278, abs=1e-6)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (2, 5, 40))
    theirs = [jensenshannon(x, y, base=2) ** 2 for x, y in zip(a, b, strict=True)]
    assert jensen_shannon(a, b) == pytest.approx(theirs)
    assert np.isnan(jensen_shannon([0, 0], [1, 2]))


def texts(rng: np.random.Generator, n: int, shares: list[float]) -> list[list[int]]:
    return [np.flatnonzero(rng.random(len(shares)) < shares).tolist() for _ in range(n)]


def test_texts_of_one_population_are_rarely_told_apart_and_of_two_always() -> None:
    rng = np.random.default_rng(1)
    shares = [0.5 / (1 + i / 4) for i in range(200)]
    same = [
        divergence_test(texts(rng, 30, shares), texts(rng, 90, shares), permutations=99, seed=i)
        for i in range(200)
    ]
    false = np.mean([d.p <= 0.05 for d in same])
    assert 0.005 <= false <= 0.105  # 5%, and 3.5 standard errors around it
    assert np.mean([d.value for d in same]) == pytest.approx(np.mean([d.expected for d in same]), rel=0.02)
    other = [*shares[:100], *(4 * s for s in shares[100:])]
    found = divergence_test(texts(rng, 100, shares), texts(rng, 100, other), permutations=199)
    assert found.p == 1 / 200
    assert found.value > 1.5 * found.expected


def test_it_is_the_same_from_either_side_and_repeats() -> None:
    a, b = [[0, 1], [1, 2], [3]], [[1], [5, 6]]
    assert divergence_test(a, b, least=1) == divergence_test(a, b, least=1)
    assert divergence_test(a, b, least=1).value == pytest.approx(divergence_test(b, a, least=1).value)
    # Feature 1 alone is in three texts, and of all that is left on either side: nothing tells them apart.
    assert divergence_test(a, b, least=3).value == 0.0
    for side, least in (([[], []], 1), (b, 4), ([[9]], 2)):
        with pytest.raises(ValueError, match="no feature"):
            divergence_test(a, side, least=least)
