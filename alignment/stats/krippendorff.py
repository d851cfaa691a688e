"""Krippendorff's alpha: agreement among any number of judges, corrected for chance, with gaps allowed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def krippendorff_alpha(units: Mapping[tuple[int, ...], int]) -> float | None:
    """Alpha for nominal values: 1 is full agreement, 0 what chance gives, below 0 systematic disagreement.

    units: how many judges gave each value, as a tuple over the values, and how many units were judged so;
    units with fewer than two judgments say nothing. None where nothing can be compared or every judgment
    is of one value. Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, section C.
    """
    kept = [(np.array(counts, dtype=np.float64), n) for counts, n in units.items() if sum(counts) > 1]
    if not kept:
        return None
    together = sum((np.outer(c, c) - np.diag(c)) * (n / (c.sum() - 1)) for c, n in kept)
    totals = np.asarray(together).sum(axis=1)
    n = totals.sum()
    expected = (n * n - (totals * totals).sum()) / (n - 1)
    if expected <= 0:
        return None
    return float(1 - (n - np.trace(together)) / expected)
