"""Exact tests of paired comparisons and the correction for making several of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, stdtr  # distributions without the slow import of scipy.stats


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided p-value of `wins` against `losses` if both were equally likely; ties are left out.

    Raises ValueError for a negative count. Without a single win or loss there is no evidence: p = 1.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"wins and losses are counts, not {wins} and {losses}")
    return float(min(1.0, 2.0 * bdtr(min(wins, losses), wins + losses, 0.5)))


def t_test(values: ArrayLike, centre: float) -> float:
    """The two-sided p-value of Student's t test that the mean of (n,) values is `centre`; 1 for n < 2."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return 1.0
    away, error = abs(float(x.mean()) - centre), float(x.std(ddof=1)) / len(x) ** 0.5
    if away == 0.0 or error == 0.0:
        return float(away == 0.0)
    return float(2.0 * stdtr(len(x) - 1, -away / error))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment of (m,) p-values, in the given order: (m,) in [0, 1].

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted
