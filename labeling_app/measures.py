"""Agreement, quality and bias of a project's judges, from what they said. No SQL and no page is here.

Measured on comparisons, the pairs of outputs that rankings are taken apart into (comparisons.py). Intervals
draw whole tasks, since pairs of one task hang together (alignment/stats/reliability.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from alignment.stats.bradley_terry import crowd_bradley_terry
from alignment.stats.dawid_skene import dawid_skene
from alignment.stats.intervals import Interval
from alignment.stats.reliability import (
    alpha_of,
    cohen_of,
    coincidence_rows,
    fleiss_of,
    fleiss_rows,
    over_tasks,
    share_of,
)
from labeling_app.comparisons import TIE, Comparisons, Floats, Ints, meetings, rank_table
from labeling_app.store.verdicts import Panel, Said

PAIRS_SHOWN = 30  # pairs of judges with intervals: those who share most
RESAMPLES = 400  # of the intervals of each judge and each pair of judges, of which there may be hundreds


@dataclass(frozen=True)
class Pair:
    """Two judges: how often they said the same of what both judged, and Cohen's kappa."""

    first: str
    second: str
    same: Interval
    kappa: Interval | None
    comparisons: int


@dataclass(frozen=True)
class Agreement:
    """tasks: with two judges or more. Every coefficient is None where nothing can be compared.

    pairwise: over pairs of judges, a tie agreeing only with a tie; decided: where neither said tie.
    alpha: Krippendorff's, of the three verdicts; alpha_ranks: ordinal, of the ranks themselves.
    cohen: the mean over pairs of judges, weighted by what they share. others: by judge, against the others.
    """

    tasks: int
    comparisons: int
    pairwise: Interval | None
    decided: Interval | None
    alpha: Interval | None
    alpha_ranks: Interval | None
    fleiss: Interval | None
    cohen: float | None
    pairs: list[Pair]
    others: dict[str, Interval]
    scales: dict[str, Interval]


def agreement(panel: Panel, found: Comparisons) -> Agreement:
    """How far judges agree who judged the same tasks."""
    counts = np.stack(
        [np.bincount(found.unit[found.said == c], minlength=len(found.units)) for c in range(3)], 1
    )
    owner, size = found.units[:, 0], len(found.tasks)
    task, a, b, said_a, said_b = meetings(found)
    same, decided = said_a == said_b, (said_a != TIE) & (said_b != TIE)
    pairs, cohen = _pairs(found, task, a, b, said_a, said_b)
    return Agreement(
        tasks=len(np.unique(task)),
        comparisons=len(task),
        pairwise=_share(task, same),
        decided=_share(task[decided], same[decided]),
        alpha=over_tasks(coincidence_rows(counts, owner, size), alpha_of),
        alpha_ranks=_alpha_of_ranks(panel),
        fleiss=over_tasks(fleiss_rows(counts, owner, size), fleiss_of),
        cohen=cohen,
        pairs=pairs,
        others=with_others(found),
        scales=_alpha_of_scales(panel),
    )


def with_others(found: Comparisons) -> dict[str, Interval]:
    """Of each judge, the share of verdicts that are those of another judge of the same pair of outputs."""
    task, a, b, said_a, said_b = meetings(found)
    tasks, same = np.tile(task, 2), np.tile(said_a == said_b, 2)  # each meeting counts for both
    each = zip(found.names, _of_each(np.concatenate([a, b]), len(found.names)), strict=True)
    shares = {name: _share(tasks[mine], same[mine]) for name, mine in each}
    return {name: share for name, share in shares.items() if share is not None}


@dataclass(frozen=True)
class Quality:
    """One judge. right: the chance that a verdict is the true one (Dawid-Skene); trust: that it is the
    model's own and not its opposite (Bradley-Terry with annotator effects)."""

    name: str
    judgments: int
    comparisons: int
    right: float
    trust: float


