"""What the admin pages ask the database for, on both databases: counts by hand, last words, flags, log."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from labeling_helpers import add_people, make_records
from sqlalchemy import select

from alignment.errors import UserError
from labeling_app import exports, imports
from labeling_app.pages.review import notation, parse_notation
from labeling_app.pages.settings import parse_scales
from labeling_app.store import audit, judging, logbook, outgone, pace, projects, queue, review, roster
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import tasks


def work(store: Store, person: Any, ranks: list[int | None] | None, seconds: float, **more: Any) -> str:
    """One task leased and judged, or flagged and skipped where there are no ranks; its public id."""
    began = utcnow() - timedelta(minutes=20)
    with store.write() as tx:
        assignment = queue.lease_task(tx, person["id"], began)
        assert assignment is not None
        public_id = str(assignment["public_id"])
        if ranks is None:
            judging.give_up(tx, person, public_id, "flag", "Not legible.", utcnow())
        else:
            answer = judging.Answer(ranks=ranks, seconds=seconds, **more)
            judging.submit(tx, person, public_id, f"{public_id}-0123456789", 1, answer, utcnow())
    return public_id


def test_pace_and_hours_by_hand(any_store: Store) -> None:
    """anna: 60 s, which an edit makes 90 s, and 30 s; ben: 120 s and a flag. 3 of 8 judgments."""
    imports.import_records(any_store, make_records(4), overlap=2)
    anna, ben = add_people(any_store, "anna", "ben")
    first = work(any_store, anna, [1, 2, 3], 60.0)
    work(any_store, anna, [1, 2, 3], 30.0)
    work(any_store, ben, [3, 2, 1], 120.0)
    work(any_store, ben, None, 0)
    with any_store.write() as tx:
        edit = judging.Answer(ranks=[2, 1, 3], seconds=90.0)
        judging.submit(tx, anna, first, "another-0123456789", 2, edit, utcnow())
    with any_store.read() as connection:
        workers = {one.login: one for one in pace.workers(connection, 1)}
        days = pace.by_day(connection, 1)
        counts = projects.counts(connection)[0]
        people = {one["login"]: one for one in roster.everybody(connection, utcnow())}
    assert workers["anna"].judgments == 2
    assert workers["anna"].hours == pytest.approx(120 / 3600)
    assert workers["anna"].median_seconds == 60.0
    assert (workers["anna"].skips, workers["anna"].flags) == (0, 0)
    assert (workers["ben"].judgments, workers["ben"].skips, workers["ben"].flags) == (1, 1, 1)
    assert workers["ben"].hours == pytest.approx(120 / 3600)
    assert [count for _, count in days] == [3]
    assert (counts["done"], counts["wanted"], counts["tasks"], counts["tasks_done"]) == (3, 8, 4, 1)
    assert (people["anna"]["judged"], people["ben"]["judged"]) == (2, 1)


def test_days_left() -> None:
    today = date(2026, 5, 20)
    steady = [(today - timedelta(days=back), 10) for back in range(20, -1, -1)]
    assert pace.days_left(steady, 70, today) == pytest.approx(7.0)
    assert pace.days_left([(today, 10)], 20, today) == pytest.approx(2.0)
    assert pace.days_left([(today - timedelta(days=30), 10)], 20, today) is None
    assert pace.days_left([], 20, today) is None


def test_the_last_word_and_flags(any_store: Store) -> None:
    imports.import_records(any_store, make_records(3), overlap=2)
    anna, ben = add_people(any_store, "anna", "ben")
    work(any_store, anna, [1, 2, 3], 5.0)
    work(any_store, ben, [3, 2, 1], 5.0)
    work(any_store, ben, None, 0)
    with any_store.read() as connection:
        numbers = list(connection.scalars(select(tasks.c.id).order_by(tasks.c.id)))
        case = review.case(connection, 1, numbers[0])
        assert review.case(connection, 2, numbers[0]) is None
        flag = review.open_flags(connection, 1)[0]
    assert case is not None
    assert [one.ranks for one in case.opinions] == [[1, 2, 3], [3, 2, 1]]
    assert (flag["reason"], flag["login"], flag["task_id"]) == ("Not legible.", "ben", numbers[1])
    with any_store.write() as tx:
        assert review.adjudicate(tx, utcnow(), anna, 1, numbers[0], [2, 2, 5], " So. ") == 1
        assert review.adjudicate(tx, utcnow(), anna, 1, numbers[0], None, None) == 2
        with pytest.raises(UserError, match="not there"):
            review.adjudicate(tx, utcnow(), anna, 2, numbers[0], [1, 2, 3], None)
        assert review.resolve(tx, utcnow(), anna, 2, [flag["id"]], withdraw=True) == 0
        assert review.resolve(tx, utcnow(), anna, 1, [flag["id"]], withdraw=True) == 1
        assert review.resolve(tx, utcnow(), anna, 1, [flag["id"]], withdraw=True) == 0
    with any_store.read() as connection:
        assert review.decided(connection, 1) == {numbers[0]}
        case = review.case(connection, 1, numbers[0])
        assert case is not None
        assert case.last is not None
        assert (case.last["revision"], case.last["ranks"], case.last["both_bad"]) == (2, None, True)
        assert review.open_flags(connection, 1) == []
        state = connection.scalar(select(tasks.c.status).where(tasks.c.id == numbers[1]))
        actions = [row["action"] for row in logbook.entries(connection, actor="ann-anna", limit=4)]
        audit.verify(connection)
    assert state == "withdrawn"
    assert actions == ["task withdraw", "flag resolve", "adjudicate", "adjudicate"]


def test_the_log_is_filtered_and_paged(any_store: Store) -> None:
    imports.import_records(any_store, make_records(2))
    anna = add_people(any_store, "anna")[0]
    work(any_store, anna, [1, 2, 3], 5.0)
    with any_store.read() as connection:
        every = [row["id"] for row in logbook.entries(connection)]
        assert every == sorted(every, reverse=True)
        older = logbook.entries(connection, below=every[0], limit=1)
        assert [row["id"] for row in older] == every[1:2]
        assert {row["action"] for row in logbook.entries(connection, entity="project/1")} == {
            "project add",
            "import",
        }
        assert [row["login"] for row in logbook.entries(connection, action="submit")] == ["anna"]
        assert logbook.entries(connection, entity="%") == []
        assert ("anna (ann-anna)", "ann-anna") in logbook.actors(connection)
        assert "submit" in logbook.actions(connection)


def test_exports_are_listed(store: Store, tmp_path: Any) -> None:
    imports.import_records(store, make_records(2))
    anna = add_people(store, "anna")[0]
    work(store, anna, [1, 2, 3], 5.0)
    exports.export_records(store, tmp_path / "out.jsonl", actor="ann-anna")
    with store.read() as connection:
        assert outgone.judged(connection, 1) == (1, 1)
        made = outgone.made(connection, 1)
    assert [(one["name"], one["rows"], one["who"]) for one in made] == [("out.jsonl", 1, "anna")]


def test_orders_as_letters() -> None:
    order = [2, 0, 1]  # A is ordinal 2, B is 0, C is 1
    assert notation([1, 3, 1], order) == "A = B > C"
    assert parse_notation("b>a=c", order) == [1, 2, 2]
    assert parse_notation(notation([2, 3, 1], order), order) == [2, 3, 1]
    for wrong in ("A > B", "A > B > B", "A > B > C > D", "", "A B C"):
        with pytest.raises(UserError, match="every output once"):
            parse_notation(wrong, order)


def test_scales_as_lines() -> None:
    assert parse_scales("truth\n\nstyle | 0-10 | dull | sharp | How is it written?")[1]["high"] == 10
    with pytest.raises(UserError, match=r'line 2: "many" is no range'):
        parse_scales("truth\nstyle | many")
