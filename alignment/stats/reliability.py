"""Agreement corrected for chance, each coefficient with its bootstrap interval over tasks.

Every coefficient is a function of sums over tasks, so a resample of tasks is a weighted sum: each function
here takes one row of counts a task, and a bootstrap costs a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignment.stats.intervals import Interval

Floats = NDArray[np.float64]
_DRAWS_AT_ONCE = 1 << 22


def coincidences(values: Sequence[Sequence[int | None]], classes: int) -> Floats:
    """How often two judges of one unit gave the values c and k: (classes, classes), each unit weighing as
    many judgments as it has. values: for each unit the values 0 … classes - 1 that its judges gave; None is
    no value, and a unit with fewer than two adds nothing. Source: Krippendorff 2011, section C.
    """
    table = np.zeros((classes, classes))
    for unit in values:
        given = [value for value in unit if value is not None]
        if len(given) > 1:
            counts = np.bincount(given, minlength=classes).astype(np.float64)
            table += (np.outer(counts, counts) - np.diag(counts)) / (len(given) - 1)
    return table


def coincidence_rows(counts: ArrayLike, tasks: ArrayLike, size: int) -> Floats:
    """`coincidences` of each task: (size, classes, classes). counts: (units, classes) numbers of judges who
    gave each value to a unit; tasks: (units,) the task, 0 … size - 1, that each unit belongs to."""
    table, owner = np.asarray(counts, dtype=np.float64), np.asarray(tasks, dtype=np.int64)
    judges = table.sum(1)
    table, owner, judges = table[judges > 1], owner[judges > 1], judges[judges > 1]
    classes = table.shape[1]
    rows = np.empty((size, classes, classes))
    for c in range(classes):
        for k in range(classes):
            together = table[:, c] * (table[:, k] - (c == k)) / (judges - 1.0)
            rows[:, c, k] = np.bincount(owner, together, size)
    return rows


def fleiss_rows(counts: ArrayLike, tasks: ArrayLike, size: int) -> Floats:
    """`fleiss_sums` of each task: (size, classes + 2); the arguments are those of `coincidence_rows`."""
    table, owner = np.asarray(counts, dtype=np.float64), np.asarray(tasks, dtype=np.int64)
    judges = table.sum(1)
    table, owner, judges = table[judges > 1], owner[judges > 1], judges[judges > 1]
    alike = (table * (table - 1.0)).sum(1) / (judges * (judges - 1.0))
    columns = [*(table / judges[:, None]).T, alike, np.ones(len(table))]
    return np.stack([np.bincount(owner, column, size) for column in columns], axis=1)


def alpha_of(coincidence: ArrayLike, level: Literal["nominal", "ordinal"] = "nominal") -> Floats:
    """Krippendorff's alpha of coincidence matrices: (..., c, c) to (...,); NaN where every value is the same.

    Values of the ordinal level are ordered by their index. Source: Krippendorff 2011, section C.
    """
    seen = np.asarray(coincidence, dtype=np.float64)
    totals = seen.sum(-1)
    count = totals.sum(-1)
    if level == "nominal":
        distance = np.broadcast_to(1.0 - np.eye(seen.shape[-1]), seen.shape)
    else:
        # δ(c, k) = (half of c and k, and all between them)², with mid-ranks: their difference.
        middle = np.cumsum(totals, axis=-1) - 0.5 * totals
        distance = (middle[..., :, None] - middle[..., None, :]) ** 2
    observed = (seen * distance).sum((-1, -2))
    expected = (totals[..., :, None] * totals[..., None, :] * distance).sum((-1, -2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1.0 - (count - 1.0) * observed / expected, np.nan)


def fleiss_sums(counts: ArrayLike) -> Floats:
    """What Fleiss' kappa needs of units: (units, classes) numbers of judges to (classes + 2,) sums.

    Units with fewer than two judges say nothing. Where units have different numbers of judges, each weighs
    the same. Add the sums of several tasks to pool them.
    """
    table = np.asarray(counts, dtype=np.float64)
    table = table[table.sum(1) > 1]
    judges = table.sum(1)
    alike = (table * (table - 1.0)).sum(1) / (judges * (judges - 1.0))
    shares = table / judges[:, None]
    return np.concatenate([shares.sum(0), [alike.sum(), float(len(table))]])


def fleiss_of(sums: ArrayLike) -> Floats:
    """Fleiss' kappa of `fleiss_sums`: (..., classes + 2) to (...,); NaN where only one class was given.

    Source: Fleiss 1971, Psychological Bulletin 76:378.
    """
    table = np.asarray(sums, dtype=np.float64)
    units = table[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        alike = table[..., -2] / units
        chance = ((table[..., :-2] / units[..., None]) ** 2).sum(-1)
        return np.where(chance < 1.0 - 1e-12, (alike - chance) / (1.0 - chance), np.nan)


def cohen_of(confusion: ArrayLike) -> Floats:
    """Cohen's kappa of two judges: (..., c, c), how often the first said the row and the second the column.

    NaN where both always gave one and the same class. Source: Cohen 1960, EPM 20:37.
    """
    table = np.asarray(confusion, dtype=np.float64)
    total = table.sum((-1, -2))
    with np.errstate(divide="ignore", invalid="ignore"):
        alike = np.trace(table, axis1=-2, axis2=-1) / total
        chance = (table.sum(-1) * table.sum(-2)).sum(-1) / total**2
        return np.where(chance < 1.0 - 1e-12, (alike - chance) / (1.0 - chance), np.nan)


def share_of(sums: ArrayLike) -> Floats:
    """Hits of n: (..., 2) to (...,); NaN where n is 0."""
    table = np.asarray(sums, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(table[..., 1] > 0, table[..., 0] / table[..., 1], np.nan)


def over_tasks(
    sums: ArrayLike,
    coefficient: Callable[[Floats], Floats],
    *,
    resamples: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """A coefficient of the summed rows with its percentile bootstrap interval; `n` is the number of tasks.

    sums: (tasks, …) one row of counts a task, zero for a task that says nothing. None where the coefficient
    has no value, or there is no task. Resamples in which it has none are left out.
    Source: Efron & Tibshirani 1993, chapter 13, whole tasks being drawn.
    """
    rows = np.asarray(sums, dtype=np.float64)
    if not len(rows):
        return None
    shape = rows.shape[1:]
    rows = rows.reshape(len(rows), -1)
    rows = rows[np.abs(rows).sum(1) > 0]
    if not len(rows):
        return None
    value = float(coefficient(rows.sum(0).reshape(shape)))
    if np.isnan(value):
        return None
    kinds, times = np.unique(rows, axis=0, return_counts=True)
    rng, drawn = np.random.default_rng(seed), []
    step = max(1, _DRAWS_AT_ONCE // len(kinds))
    for start in range(0, resamples, step):
        weights = rng.multinomial(len(rows), times / len(rows), size=min(step, resamples - start))
        drawn.append(coefficient((weights @ kinds).reshape(-1, *shape)))
    found = np.concatenate(drawn)
    tail = (1.0 - level) / 2.0
    low, high = np.nanquantile(found, [tail, 1.0 - tail])
    return Interval(value, float(low), float(high), len(rows))
