"""Agreement corrected for chance: against evalica, textbook numbers, counts by hand and brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.stats.krippendorff import krippendorff_alpha
from alignment.stats.reliability import (
    alpha_of,
    cohen_of,
    coincidence_rows,
    coincidences,
    fleiss_of,
    fleiss_rows,
    fleiss_sums,
    over_tasks,
    share_of,
)

# Krippendorff 2011, section C: four observers, twelve units, with gaps; nominal 0.743, ordinal 0.815.
KRIPPENDORFF = [
    [1, 1, None, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [None, 5, 5, 5],
    [None, None, 1, 1],
    [None, None, 3, None],
]


def from_zero(units: list[list[int | None]]) -> list[list[int | None]]:
    return [[None if value is None else value - 1 for value in unit] for unit in units]


def test_alpha_of_krippendorffs_own_example() -> None:
    table = coincidences(from_zero(KRIPPENDORFF), 5)
    assert table.sum() == 40
    assert float(alpha_of(table)) == pytest.approx(0.743, abs=5e-4)
    assert float(alpha_of(table, "ordinal")) == pytest.approx(0.815, abs=5e-4)


units = st.lists(st.lists(st.none() | st.integers(0, 3), min_size=3, max_size=3), min_size=2, max_size=12)


@given(units, st.sampled_from(["nominal", "ordinal"]))
def test_alpha_is_evalicas(values: list[list[int | None]], level: Any) -> None:
    evalica = pytest.importorskip("evalica")
    pandas = pytest.importorskip("pandas")
    pairable = [unit for unit in values if sum(v is not None for v in unit) > 1]
    if len({v for unit in pairable for v in unit if v is not None}) < 2:
        assert np.isnan(alpha_of(coincidences(values, 4), level))
        return
    frame = pandas.DataFrame(np.array(pairable, dtype=float).T)
    theirs = evalica.alpha(frame, distance=level, solver="naive").alpha
    assert float(alpha_of(coincidences(values, 4), level)) == pytest.approx(theirs, abs=1e-9)


@given(units)
def test_the_nominal_alpha_is_the_datasets(values: list[list[int | None]]) -> None:
    counted: dict[tuple[int, ...], int] = {}
    for unit in values:
        key = tuple(unit.count(value) for value in range(4))
        counted[key] = counted.get(key, 0) + 1
    theirs, ours = krippendorff_alpha(counted), float(alpha_of(coincidences(values, 4)))
    assert (theirs is None and np.isnan(ours)) or ours == pytest.approx(theirs)


def test_fleiss_own_example() -> None:
    """The worked example of 14 judges, 10 subjects and 5 classes: kappa 0.210."""
    counts = """0 0 0 0 14  0 2 6 4 2  0 0 3 5 6  0 3 9 2 0  2 2 8 1 1
                7 7 0 0 0  3 2 6 3 0  2 5 3 2 2  6 5 2 1 0  0 2 2 3 7"""
    table = np.array(counts.split(), dtype=float).reshape(10, 5)
    assert float(fleiss_of(fleiss_sums(table))) == pytest.approx(0.20993, abs=1e-5)
    parts = fleiss_sums(table[:4]) + fleiss_sums(table[4:])
    assert float(fleiss_of(parts)) == pytest.approx(0.20993, abs=1e-5)
    alone = np.vstack([table, [1, 0, 0, 0, 0]])  # nobody to agree with
    assert float(fleiss_of(fleiss_sums(alone))) == pytest.approx(0.20993, abs=1e-5)


def test_cohens_kappa_by_hand() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: 0.7 alike, 0.5 by chance, so 0.4."""
    assert float(cohen_of([[20, 5], [10, 15]])) == pytest.approx(0.4)
    assert np.isnan(cohen_of([[7, 0], [0, 0]]))


def test_coefficients_without_anything_to_compare() -> None:
    assert over_tasks(np.zeros((0, 2)), share_of) is None
    assert over_tasks(np.zeros((3, 2)), share_of) is None
    assert over_tasks([coincidences([[1, 1]], 2)], alpha_of) is None


def test_the_interval_is_the_bootstraps() -> None:
    """Against drawing tasks one resample after the other, for a coefficient that is no mean."""
    rng = np.random.default_rng(1)
    tasks = [coincidences([rng.integers(0, 3, 3).tolist() for _ in range(4)], 3) for _ in range(60)]
    tasks += [coincidences([[k, k, k] for k in rng.integers(0, 3, 4)], 3) for _ in range(60)]
    interval = over_tasks(tasks, alpha_of, resamples=4_000)
    assert interval is not None
    table = np.array(tasks)
    draws = [float(alpha_of(table[rng.integers(0, 120, 120)].sum(0))) for _ in range(4_000)]
    assert interval.n == 120
    assert interval.value == pytest.approx(float(alpha_of(table.sum(0))))
    assert [interval.low, interval.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.006)


def test_the_interval_covers() -> None:
    """95% intervals of a share over clustered tasks hold the truth in about 95 of 100 experiments."""
    rng, held = np.random.default_rng(2), 0
    for seed in range(200):
        chance = rng.beta(6, 3, size=80)
        hits = rng.binomial(5, chance)
        interval = over_tasks(np.stack([hits, np.full(80, 5)], 1), share_of, resamples=400, seed=seed)
        assert interval is not None
        held += interval.low <= 6 / 9 <= interval.high
    assert 180 <= held <= 198


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 2), max_size=4)), max_size=10))
def test_rows_by_task_are_the_sums_of_each_task(units_of: list[tuple[int, list[int]]]) -> None:
    counts = np.array([[said.count(c) for c in range(3)] for _, said in units_of]).reshape(-1, 3)
    tasks = [task for task, _ in units_of]
    pairs, sums = coincidence_rows(counts, tasks, 4), fleiss_rows(counts, tasks, 4)
    for task in range(4):
        own = [said for owner, said in units_of if owner == task]
        assert pairs[task] == pytest.approx(coincidences(own, 3))
        mine = counts[[owner == task for owner in tasks]].reshape(-1, 3)
        assert sums[task] == pytest.approx(fleiss_sums(mine))