def quality(found: Comparisons) -> list[Quality]:
    """Every judge by two models, the best first. Empty without a comparison."""
    if not len(found.said):
        return []
    count = np.bincount(found.judge, minlength=len(found.names))
    # A verdict for each cell, and two more for the true one: a judge of few comparisons stays near the rest.
    prior = np.full((3, 3), 0.5) + 2.0 * np.eye(3)
    fit = dawid_skene(
        found.unit, found.judge, found.said, 3, prior=prior, mirror=[1, 0, 2], tolerance=1e-3, iterations=100
    )
    right = (fit.confusion.diagonal(axis1=1, axis2=2) * fit.shares).sum(1)
    first, second = found.units[:, 0] * 8 + found.units[:, 1], found.units[:, 0] * 8 + found.units[:, 2]
    outcomes = np.array([1.0, 0.0, 0.5])[found.said]
    crowd = crowd_bradley_terry(
        first, second, found.unit, found.judge, outcomes, tolerance=1e-3, iterations=100
    )
    rows = [
        Quality(name, found.judgments[name], int(count[i]), float(right[i]), float(crowd.reliability[i]))
        for i, name in enumerate(found.names)
        if count[i]
    ]
    return sorted(rows, key=lambda row: -row.right)


@dataclass(frozen=True)
class Leaning:
    """Of the decided comparisons, the share that preferred the output that stood higher, and the longer one;
    of all comparisons, the share of ties. name is None for all judges together."""

    name: str | None
    earlier: Interval | None
    longer: Interval | None
    ties: Interval | None


def leanings(found: Comparisons) -> list[Leaning]:
    """All judges together, then each one by name."""
    each = zip(found.names, _of_each(found.judge, len(found.names)), strict=True)
    everything = np.arange(len(found.said))
    return [_leaning(found, name, mine) for name, mine in [(None, everything), *each]]


def first_places(panel: Panel) -> tuple[int, list[Interval]]:
    """How often the output at each place on the screen was ranked best, for the commonest number of outputs.

    A tie for the best is shared among those in it. Without bias every place has a share of 1 / number.
    """
    known = [one for one in panel.said if one.ranks is not None and one.presented is not None]
    sizes = Counter(len(one.ranks or ()) for one in known)
    if not sizes:
        return 0, []
    k = sizes.most_common(1)[0][0]
    some = [one for one in known if len(one.ranks or ()) == k and len(one.presented or ()) == k]
    ranks = rank_table(some, k)
    shown = np.array([one.presented for one in some], dtype=np.int64)
    best = np.take_along_axis(ranks, shown, axis=1) == np.nanmin(ranks, axis=1, keepdims=True)
    share = best / best.sum(1, keepdims=True)
    order = {task: i for i, task in enumerate(sorted({one.task for one in some}))}
    task = np.array([order[one.task] for one in some])
    places = []
    for place in range(k):
        found = over_tasks(_hits(task, share[:, place], len(order)), share_of)
        if found is not None:
            places.append(found)
    return k, places


def disputes(found: Comparisons) -> list[tuple[int, float, int]]:
    """Tasks on which judges differ, the most disputed first: number of the task, the share of comparisons on
    which two judges said different things, and how many judges there were."""
    task, _, _, said_a, said_b = meetings(found)
    size = len(found.tasks)
    differ = np.bincount(task, said_a != said_b, size)
    met = np.bincount(task, minlength=size)
    people = np.unique(np.stack([found.task, found.judge], 1), axis=0)[:, 0]
    judges = np.bincount(people, minlength=size)
    which = np.flatnonzero(differ)
    which = which[np.argsort(-differ[which] / met[which], kind="stable")]
    return [(found.tasks[i], float(differ[i] / met[i]), int(judges[i])) for i in which]


