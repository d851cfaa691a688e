"""Before the first task: consent, warning, practice, gold."""

from __future__ import annotations

from collections import Counter
from typing import Any

from labeling_helpers import add_people, add_tasks, make_records
from sqlalchemy import select, text, update

from alignment.data.records import Judgment
from labeling_app import imports
from labeling_app.store import audit, enrolment, gold, judging, queue
from labeling_app.store.database import Store, utcnow
from labeling_app.store.judging import Answer
from labeling_app.store.models import assignments, projects, tasks


def add_known(store: Store, count: int, start: int, *, practice: bool) -> None:
    records = make_records(count, start=start)
    for record in records:
        record.judgments = [Judgment(ranks=[1, 2, 3], rationale="Because.")]
    imports.import_records(store, records)
    with store.write() as tx:
        gold.mark(tx, utcnow(), "test", 1, records, practice=practice)


def settle(store: Store, **values: Any) -> None:
    with store.write() as tx:
        tx.execute(update(projects).values(**values))


def next_work(store: Store, person: Any) -> queue.Work:
    with store.write() as tx:
        return queue.next_work(tx, person["id"], utcnow())


def judge(store: Store, person: Any, assignment: Any, ranks: list[int]) -> dict[str, Any] | None:
    with store.write() as tx:
        now, key = utcnow(), f"submit-key-{assignment['id']}-{assignment['seed']}"
        saved = judging.submit(tx, person, assignment["public_id"], key, 1, Answer(ranks), now)
        return gold.feedback(tx, assignment, saved.judgment, saved.repeated, now)


def test_a_score_is_the_share_of_pairs() -> None:
    known = {"ranks": [1, 2, 2]}
    assert gold.score(known, [1, 2, 2]) == gold.Score(3, 3)
    assert gold.score(known, [1, 2, 3]) == gold.Score(2, 3)
    assert gold.score(known, [2, 1, 1]) == gold.Score(1, 3)
    assert gold.score(known, None, all_bad=True) == gold.Score(0, 3)
    assert gold.score({"all_bad": True}, None, all_bad=True).exact
    assert gold.score({"ratings": {"x": [5, 1]}}, None, ratings={"x": [4, 3]}) == gold.Score(1, 2)


def test_consent_warning_practice_then_work(any_store: Store) -> None:
    (person,) = add_people(any_store, "anna")
    add_tasks(any_store, 2)
    add_known(any_store, 2, 10, practice=True)
    settle(any_store, consent="Agree?", warning="Rude.", practice_tasks=2, practice_needed=0.8)
    for step, words in (("consent", "Agree?"), ("warning", "Rude.")):
        assert next_work(any_store, person).gate.kind == step
        with any_store.write() as tx:
            enrolment.agree(tx, utcnow(), person, "default", step, enrolment.text_version(words))
    for answer, result in (([3, 2, 1], "failed"), ([1, 2, 3], "passed")):
        assert next_work(any_store, person).gate.kind == "practice"
        with any_store.write() as tx:
            place = enrolment.begin(tx, utcnow(), person, "default")
            queue.begin_practice(tx, person["id"], place, utcnow())
        for number in (1, 2):
            told = judge(any_store, person, next_work(any_store, person).assignment, answer)
            assert told["practice"] == {"number": number, "of": 2}
            assert told["right"] is (result == "passed")
        assert next_work(any_store, person).gate.kind == result
        if result == "failed":
            with any_store.write() as tx:
                enrolment.try_again(tx, utcnow(), "test", person["id"], 1)
    with any_store.write() as tx:
        enrolment.begin(tx, utcnow(), person, "default")
    work = next_work(any_store, person)
    with any_store.read() as connection:
        row = connection.execute(select(tasks).where(tasks.c.id == work.assignment["task_id"])).one()
        assert not row.is_practice
        assert queue.progress(connection, person["id"], utcnow()).done == 0
        audit.verify(connection)


def test_a_declined_project_is_not_asked_again(any_store: Store) -> None:
    (person,) = add_people(any_store, "anna")
    add_tasks(any_store, 1)
    settle(any_store, warning="Rude.")
    assert next_work(any_store, person).gate.kind == "warning"
    with any_store.write() as tx:
        enrolment.decline(tx, utcnow(), person, "default")
    assert next_work(any_store, person) == queue.Work()


def test_gold_comes_once_at_its_rate_and_closes_no_task(any_store: Store) -> None:
    (person,) = add_people(any_store, "anna")
    add_tasks(any_store, 30)
    add_known(any_store, 20, 100, practice=False)
    settle(any_store, gold_rate=0.4)
    given: Counter[bool] = Counter()
    while (work := next_work(any_store, person)).assignment is not None:
        row = work.assignment
        with any_store.read() as connection:
            is_gold = connection.scalar(select(tasks.c.is_gold).where(tasks.c.id == row["task_id"]))
        drawn = queue.drawn_gold([1], 0.4, row["seed"]) is not None
        assert drawn == is_gold or given[True] == 20
        given[is_gold] += 1
        assert judge(any_store, person, row, [1, 2, 3]) is None  # silent
    assert given[False] == 30
    assert 0 < given[True] <= 20
    with any_store.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM tasks WHERE is_gold AND status <> 'open'")) == 0
        (one,) = gold.accuracy(connection, 1)
        assert (one.exact.value, one.exact.n) == (1.0, given[True])
        pairs = connection.execute(select(assignments.c.task_id, assignments.c.annotator_id)).all()
        assert len(pairs) == len(set(pairs))


def test_a_project_whose_tasks_are_all_taken_is_not_among_those_with_work(any_store: Store) -> None:
    ann, bob = add_people(any_store, "ann", "bob")
    for name in ("taken", "open", "also open"):
        imports.import_records(any_store, make_records(1), project=name)
    settle(any_store, active=True)
    with any_store.write() as tx:
        taken = tx.scalar(select(projects.c.name).order_by(projects.c.id))
        queue.change_project(tx, utcnow(), ann, str(taken))
    assert next_work(any_store, ann).assignment is not None
    with any_store.read() as connection:
        found = queue.projects_with_work(connection, bob["id"], utcnow())
    assert sorted(place.name for place, _ in found) == ["also open", "open"]
    gate = next_work(any_store, bob).gate
    assert gate is not None
    assert gate.kind == "choose"
