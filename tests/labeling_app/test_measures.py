"""Agreement, quality and bias: by hand, by other libraries, and PandaLM's three annotators on the page."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labeling_helpers import add_people, make_records
from sqlalchemy import select, update

from alignment.data.records import Judgment
from labeling_app import imports, measures
from labeling_app.comparisons import FIRST, SECOND, TIE, comparisons
from labeling_app.store import judging, queue, verdicts
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import assignments, tasks
from labeling_app.store.verdicts import Panel, Said


def panel_of(*said: Said, lengths: dict[int, list[int | None]] | None = None) -> Panel:
    return Panel(list(said), {}, lengths or {})


def crowd(seed: int, judges: int = 3, count: int = 25, k: int = 3) -> Panel:
    """Judges of different skill, with ties, on the same tasks; some judgments are missing."""
    dice = random.Random(seed)
    said = []
    for task in range(count):
        truth = [dice.gauss(0, 1) for _ in range(k)]
        for judge in range(judges):
            if dice.random() < 0.85:
                seen = [round(value + dice.gauss(0, 0.3 + 0.5 * judge), 0) for value in truth]
                levels = sorted(set(seen), reverse=True)
                said.append(Said(task, f"j{judge}", [levels.index(value) + 1 for value in seen]))
    return panel_of(*said)


def units_of(panel: Panel) -> dict[tuple[int, int, int], dict[str, int]]:
    """The verdict of each judge on each pair of outputs, by loops."""
    units: dict[tuple[int, int, int], dict[str, int]] = {}
    for one in panel.said:
        for i, j in combinations(range(len(one.ranks or ())), 2):
            a, b = one.ranks[i], one.ranks[j]
            units.setdefault((one.task, i, j), {})[one.judge] = FIRST if a < b else SECOND if a > b else TIE
    return units


def test_two_tasks_by_hand() -> None:
    """On task 1 three judges agree in 1 of 3 pairs of judges on each pair of outputs, on task 2 in all."""
    panel = panel_of(
        Said(1, "a", [1, 2]),
        Said(1, "b", [1, 2]),
        Said(1, "c", [1, 1]),
        Said(2, "a", [2, 1]),
        Said(2, "b", [2, 1]),
    )
    found = measures.agreement(panel, comparisons(panel))
    assert found.tasks == 2
    assert found.comparisons == 4
    assert found.pairwise is not None
    assert found.pairwise.value == 2 / 4
    assert found.decided is not None
    assert found.decided.value == 2 / 2  # a and b; c said tie
    assert {name: one.value for name, one in found.others.items()} == {"a": 2 / 3, "b": 2 / 3, "c": 0.0}
    # Fleiss: of the first unit 1/3 of the pairs agree, of the second all; the shares of the classes are
    # (1/3, 1/2, 1/6), whose squares sum to 7/18.
    assert found.fleiss is not None
    assert found.fleiss.value == pytest.approx((2 / 3 - 7 / 18) / (1 - 7 / 18))
    # Krippendorff: o(1,1) = 1, o(1,t) = o(t,1) = 1, o(2,2) = 2; of 5 values 2 first, 2 second, 1 tie.
    assert found.alpha is not None
    assert found.alpha.value == pytest.approx(1 - 4 * 2 / (25 - 4 - 4 - 1))
    pair = found.pairs[0]
    assert (pair.first, pair.second, pair.same.value, pair.comparisons) == ("a", "b", 1.0, 2)
    assert measures.disputes(comparisons(panel)) == [(1, 2 / 3, 3)]


@pytest.mark.parametrize("seed", range(3))
def test_coefficients_are_those_of_other_libraries(seed: int) -> None:
    evalica, pandas = pytest.importorskip("evalica"), pytest.importorskip("pandas")
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    panel = crowd(seed)
    found = measures.agreement(panel, comparisons(panel))
    units = [unit for unit in units_of(panel).values() if len(unit) > 1]
    names = sorted({name for unit in units for name in unit})
    frame = pandas.DataFrame([[unit.get(name, np.nan) for unit in units] for name in names])
    assert found.alpha is not None
    assert found.alpha.value == pytest.approx(evalica.alpha(frame, distance="nominal").alpha)
    ranks: dict[tuple[int, int], dict[str, Any]] = {}
    for one in panel.said:
        for at, rank in enumerate(one.ranks or ()):
            ranks.setdefault((one.task, at), {})[one.judge] = rank
    rated = [unit for unit in ranks.values() if len(unit) > 1]
    frame = pandas.DataFrame([[float(unit.get(name, np.nan)) for unit in rated] for name in names])
    assert found.alpha_ranks is not None
    assert found.alpha_ranks.value == pytest.approx(evalica.alpha(frame, distance="ordinal").alpha)
    for pair in found.pairs:
        both = [
            (unit[pair.first], unit[pair.second])
            for unit in units
            if {pair.first, pair.second} <= unit.keys()
        ]
        table = np.zeros((3, 3))
        for a, b in both:
            table[a, b] += 1
        assert pair.kappa is not None
        assert pair.kappa.value == pytest.approx(inter_rater.cohens_kappa(table).kappa)
        assert pair.same.value == pytest.approx(sum(a == b for a, b in both) / len(both))
    whole = [unit for unit in units if len(unit) == 3]
    everybody = {task for task, _, _ in (key for key, unit in units_of(panel).items() if len(unit) == 3)}
    full = panel_of(*(one for one in panel.said if one.task in everybody))
    table = [[list(unit.values()).count(c) for c in range(3)] for unit in whole]
    of_full = measures.agreement(full, comparisons(full))
    assert of_full.fleiss is not None
    assert of_full.fleiss.value == pytest.approx(inter_rater.fleiss_kappa(table))


def test_a_careless_judge_comes_last() -> None:
    """j0 to j3 get noisier; the models and the agreement with others order them so."""
    panel = crowd(7, judges=4, count=150)
    found = comparisons(panel)
    rows = measures.quality(found)
    assert [row.name for row in rows] == ["j0", "j1", "j2", "j3"]
    assert rows[0].trust > rows[-1].trust
    assert rows[0].judgments == sum(one.judge == "j0" for one in panel.said)
    assert measures.with_others(found)["j0"].value > measures.with_others(found)["j3"].value


def test_position_and_length_by_hand() -> None:
    """One judge takes the higher one three times of four, the longer one in all that differ in length."""
    panel = panel_of(
        Said(1, "a", [1, 2], presented=[0, 1]),
        Said(2, "a", [2, 1], presented=[1, 0]),
        Said(3, "a", [2, 1], presented=[1, 0]),
        Said(4, "a", [2, 1], presented=[0, 1]),
        Said(5, "a", [1, 1], presented=[0, 1]),
        lengths={1: [9, 3], 2: [3, 9], 3: [5, 5], 4: [3, None], 5: [3, 9]},
    )
    overall, mine = measures.leanings(comparisons(panel))
    assert (overall.name, mine.name) == (None, "a")
    for one in (overall, mine):
        assert one.earlier is not None
        assert (one.earlier.value, one.earlier.n) == (3 / 4, 4)
        assert one.longer is not None
        assert (one.longer.value, one.longer.n) == (1.0, 2)
        assert one.ties is not None
        assert one.ties.value == 1 / 5
    k, places = measures.first_places(panel)
    assert k == 2
    assert [place.value for place in places] == pytest.approx([3.5 / 5, 1.5 / 5])


def test_all_bad_is_a_tie_and_comparisons_without_ranks_count() -> None:
    panel = panel_of(
        Said(1, "a", None, all_bad=True, presented=[1, 0]),
        Said(1, "b", [2, 2]),
        Said(1, "c", None, compared=[(1, 0, FIRST)]),
    )
    found = comparisons(panel)
    assert sorted(zip(found.judge.tolist(), found.said.tolist(), strict=True)) == [
        (0, TIE),
        (1, TIE),
        (2, SECOND),
    ]


def judge_all(store: Store, login: str, ranks: list[int | None]) -> None:
    with store.read() as connection:
        person = connection.execute(select_person(login)).mappings().one()
    while True:
        with store.write() as tx:
            assignment = queue.lease_task(tx, person["id"], utcnow())
            if assignment is None:
                return
            answer = judging.Answer(ranks=ranks, seconds=30.0)
            key = f"{login}{assignment['id']:04}-0123456789"
            judging.submit(tx, person, assignment["public_id"], key, 1, answer, utcnow())


def select_person(login: str) -> Any:
    from labeling_app.store.models import annotators

    return select(annotators).where(annotators.c.login == login)


def test_what_is_counted(any_store: Store) -> None:
    """The newest revision, of the queue's tasks alone, and what records came with, each judge once."""
    records = make_records(4, outputs=2)
    records[0].judgments = [Judgment(by="peer", ranks=[1, 2]), Judgment(by="ann-anna", ranks=[2, 1])]
    imports.import_records(any_store, records)
    anna, _ = add_people(any_store, "anna", "ben")
    judge_all(any_store, "anna", [1, 2])
    judge_all(any_store, "ben", [1, 2])
    with any_store.write() as tx:
        first = tx.execute(select(assignments).order_by(assignments.c.id).limit(1)).mappings().one()
        edit = judging.Answer(ranks=[1, 1], seconds=60.0)
        judging.submit(tx, anna, first["public_id"], "an-edit-0123456789", 2, edit, utcnow())
        gold = select(tasks.c.id).order_by(tasks.c.id.desc()).limit(1).scalar_subquery()
        tx.execute(update(tasks).where(tasks.c.id == gold).values(is_gold=True))
    with any_store.read() as connection:
        panel = verdicts.panel(connection, 1, lengths=True)
    said = {(one.task, one.judge): one.ranks for one in panel.said}
    numbers = sorted(panel.lengths)
    assert len(numbers) == 3
    assert said == {
        (numbers[0], "peer"): [1, 2],
        (numbers[0], "ann-anna"): [1, 1],
        (numbers[1], "ann-anna"): [1, 2],
        (numbers[2], "ann-anna"): [1, 2],
    }
    assert panel.names["ann-anna"] == "anna"
    assert panel.lengths[numbers[0]] == [len("Answer 0.0")] * 2


def test_pandalms_three_annotators_agree_in_92_percent(store: Store, caller: Any, shared_data: Path) -> None:
    """999 comparisons, each by three people: the share of their pairs that say the same, on the page."""
    path = shared_data / "human" / "pandalm_testset-v1.json"
    imports.import_records(store, imports.read_any(path), "pandalm")
    text = caller("reviewer").page("agreement")
    assert "<dt>Pairwise agreement</dt><dd>92.0%" in text
    for name in ("annotator1 · annotator2", "annotator1 · annotator3", "annotator2 · annotator3"):
        assert name in text


def test_a_project_without_a_judgment_has_no_figures() -> None:
    nobody = panel_of()
    found = measures.agreement(nobody, comparisons(nobody))
    assert (found.comparisons, found.pairwise, found.others) == (0, None, {})
