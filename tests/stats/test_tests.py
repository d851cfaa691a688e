"""The sign test and Holm's correction against scipy, the definition and hand numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.stats import holm, sign_test
from alignment.stats.tests import t_test


@given(st.integers(0, 400), st.integers(0, 400))
def test_sign_test_is_the_exact_binomial_test(wins: int, losses: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_sign_test_by_hand() -> None:
    assert sign_test(5, 0) == pytest.approx(2 / 32)
    assert sign_test(9, 1) == pytest.approx(2 * 11 / 1024)
    assert sign_test(3, 3) == 1.0
    with pytest.raises(ValueError):
        sign_test(-1, 3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_by_its_definition(p: list[float]) -> None:
    """Adjusted p of the k-th smallest: the largest of (m - j + 1) times the j-th smallest, j up to k."""
    ranked = sorted(range(len(p)), key=lambda i: p[i])
    for k, i in enumerate(ranked):
        expected = max((len(p) - j) * p[ranked[j]] for j in range(k + 1))
        assert holm(p)[i] == pytest.approx(min(1.0, expected), abs=1e-12)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx(np.array([0.03, 0.06, 0.06]))


@pytest.mark.parametrize("values", [[0.58, 0.61, 0.67], [0.4, 0.7], [0.45, 0.5, 0.41, 0.52, 0.47]])
def test_the_t_test_against_scipy(values: list[float]) -> None:
    from scipy.stats import ttest_1samp

    assert t_test(values, 0.5) == pytest.approx(ttest_1samp(values, 0.5).pvalue)
    assert (t_test([0.6], 0.5), t_test([0.5, 0.5], 0.5), t_test([0.6, 0.6], 0.5)) == (1.0, 1.0, 0.0)
