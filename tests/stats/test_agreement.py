"""Agreement of two judges against hand numbers and an independent kappa."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.stats import outcomes_from_ranks, pairwise_agreement


def test_agreement_by_hand() -> None:
    same = pairwise_agreement([1, 1, 0, 0.5], [1, 0, 0, 1])
    assert same.value == 0.5
    assert same.n == 4
    assert same.kappa == pytest.approx((0.5 - 0.375) / (1 - 0.375))
    assert pairwise_agreement([1, 1, 0, 0.5], [1, 0, 0, 1], ties=False)[:1] == pytest.approx((2 / 3,))
    assert pairwise_agreement([1, 1], [1, 1]).kappa == 1.0


def test_kappa_from_the_table_of_counts() -> None:
    rng = np.random.default_rng(0)
    a = rng.choice([0, 0.5, 1], size=300)
    b = np.where(rng.random(300) < 0.6, a, rng.choice([0, 0.5, 1], size=300))
    table = np.array([[((a == i) & (b == j)).sum() for j in (0, 0.5, 1)] for i in (0, 0.5, 1)])
    observed, expected = np.trace(table) / 300, table.sum(0) @ table.sum(1) / 300**2
    assert pairwise_agreement(a, b).kappa == pytest.approx((observed - expected) / (1 - expected))


def test_outcomes_from_ranks() -> None:
    assert outcomes_from_ranks([1, 2, 2, 4]).tolist() == [1, 1, 1, 0.5, 1, 1]
    assert outcomes_from_ranks([3, 1]).tolist() == [0]


def test_judges_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="judges"):
        pairwise_agreement([1, 0], [1])
    with pytest.raises(ValueError):
        pairwise_agreement([0.5], [1], ties=False)
