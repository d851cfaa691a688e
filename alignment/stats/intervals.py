"""Point estimates with their uncertainty: the bootstrap over prompts, win rates, Wilson's interval.

Intervals that are exact at any sample size are in exact.py.
"""

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
    ties = int((numbers == 0.5).sum())
    # The same draws for a against b and for b against a, so that the two intervals mirror each other.
    balance, _ = group_sums(numbers - 0.5, groups)
    if (balance.sum(), (balance**3).sum()) < (0.0, 0.0):
        mirrored = bootstrap_interval(1.0 - numbers, groups, resamples=resamples, level=level, seed=seed)
        return WinRate(1.0 - mirrored.value, 1.0 - mirrored.high, 1.0 - mirrored.low, mirrored.n, ties)
    interval = bootstrap_interval(numbers, groups, resamples=resamples, level=level, seed=seed)
    return WinRate(interval.value, interval.low, interval.high, interval.n, ties)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of first - second with its bootstrap interval; both (n,), row by row of the same prompt.

    What the two have in common (easy prompts, hard prompts) falls out of the difference, so its interval is
    narrower than that of two means apart. groups: (n,) the prompt of each row. Raises ValueError as
    `bootstrap_interval` does and for lengths that differ.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"a paired difference needs two lists of one length, not {a.shape} and {b.shape}")
    return bootstrap_interval(a - b, groups, resamples=resamples, level=level, seed=seed)


def difference_of_means(
    first: ArrayLike,
    second: ArrayLike,
    groups: tuple[Any, Any] = (None, None),
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of first minus the mean of second, two samples that are not paired, with a bootstrap interval.

    Each side is resampled on its own, by groups (one list for each side) as `bootstrap_interval` does; n is
    the size of the smaller one. Raises ValueError as `bootstrap_interval` does.
    """
    sides = [_finite(first), _finite(second)]
    rng = np.random.default_rng(seed)
    means = [
        _resampled_means(*group_sums(side, names), resamples, rng)
        for side, names in zip(sides, groups, strict=True)
    ]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means[0] - means[1], [tail, 1.0 - tail])
    value = float(sides[0].mean() - sides[1].mean())
    return Interval(value, float(low), float(high), min(map(len, sides)))


def ratio_interval(
    parts: ArrayLike, wholes: ArrayLike, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> Interval:
    """sum(parts) / sum(wholes) with its percentile bootstrap interval over rows; both (n,), wholes above 0.

    For a mean over tokens of documents: parts hold each document's sum, wholes its number of tokens, and
    documents are drawn whole. Raises ValueError as `bootstrap_interval` does, for lengths that differ, and
    for a whole that is not above 0.
    """
    above, below = _finite(parts), _finite(wholes)
    if above.shape != below.shape or (below <= 0.0).any():
        raise ValueError("a ratio needs two lists of one length, the second of numbers above 0")
    means = _resampled_means(above, below, resamples, np.random.default_rng(seed))
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(above.sum() / below.sum()), float(low), float(high), len(above))


def ratio_difference(
    parts: ArrayLike,
    wholes: ArrayLike,
    other_parts: ArrayLike,
    other_wholes: ArrayLike,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """sum(parts) / sum(wholes) less the same of the others, all (n,) row by row of the same items.

    Whole items are drawn, for both ratios at once. A whole may be 0 where an item counts for one ratio and
    not for the other; resamples in which a ratio counts nothing are left out. With wholes of 1 it is
    `paired_difference`. Raises ValueError as `bootstrap_interval` does, for lengths that differ, and where a
    ratio counts nothing at all.
    """
    columns = [_finite(column) for column in (parts, wholes, other_parts, other_wholes)]
    if len({len(column) for column in columns}) != 1:
        raise ValueError("a difference of ratios needs four lists of one length")
    sums = np.stack(columns, axis=1).sum(0)
    if sums[1] <= 0.0 or sums[3] <= 0.0:
        raise ValueError("a ratio counts nothing")
    drawn = resampled_sums(np.stack(columns, axis=1), resamples, np.random.default_rng(seed))
    drawn = drawn[(drawn[:, 1] > 0.0) & (drawn[:, 3] > 0.0)]
    differences = drawn[:, 0] / drawn[:, 1] - drawn[:, 2] / drawn[:, 3]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(differences, [tail, 1.0 - tail])
    return Interval(float(sums[0] / sums[1] - sums[2] / sums[3]), float(low), float(high), len(columns[0]))


def mean_over_seeds(
    values: ArrayLike, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> Interval:
    """The mean of (seeds, prompts) values and an interval over training seeds and prompts both; n = seeds.

    values: row s holds what the model trained with seed s got on each prompt (its mean outcome, 0 to 1), the
    same prompts in every row. Seeds and prompts are drawn each with replacement (the pigeonhole bootstrap),
    and the seeds' part of a resample is stretched by √(S / (S - 1)), without which S drawn of S seeds vary
    too little. Where seeds differ by more than the noise of the prompts, three seeds still give too narrow an
    interval (it held the mean in about 77% of simulations, with five in 90%), for the percentiles of three
    numbers end at the largest. Where the noise of the prompts prevails it is wider than it need be.
    Raises ValueError for fewer than two seeds.
    Source: Owen 2007, Annals of Applied Statistics 1:386; Davison & Hinkley 1997, section 3.8.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 1 or not np.isfinite(table).all():
        raise ValueError(f"need finite values of two seeds or more by prompts, not {table.shape}")
    seeds, prompts = table.shape
    rng = np.random.default_rng(seed)
    by_seed = (
        resampled_sums(table.T, resamples, rng) / prompts
    )  # (resamples, seeds), one draw of prompts each
    weights = rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), size=resamples) / seeds
    centre = by_seed.mean(1)
    means = centre + np.sqrt(seeds / (seeds - 1.0)) * ((weights * by_seed).sum(1) - centre)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(table.mean()), float(low), float(high), seeds)


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


def resampled_sums(
    rows: NDArray[np.float64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The sum over rows of each resample of them, drawn with replacement: (n, p) to (resamples, p)."""
    total = len(rows)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    # Equal rows are exchangeable: how often each kind is drawn is multinomial. Win rates have a handful of
    # kinds, so this is the same bootstrap at a cost that does not grow with the rows.
    if len(kinds) <= max(16, total // 64):
        return rng.multinomial(total, counts / total, size=resamples) @ kinds
    sums = np.empty((resamples, rows.shape[1]))
    constant = [bool((rows[:, j] == rows[0, j]).all()) for j in range(rows.shape[1])]
    columns = np.flatnonzero(~np.array(constant))
    step = max(1, _DRAWS_AT_ONCE // total)
    for start in range(0, resamples, step):
        here = slice(start, min(start + step, resamples))
        index = rng.integers(0, total, size=(here.stop - start, total), dtype=np.int32)
        if len(columns) <= 2:
            for j in columns:
                sums[here, j] = np.take(np.ascontiguousarray(rows[:, j]), index).sum(axis=1)
        else:  # one count of the draws serves all columns, by a matrix product
            sums[here] = np.stack([np.bincount(drawn, minlength=total) for drawn in index]) @ rows
    sums[:, constant] = total * rows[0, constant]
    return sums


def _resampled_means(
    sums: NDArray[np.float64], sizes: NDArray[Any], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The mean over rows of each resample of groups: (resamples,)."""
    drawn = resampled_sums(np.stack([sums, sizes.astype(np.float64)], axis=1), resamples, rng)
    return drawn[:, 0] / drawn[:, 1]
