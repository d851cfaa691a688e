"""Whether stated probabilities are those with which things happen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Bin(NamedTuple):
    """Of n statements: their mean probability, and the share that came true."""

    stated: float
    seen: float
    n: int


class Calibration(NamedTuple):
    """error: the expected calibration error, Σ n/N·|seen − stated| over the bins, empty ones left out."""

    error: float
    bins: list[Bin]


def calibration(stated: ArrayLike, seen: ArrayLike, bins: int = 10) -> Calibration:
    """How far probabilities are from frequencies, in bins of equal width.

    stated: (n,) probabilities; seen: (n,) 1 where it came true, 0 where not, 0.5 for a tie. Probabilities
    that are all at least one half (of the more likely of two) are binned over [0.5, 1], others over [0, 1].
    Raises ValueError for none. Source: Guo et al., arXiv 1706.04599, eq. 3.
    """
    p, hit = np.asarray(stated, dtype=np.float64), np.asarray(seen, dtype=np.float64)
    if not p.size or p.shape != hit.shape or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"need as many probabilities as outcomes, at least one: {p.shape}, {hit.shape}")
    low = 0.5 if (p >= 0.5).all() else 0.0
    place = np.minimum(((p - low) / (1.0 - low) * bins).astype(int), bins - 1)
    n = np.bincount(place, minlength=bins)
    total_p, total_hit = (np.bincount(place, values, minlength=bins) for values in (p, hit))
    kept = n > 0
    found = [
        Bin(float(a / k), float(b / k), int(k))
        for a, b, k in zip(total_p[kept], total_hit[kept], n[kept], strict=True)
    ]
    error = sum(one.n * abs(one.seen - one.stated) for one in found) / p.size
    return Calibration(float(error), found)
