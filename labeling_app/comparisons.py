"""What judges said, taken apart into comparisons: one row for each pair of outputs that a judge compared.

On a pair a judge says first, second or tie; calling all outputs bad without ranks is a tie of every pair.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeling_app.store.verdicts import Panel, Said

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FIRST, SECOND, TIE = range(3)
PAIRS = 64  # a pair of outputs i, j of a task has the number 8 i + j: no task has more than 8 outputs


@dataclass(frozen=True)
class Comparisons:
    """Every comparison that a judge made, one entry each; all arrays but `names` and `units` have length n.

    task, judge, unit: indices; a unit is a pair of outputs of a task; tasks: the number of each task index.
    said: FIRST, SECOND or TIE.
    earlier: 1 the first of the pair stood above the other, -1 below, 0 unknown. longer: likewise of length.
    units: (units, 3) task and the two ordinals. names: of the judges. judgments: how many each made.
    """

    task: Ints
    judge: Ints
    unit: Ints
    said: Ints
    earlier: Ints
    longer: Ints
    units: Ints
    names: list[str]
    tasks: list[int]
    judgments: Counter[str]


def comparisons(panel: Panel) -> Comparisons:
    """Every judgment taken apart into pairs."""
    order = {task: index for index, task in enumerate(sorted({one.task for one in panel.said}))}
    judges = {name: index for index, name in enumerate(sorted({one.judge for one in panel.said}))}
    sizes = _sizes(panel)
    by_size: dict[int, list[Said]] = {}
    parts = []
    for one in panel.said:
        if one.ranks is not None or (one.all_bad and one.task in sizes):
            by_size.setdefault(len(one.ranks) if one.ranks is not None else sizes[one.task], []).append(one)
        elif one.compared:
            parts.append(_compared(one, order[one.task], judges[one.judge], panel))
    parts += [_ranked(some, k, order, judges, panel) for k, some in by_size.items() if 2 <= k <= 8]
    table = np.concatenate([np.empty((0, 6), dtype=np.int64), *parts])
    keys, unit = np.unique(table[:, 0] * PAIRS + table[:, 2], return_inverse=True)
    units = np.stack([keys // PAIRS, keys % PAIRS // 8, keys % 8], axis=1)
    named = Counter(panel.names.get(one.judge, one.judge) for one in panel.said)
    return Comparisons(
        task=table[:, 0],
        judge=table[:, 1],
        unit=unit.astype(np.int64),
        said=table[:, 3],
        earlier=table[:, 4],
        longer=table[:, 5],
        units=units,
        names=[panel.names.get(name, name) for name in judges],
        tasks=list(order),
        judgments=named,
    )


def meetings(found: Comparisons) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Every pair of judges who gave a verdict on the same unit: task, judge a < judge b, what each said."""
    order = np.lexsort((found.judge, found.unit))
    unit, judge, said, task = (x[order] for x in (found.unit, found.judge, found.said, found.task))
    parts, step = [], 1
    while True:
        alike = (
            np.flatnonzero(unit[step:] == unit[:-step]) if step < len(unit) else np.empty(0, dtype=np.int64)
        )
        if not len(alike):
            break
        parts.append((task[alike], judge[alike], judge[alike + step], said[alike], said[alike + step]))
        step += 1
    if not parts:
        none = np.empty(0, dtype=np.int64)
        return none, none, none, none, none
    task, a, b, said_a, said_b = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return task, a, b, said_a, said_b


def rank_table(some: list[Said], k: int) -> Floats:
    """(judgments, k): ranks, NaN where one is missing; all equal where all was called bad."""
    level, unknown = [1.0] * k, [None] * k
    rows = [level if one.ranks is None else one.ranks if len(one.ranks) == k else unknown for one in some]
    return np.array(rows, dtype=np.float64).reshape(-1, k)  # None becomes NaN


def _ranked(some: list[Said], k: int, order: dict[int, int], judges: dict[str, int], panel: Panel) -> Ints:
    """The comparisons of rankings of k outputs, as rows: task, judge, pair, said, earlier, longer."""
    ranks = rank_table(some, k)
    task = np.array([order[one.task] for one in some])
    judge = np.array([judges[one.judge] for one in some])
    place = np.zeros((len(some), k), dtype=np.int64)
    for row, one in enumerate(some):
        if one.presented is not None and len(one.presented) == k:
            place[row, one.presented] = np.arange(k)
    length = _length_table([one.task for one in some], k, panel)
    rows = []
    for i in range(k):
        for j in range(i + 1, k):
            a, b = ranks[:, i], ranks[:, j]
            said = np.where(a < b, FIRST, np.where(a > b, SECOND, TIE))
            earlier = np.sign(place[:, j] - place[:, i])
            longer = np.nan_to_num(np.sign(length[:, i] - length[:, j])).astype(np.int64)
            pair = np.full(len(some), 8 * i + j)
            columns = np.stack([task, judge, pair, said, earlier, longer], axis=1)
            rows.append(columns[~np.isnan(a) & ~np.isnan(b)])
    return np.concatenate(rows)


def _length_table(tasks: list[int], k: int, panel: Panel) -> Floats:
    """(judgments, k): the lengths of the outputs, NaN where one is not known."""
    unknown: list[int | None] = [None] * k
    several, which = np.unique(np.array(tasks, dtype=np.int64), return_inverse=True)
    rows = [panel.lengths.get(task, unknown) for task in several.tolist()]
    return np.array(rows, dtype=np.float64).reshape(-1, k)[which]


def _sizes(panel: Panel) -> dict[int, int]:
    """How many outputs a task has, as far as somebody saw or ranked them."""
    return {
        one.task: len(one.presented or one.ranks or ()) for one in panel.said if one.presented or one.ranks
    }


def _compared(one: Said, task: int, judge: int, panel: Panel) -> Ints:
    rows = []
    place = {ordinal: at for at, ordinal in enumerate(one.presented or ())}
    length = panel.lengths.get(one.task, [])
    for a, b, said in one.compared:
        i, j = min(a, b), max(a, b)
        verdict = said if a < b or said == TIE else SECOND - said
        earlier = int(np.sign(place[j] - place[i])) if i in place and j in place else 0
        known = length and length[i] is not None and length[j] is not None
        longer = int(np.sign((length[i] or 0) - (length[j] or 0))) if known else 0
        rows.append([task, judge, 8 * i + j, verdict, earlier, longer])
    return np.array(rows, dtype=np.int64).reshape(-1, 6)
