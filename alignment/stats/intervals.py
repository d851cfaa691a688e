"""Point estimates with their uncertainty: the bootstrap over prompts, win rates, Wilson's interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

# Draws made at once by the direct bootstrap: small enough for a processor's cache, large enough for numpy.
_DRAWS_AT_ONCE = 1 << 20


class Interval(NamedTuple):
    """An estimate and the interval around it; `n` is the number of values it rests on."""

    value: float
    low: float
    high: float
    n: int


class WinRate(NamedTuple):
    """The share of comparisons won, a tie counted as half; `n` comparisons, of which `ties` were ties."""

    rate: float
    low: float
    high: float
    n: int
    ties: int


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of `values` and its percentile bootstrap interval, resampling whole groups.

    values: (n,) finite numbers. groups: (n,) group of each value, the prompt it belongs to; values of one
    prompt are not independent, so whole prompts are drawn. Without groups every value is its own group.
    A resample's estimate is the mean over all rows that it drew, so larger groups weigh more, as they do in
    the estimate itself. Raises ValueError for no values, a value that is not finite, or lengths that differ.
    Source: Efron & Tibshirani 1993, chapter 13; clusters: Davison & Hinkley 1997, section 3.8.
    """
    numbers = _finite(values)
    sums, sizes = group_sums(numbers, groups)
    means = _resampled_means(sums, sizes, resamples, np.random.default_rng(seed))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(numbers.mean()), float(low), float(high), len(numbers))


def win_rate(
    outcomes: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    level: float = 0.95,
) -> WinRate:
    """The win rate with its bootstrap interval over prompts.

    outcomes: (n,) of 1 (won), 0.5 (tie) and 0 (lost); groups: (n,) the prompt of each comparison.
    Raises ValueError for any other outcome and as `bootstrap_interval` does.
    """
    numbers = np.asarray(outcomes, dtype=np.float64)
    if not np.isin(numbers, (0.0, 0.5, 1.0)).all():
        raise ValueError("an outcome is 1 (won), 0.5 (tie) or 0 (lost)")
    interval = bootstrap_interval(numbers, groups, resamples=resamples, level=level, seed=seed)
    return WinRate(interval.value, interval.low, interval.high, interval.n, int((numbers == 0.5).sum()))


def binomial_interval(k: float, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval for `k` successes in `n` independent trials.

    Raises ValueError if n < 1 or k is outside [0, n]. Source: Wilson 1927, JASA 22:209.
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"need 0 <= k <= n and n >= 1, not k={k}, n={n}")
    z = float(ndtri(0.5 + level / 2.0))
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)), int(n))


def group_sums(
    values: NDArray[np.float64], groups: Sequence[Any] | NDArray[Any] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Per group the sum of its values and their count, groups in sorted order: two arrays of (groups,)."""
    if groups is None:
        return values, np.ones(len(values), dtype=np.int64)
    names = np.asarray(groups)
    if names.shape != values.shape:
        raise ValueError(f"{values.shape[0]} values but groups of shape {names.shape}")
    _, index = np.unique(names, return_inverse=True)
    sums = np.bincount(index, weights=values).astype(np.float64)
    return sums, np.bincount(index).astype(np.int64)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"need a non-empty list of numbers, not shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{int((~np.isfinite(numbers)).sum())} of {numbers.size} values are not finite")
    return numbers


def _resampled_means(
    sums: NDArray[np.float64], sizes: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The mean over rows of each resample of groups: (resamples,)."""
    total = len(sums)
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    # Groups with equal sum and size are exchangeable: how often each kind is drawn is multinomial. Win rates
    # have a handful of kinds, so this is the same bootstrap at a cost that does not grow with the rows.
    if len(kinds) <= max(16, total // 64):
        drawn = rng.multinomial(total, counts / total, size=resamples)
        return (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
    means = np.empty(resamples)
    equal = bool((sizes == sizes[0]).all())
    step = max(1, _DRAWS_AT_ONCE // total)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        index = rng.integers(0, total, size=(rows, total), dtype=np.int32)
        weight = total * sizes[0] if equal else np.take(sizes, index).sum(axis=1)
        means[start : start + rows] = np.take(sums, index).sum(axis=1) / weight
    return means
