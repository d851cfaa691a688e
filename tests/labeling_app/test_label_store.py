"""The database: schema, leases, judgments, drafts, accounts, the audit chain."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from labeling_helpers import PASSWORD, add_people, add_tasks
from sqlalchemy import RowMapping, func, inspect, select, text
from sqlalchemy.exc import DatabaseError

from alignment.errors import UserError
from labeling_app.store import audit, judging, people, queue
from labeling_app.store.database import Store, utcnow
from labeling_app.store.judging import Answer
from labeling_app.store.models import annotators, assignments, audit_log, judgments, metadata, tasks


def key(number: object) -> str:
    return f"submit-key-number-{number}"


def lease(store: Store, person: RowMapping, now=None, minutes: int = 30) -> RowMapping | None:
    with store.write() as tx:
        return queue.lease_task(tx, person["id"], now or utcnow(), timedelta(minutes=minutes))


def submit(
    store: Store, person: RowMapping, task: RowMapping, submit_key: str, answer=None, revision=1, now=None
):
    with store.write() as tx:
        given = answer or Answer([1, 2, 3])
        return judging.submit(tx, person, task["public_id"], submit_key, revision, given, now or utcnow())


def count(store: Store, table, *where) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(table).where(*where))


# ---- schema ----


def test_migrations_go_up_and_down_with_data(any_store: Store) -> None:
    (person,) = add_people(any_store, "anna")
    add_tasks(any_store, 2)
    submit(any_store, person, lease(any_store, person), key(1))
    with any_store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    any_store.downgrade("base")
    with any_store.read() as connection:
        assert inspect(connection).get_table_names() == ["alembic_version"]
    again = Store(any_store.url.render_as_string(hide_password=False), create=True)
    assert count(again, judgments) == 0
    again.close()


def test_sqlite_is_opened_for_durability(store: Store) -> None:
    assert Path(store.url.database).stat().st_mode & 0o777 == 0o600
    with store.write() as tx:
        pragmas = {
            name: tx.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    with pytest.raises(DatabaseError, match="readonly"), store.read() as connection:
        connection.execute(text("DELETE FROM tasks"))


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.write() as tx:
            people.add_annotator(tx, utcnow(), "anna", PASSWORD, "annotator", people.Passwords(), "test")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert count(store, annotators) == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("labels.db", "no database URL"),
        ("sqlite://", "names no file"),
        ("mysql://host/db", "only SQLite and PostgreSQL"),
        ("sqlite:////no/such/folder/labels.db", "does not exist"),
    ],
)
def test_a_bad_url_is_one_sentence(url: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Store(url, create=True)


def test_a_database_that_is_not_there_or_not_ours(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no labeling database"):
        Store(f"sqlite:///{tmp_path}/none.db")
    (tmp_path / "text.db").write_text("this is no database, but long enough to have a header " * 10)
    with pytest.raises(UserError, match="no SQLite database"):
        Store(f"sqlite:///{tmp_path}/text.db", create=True)
    newer = Store(f"sqlite:///{tmp_path}/newer.db", create=True)
    with newer.write() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    newer.close()
    with pytest.raises(UserError, match="newer alignkit"):
        Store(f"sqlite:///{tmp_path}/newer.db", create=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(UserError, match="schema none"):
        Store(f"sqlite:///{tmp_path}/empty.db")


def test_the_audit_log_is_a_chain_that_nobody_alters(any_store: Store) -> None:
    (person,) = add_people(any_store, "anna")
    add_tasks(any_store, 1)
    submit(
        any_store, person, lease(any_store, person), key(1), Answer([1, 1, 2], rationale="a secret reason")
    )
    for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(DatabaseError, match="append-only"), any_store.write() as tx:
            tx.execute(text(statement))
    with any_store.read() as connection:
        assert audit.verify(connection) == 3  # project, import, submit
        rows = connection.execute(select(audit_log)).mappings().all()
    assert "secret reason" not in json.dumps([dict(row) for row in rows])
    if any_store.sqlite:
        with any_store.write() as tx:
            tx.execute(text("DROP TRIGGER audit_log_no_update"))
            tx.execute(text("UPDATE audit_log SET actor = 'x' WHERE id = 2"))
        with any_store.read() as connection, pytest.raises(UserError, match="broken at row 2"):
            audit.verify(connection)


# ---- leases ----


def test_a_person_holds_one_task_in_an_order_drawn_for_them(store: Store) -> None:
    anna, ben = add_people(store, "anna", "ben")
    add_tasks(store, 20, overlap=2, outputs=6)
    first = lease(store, anna)
    assert lease(store, anna)["public_id"] == first["public_id"]
    assert first["presented_order"] == queue.shuffled(6, first["seed"])
    orders = Counter()
    for person in (anna, ben):
        while (task := lease(store, person)) is not None:
            orders[tuple(task["presented_order"])] += 1
            submit(store, person, task, key(task["id"]), Answer([1, 2, 3, 4, 5, 6]))
    assert orders.total() == 40
    assert len(orders) > 30
    assert len({order[0] for order in orders}) > 2


def test_an_expired_lease_goes_to_others_and_comes_back_with_its_draft(store: Store) -> None:
    anna, ben = add_people(store, "anna", "ben")
    add_tasks(store, 1)
    start = utcnow()
    task = lease(store, anna, start)
    with store.write() as tx:
        assert judging.save_draft(tx, anna, task["public_id"], 1, {"ranks": [1, None, None]}, start)
    assert lease(store, ben, start) is None
    with store.read() as connection:
        waiting = queue.progress(connection, ben["id"], start)
    assert (waiting.left, waiting.held, waiting.free_at) == (0, 1, task["leased_until"])
    late = start + timedelta(minutes=31)
    taken = lease(store, ben, late)
    assert taken["task_id"] == task["task_id"]
    assert lease(store, anna, late) is None
    later = late + timedelta(minutes=31)
    again = lease(store, anna, later)
    assert (again["public_id"], again["presented_order"]) == (task["public_id"], task["presented_order"])
    with store.read() as connection:
        assert judging.load_draft(connection, again["id"])["payload"] == {"ranks": [1, None, None]}


def test_work_renews_a_lease_but_not_over_somebody_else(store: Store) -> None:
    anna, ben = add_people(store, "anna", "ben")
    add_tasks(store, 1)
    start = utcnow()
    task = lease(store, anna, start)
    for minutes in (25, 50, 75):
        with store.write() as tx:
            now = start + timedelta(minutes=minutes)
            assert judging.save_draft(tx, anna, task["public_id"], minutes, {}, now)
    away = start + timedelta(minutes=200)
    assert lease(store, ben, away) is not None
    with store.write() as tx:
        assert not queue.renew(tx, queue.own_assignment(tx, anna["id"], task["public_id"]), away)


def test_a_skipped_task_never_comes_back(store: Store) -> None:
    anna, ben = add_people(store, "anna", "ben")
    add_tasks(store, 1)
    task = lease(store, anna)
    for _ in range(2):
        with store.write() as tx:
            queue.skip(tx, anna, task["public_id"], utcnow())
    assert lease(store, anna) is None
    assert lease(store, ben) is not None
    with pytest.raises(queue.Refusal, match="skipped"):
        submit(store, anna, task, key(1))


def test_higher_priority_comes_first_and_inactive_projects_not_at_all(store: Store) -> None:
    (anna,) = add_people(store, "anna")
    add_tasks(store, 3)
    with store.write() as tx:
        tx.execute(text("UPDATE tasks SET priority = 1 WHERE external_id = 'record-2'"))
    with store.read() as connection:
        wanted = connection.scalar(select(tasks.c.id).where(tasks.c.external_id == "record-2"))
    task = lease(store, anna)
    assert task["task_id"] == wanted
    submit(store, anna, task, key(1))
    with store.write() as tx:
        tx.execute(text("UPDATE projects SET active = false"))
    assert lease(store, anna) is None


def test_twenty_people_at_once_never_exceed_the_overlap(any_store: Store) -> None:
    """20 threads, overlap 3: a task never has more than 3 judgments and live leases."""
    crowd = add_people(any_store, *(f"person{n}" for n in range(20)))
    add_tasks(any_store, 12, overlap=3)
    done, excesses, failures = threading.Event(), [], []

    def work(person: RowMapping) -> None:
        dice = random.Random(person["id"])
        while (task := lease(any_store, person)) is not None:
            if dice.random() < 0.15:
                with any_store.write() as tx:
                    queue.skip(tx, person, task["public_id"], utcnow())
                continue
            submit(any_store, person, task, key(f"{person['id']}-{task['id']}"))

    def guarded(person: RowMapping) -> None:
        try:
            work(person)
        except Exception as error:
            failures.append(error)

    def watch() -> None:
        holding = (
            select(assignments.c.task_id)
            .where(assignments.c.state.in_(["leased", "submitted"]))
            .group_by(assignments.c.task_id)
            .having(func.count() > 3)
        )
        while not done.is_set():
            with any_store.read() as connection:
                excesses.extend(connection.scalars(holding))
            done.wait(0.01)

    threads = [threading.Thread(target=guarded, args=(person,)) for person in crowd]
    watcher = threading.Thread(target=watch)
    for thread in [watcher, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    for person in crowd:  # what was skipped after all others had gone home
        guarded(person)
    done.set()
    watcher.join()
    assert failures == []
    assert excesses == []
    with any_store.read() as connection:
        rows = connection.execute(select(tasks.c.n_judgments, tasks.c.status)).all()
        assert rows == [(3, "done")] * 12
        made = connection.execute(
            select(assignments.c.task_id, assignments.c.annotator_id).join(
                judgments, judgments.c.assignment_id == assignments.c.id
            )
        ).all()
        assert len(made) == len(set(made)) == 36
        audit.verify(connection)


def test_one_person_in_many_windows_gets_one_task(any_store: Store) -> None:
    (person,) = add_people(any_store, "anna")
    add_tasks(any_store, 5)
    given = []
    threads = [threading.Thread(target=lambda: given.append(lease(any_store, person))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({task["public_id"] for task in given}) == 1
    assert len(given) == 8


# ---- judgments ----


def test_the_same_submit_key_is_one_judgment(any_store: Store) -> None:
    """Eight threads send the same judgment: one row, one count, and every answer shows that row."""
    (person,) = add_people(any_store, "anna")
    add_tasks(any_store, 2, overlap=2)
    task = lease(any_store, person)
    answers = []

    def send() -> None:
        answers.append(submit(any_store, person, task, key(1)))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer.judgment["id"] for answer in answers}) == 1
    assert sorted(answer.repeated for answer in answers) == [False] + [True] * 7
    assert count(any_store, judgments) == 1
    assert count(any_store, tasks, tasks.c.n_judgments == 1) == 1
    other = lease(any_store, person)
    with pytest.raises(queue.Refusal, match="another task"):
        submit(any_store, person, other, key(1))


def test_a_second_window_does_not_judge_again_but_an_edit_is_a_revision(store: Store) -> None:
    (person,) = add_people(store, "anna")
    add_tasks(store, 1)
    task = lease(store, person)
    submit(store, person, task, key(1))
    with pytest.raises(queue.Refusal, match="judged already"):
        submit(store, person, task, key(2))
    edited = submit(store, person, task, key(3), Answer([3, 2, 1]), revision=2)
    assert edited.judgment["ranks"] == [3, 2, 1]
    assert count(store, judgments) == 2
    assert count(store, tasks, tasks.c.n_judgments == 1) == 1


def test_ranks_are_complete_and_kept_dense(store: Store) -> None:
    (person,) = add_people(store, "anna")
    add_tasks(store, 3)
    task = lease(store, person)
    for wrong in ([1, 2], [1, None, 2], None, [0, 1, 2]):
        with pytest.raises(queue.Refusal) as refused:
            submit(store, person, task, key("wrong"), Answer(wrong))
        assert refused.value.status == 422
    assert submit(store, person, task, key(1), Answer([7, 2, 7])).judgment["ranks"] == [2, 1, 2]
    bad = submit(store, person, lease(store, person), key(2), Answer([None] * 3, all_bad=True)).judgment
    assert (bad["ranks"], bad["both_bad"]) == (None, True)
    part = submit(store, person, lease(store, person), key(3), Answer([None, 4, 9], all_bad=True)).judgment
    assert part["ranks"] == [None, 1, 2]


def test_a_late_judgment_is_kept_and_flagged(store: Store) -> None:
    anna, ben = add_people(store, "anna", "ben")
    add_tasks(store, 1)
    start = utcnow()
    task = lease(store, anna, start)
    late = start + timedelta(hours=2)
    submit(store, ben, lease(store, ben, late), key(1), now=late)
    assert submit(store, anna, task, key(2), now=late).judgment["late"]
    with store.read() as connection:
        assert connection.execute(select(tasks.c.n_judgments, tasks.c.status)).one() == (2, "done")


def test_nobody_judges_or_drafts_anothers_task(store: Store) -> None:
    anna, ben = add_people(store, "anna", "ben")
    add_tasks(store, 2)
    task = lease(store, anna)
    with pytest.raises(queue.Refusal) as refused:
        submit(store, ben, task, key(1))
    assert refused.value.status == 404
    with pytest.raises(queue.Refusal), store.write() as tx:
        judging.save_draft(tx, ben, task["public_id"], 1, {}, utcnow())


def test_only_a_newer_draft_is_taken_and_a_submit_ends_it(store: Store) -> None:
    (person,) = add_people(store, "anna")
    add_tasks(store, 1)
    task = lease(store, person)
    for sequence, ranks in ((3, "new"), (2, "old"), (3, "same")):
        with store.write() as tx:
            judging.save_draft(tx, person, task["public_id"], sequence, {"ranks": ranks}, utcnow())
    with store.read() as connection:
        assert dict(judging.load_draft(connection, task["id"])) == {
            "payload": {"ranks": "new"},
            "client_seq": 3,
        }
    submit(store, person, task, key(1))
    with store.read() as connection:
        assert judging.load_draft(connection, task["id"]) is None
    with pytest.raises(queue.Refusal, match="done"), store.write() as tx:
        judging.save_draft(tx, person, task["public_id"], 9, {}, utcnow())


def test_time_spent_is_no_longer_than_the_lease(store: Store) -> None:
    (person,) = add_people(store, "anna")
    add_tasks(store, 1)
    start = utcnow()
    task = lease(store, person, start)
    answer = Answer([1, 2, 3], seconds=9999.0, guideline_version=77)
    saved = submit(store, person, task, key(1), answer, now=start + timedelta(seconds=20))
    assert saved.judgment["seconds"] == 20.0
    assert saved.judgment["guideline_version"] == 1