def _pairs(
    found: Comparisons, task: Ints, a: Ints, b: Ints, said_a: Ints, said_b: Ints
) -> tuple[list[Pair], float | None]:
    if not len(task):
        return [], None
    keys, which = np.unique(a * len(found.names) + b, return_inverse=True)
    tables = np.bincount(which * 9 + said_a * 3 + said_b, minlength=9 * len(keys)).reshape(-1, 3, 3)
    kappas, weights = cohen_of(tables), tables.sum((1, 2))
    known = ~np.isnan(kappas)
    mean = float((kappas[known] * weights[known]).sum() / weights[known].sum()) if known.any() else None
    shown = []
    for pair in np.argsort(-weights, kind="stable")[:PAIRS_SHOWN]:
        mine = which == pair
        own, at = np.unique(task[mine], return_inverse=True)
        cells = np.bincount(at * 9 + said_a[mine] * 3 + said_b[mine], minlength=9 * len(own))
        rows = cells.reshape(-1, 3, 3)
        same = over_tasks(
            np.stack([rows.trace(axis1=1, axis2=2), rows.sum((1, 2))], 1), share_of, resamples=RESAMPLES
        )
        if same is not None:
            first, second = divmod(int(keys[pair]), len(found.names))
            names = found.names[first], found.names[second]
            shown.append(
                Pair(*names, same, over_tasks(rows, cohen_of, resamples=RESAMPLES), int(weights[pair]))
            )
    return shown, mean


def _alpha_of_ranks(panel: Panel) -> Interval | None:
    """Ordinal alpha, where a unit is an output and a value its rank."""
    ranked = [one for one in panel.said if one.ranks is not None]
    return _ordinal(ranked, [one.ranks or () for one in ranked])


def _alpha_of_scales(panel: Panel) -> dict[str, Interval]:
    """Ordinal alpha of each scale, where a unit is an output."""
    names = sorted({name for one in panel.said for name in one.ratings or ()})
    found = {}
    for name in names:
        rated = [one for one in panel.said if one.ratings and name in one.ratings]
        alpha = _ordinal(rated, [(one.ratings or {})[name] for one in rated])
        if alpha is not None:
            found[name] = alpha
    return found


def _ordinal(some: list[Said], values: list[Sequence[float | None]]) -> Interval | None:
    sizes = np.array([len(row) for row in values], dtype=np.int64)
    stated = np.array(list(chain.from_iterable(values)), dtype=np.float64)  # None becomes NaN
    output = np.arange(len(stated)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    cell = np.repeat(np.array([one.task for one in some], dtype=np.int64), sizes) * 8 + output
    known = ~np.isnan(stated)
    if not known.any():
        return None
    keys, unit = np.unique(cell[known], return_inverse=True)
    levels, value = np.unique(stated[known], return_inverse=True)
    if len(levels) > 16:  # not a scale of some steps: nothing that ordinal classes could describe
        return None
    tasks, owner = np.unique(keys // 8, return_inverse=True)
    counts = np.bincount(unit * len(levels) + value, minlength=len(keys) * len(levels))
    rows = coincidence_rows(counts.reshape(len(keys), -1), owner, len(tasks))
    return over_tasks(rows, lambda table: alpha_of(table, "ordinal"), resamples=500)


def _of_each(judge: Ints, judges: int) -> list[Ints]:
    """The indices at which each judge stands: sorted once, not looked for once a judge."""
    ends = np.cumsum(np.bincount(judge, minlength=judges))
    return np.split(np.argsort(judge, kind="stable"), ends[:-1])[:judges]  # of nobody split makes one part


def _leaning(found: Comparisons, name: str | None, mine: Ints) -> Leaning:
    """Of the comparisons with these indices."""
    task, said, earlier, longer = (x[mine] for x in (found.task, found.said, found.earlier, found.longer))
    tied = said == TIE
    preferred = 1 - 2 * said  # 1 the first, -1 the second
    seen, sized = ~tied & (earlier != 0), ~tied & (longer != 0)
    higher = _share(task[seen], earlier[seen] == preferred[seen])
    lengthy = _share(task[sized], longer[sized] == preferred[sized])
    return Leaning(name, higher, lengthy, _share(task, tied))


def _share(task: Ints, hit: NDArray[np.bool_]) -> Interval | None:
    """How often `hit`, with an interval over the tasks; it costs what these judgments cost, not all tasks."""
    own, at = np.unique(task, return_inverse=True)
    return over_tasks(_hits(at, hit, len(own)), share_of, resamples=RESAMPLES if len(own) < 2000 else 1000)


def _hits(task: Ints, hit: NDArray[np.generic], size: int) -> Floats:
    return np.stack([np.bincount(task, hit, size), np.bincount(task, minlength=size)], axis=1)
