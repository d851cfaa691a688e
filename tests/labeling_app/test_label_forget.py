"""Forgetting: the words are gone from every table and the file, the chain holds, exports are named."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from labeling_helpers import add_people, add_tasks, make_records
from sqlalchemy import func, select, update

from alignment.data.files import fingerprint, read_records
from alignment.errors import UserError
from labeling_app import exports, imports
from labeling_app.store import audit, forget, judging, outbox, people, queue
from labeling_app.store.database import Store, utcnow
from labeling_app.store.judging import Answer
from labeling_app.store.models import (
    adjudications,
    annotators,
    assignments,
    judgments,
    metadata,
    projects,
    tasks,
)
from labeling_app.store.refusal import Refusal

WORDS = ("my-reason", "my-rewrite", "my-flag", "my-draft", "my-last-word")


def talk(store: Store, *logins: str) -> list[Any]:
    """Everybody judges a task with every text that there can be, skips one and leaves a draft."""
    found = add_people(store, *logins)
    add_tasks(store, 4, overlap=len(found))
    with store.write() as tx:
        tx.execute(update(projects).values(form={"rewrite": True, "rationale": "optional"}))
        outbox.add_webhook(tx, utcnow(), "default", "http://127.0.0.1:9/")
    for person in found:
        name, now = person["login"], utcnow()
        with store.write() as tx:
            task = queue.lease_task(tx, person["id"], now)
            assert task is not None
            rewrite = {"from": 0, "text": f"my-rewrite-{name}"}
            answer = Answer(
                [1, 2, 3], rationale=f"my-reason-{name}", edited_text=rewrite, flag=f"my-flag-{name}"
            )
            judging.submit(tx, person, task["public_id"], f"submit-key-{name}-1", 1, answer, now)
            skipped = queue.lease_task(tx, person["id"], now)
            assert skipped is not None
            judging.give_up(tx, person, skipped["public_id"], "flag", f"my-flag-{name}", now)
            held = queue.lease_task(tx, person["id"], now)
            assert held is not None
            judging.save_draft(tx, person, held["public_id"], 1, {"text": f"my-draft-{name}"}, now)
            last = {"rationale": f"my-last-word-{name}", "ranks": [1, 2, 3], "created_at": now}
            row = {"task_id": 1, "reviewer_id": person["id"], "revision": person["id"], **last}
            tx.execute(adjudications.insert().values(**row))
    return found


def everything(store: Store) -> str:
    with store.read() as connection:
        return str([connection.execute(select(table)).all() for table in metadata.sorted_tables])


def test_a_person_is_forgotten(any_store: Store, tmp_path: Path) -> None:
    anna, _ = talk(any_store, "anna", "ben")
    with any_store.write() as tx:
        people.count_attempt(tx, utcnow(), "anna", "10.0.0.1")
        people.start_session(tx, utcnow(), anna["id"])
        tx.execute(update(annotators).where(annotators.c.login == "anna").values(oidc_subject="subject-9"))
    exports.export_records(any_store, tmp_path / "first.jsonl")
    assert all(f"{word}-anna" in everything(any_store) for word in WORDS)
    with any_store.write() as tx:
        done = forget.forget_person(tx, utcnow(), "Anna")
    left = everything(any_store)
    assert [word for word in ("subject-9", "10.0.0.1") if word in left] == []
    assert [word for word in WORDS if f"{word}-anna" in left] == []
    assert [word for word in WORDS if f"{word}-ben" not in left] == []
    assert done.removed == {"rationales": 2, "rewrites": 1, "reasons": 2, "drafts": 1}
    assert [(one["name"], one["fingerprint"]) for one in done.exports] == [
        ("first.jsonl", fingerprint(tmp_path / "first.jsonl"))
    ]
    with any_store.read() as connection:
        audit.verify(connection)
        row = connection.execute(select(annotators).where(annotators.c.id == anna["id"])).mappings().one()
        assert (row["login"], row["active"], row["password_hash"]) == ("forgotten-ann-anna", False, None)
        assert people.find_login(connection, "anna") is None
        states = connection.scalars(
            select(assignments.c.state).where(assignments.c.annotator_id == anna["id"])
        ).all()
        assert "leased" not in states
    # What was judged stays, under the name that leads to nobody.
    exports.export_records(any_store, tmp_path / "second.jsonl")
    (record,) = read_records(tmp_path / "second.jsonl")
    said = {judgment.by: judgment for judgment in record.judgments if "adjudicated" not in judgment.meta}
    assert (said["ann-anna"].ranks[:3], said["ann-anna"].rationale) == ([1, 2, 3], None)
    assert said["ann-ben"].rationale == "my-reason-ben"
    assert [c.content for c in record.completions[3:]] == ["my-rewrite-ben"]
    with any_store.write() as tx, pytest.raises(UserError, match="no account"):
        forget.forget_person(tx, utcnow(), "anna")


def test_a_task_is_forgotten(any_store: Store, tmp_path: Path) -> None:
    talk(any_store, "anna", "ben")
    exports.export_records(any_store, tmp_path / "first.jsonl")
    with any_store.read() as connection:
        (found,) = forget.projects_with_task(connection, "record-0")
    with any_store.write() as tx:
        done = forget.forget_task(tx, utcnow(), found["id"], "record-0")
    left = everything(any_store)
    assert [
        word for word in ("Question 0", "Answer 0.", "my-reason", "my-rewrite", "my-last") if word in left
    ] == []
    assert "Question 1" in left
    assert done.removed["outputs"] == 3
    assert [one["name"] for one in done.exports] == ["first.jsonl"]
    with any_store.read() as connection:
        audit.verify(connection)
        assert connection.scalar(select(tasks.c.status).where(tasks.c.id == 1)) == "withdrawn"
    with pytest.raises(UserError, match="no judgments yet"):
        exports.export_records(any_store, tmp_path / "second.jsonl")
    again = imports.import_records(any_store, make_records(4))
    assert (again.present, again.left_out) == (3, {"texts that were forgotten here": 1})
    with any_store.write() as tx:
        for number, words in (("record-0", "already"), ("record-99", "no task")):
            with pytest.raises(UserError, match=words):
                forget.forget_task(tx, utcnow(), found["id"], number)


def test_an_open_page_cannot_bring_a_forgotten_text_back(store: Store) -> None:
    (anna,) = add_people(store, "anna")
    add_tasks(store, 2)
    with store.write() as tx:
        task = queue.lease_task(tx, anna["id"], utcnow())
        assert task is not None
        forget.forget_task(tx, utcnow(), 1, "record-0")
    public, now = task["public_id"], utcnow() + timedelta(seconds=1)
    for attempt in (
        lambda tx: judging.save_draft(tx, anna, public, 9, {"text": "Question 0"}, now),
        lambda tx: judging.submit(tx, anna, public, "k" * 16, 1, Answer([1, 2, 3], rationale="x"), now),
        lambda tx: judging.give_up(tx, anna, public, "flag", "Question 0 is bad", now),
    ):
        with store.write() as tx, pytest.raises(Refusal, match="were removed") as refused:
            attempt(tx)
        assert refused.value.status == 409
    with store.write() as tx:
        following = queue.lease_task(tx, anna["id"], now)
        assert following is not None
        assert following["task_id"] == 2
    assert "Question 0" not in everything(store)


def test_the_words_are_gone_from_the_file_too(store: Store) -> None:
    talk(store, "anna")
    folder = Path(store.url.database or "").parent
    held = lambda: [path.name for path in folder.glob("labels.db*") if b"my-reason-anna" in path.read_bytes()]  # noqa: E731
    assert held()
    with store.write() as tx:
        forget.forget_person(tx, utcnow(), "anna")
        forget.forget_task(tx, utcnow(), 1, "record-0")
    assert store.compact()
    assert held() == []
    with store.read() as connection:
        audit.verify(connection)
        assert connection.scalar(select(judgments.c.rationale)) is None


def test_compacting_works_on_either_database(any_store: Store) -> None:
    add_tasks(any_store, 1)
    assert any_store.compact()
    add_tasks(any_store, 2)


def test_the_last_admin_is_not_forgotten(store: Store) -> None:
    add_people(store, "anna")
    with store.write() as tx:
        tx.execute(update(annotators).values(role="admin"))
    with store.write() as tx, pytest.raises(UserError, match="last active admin"):
        forget.forget_person(tx, utcnow(), "anna")


def test_forgetting_while_people_work(any_store: Store) -> None:
    """Nobody waits for anybody for ever, and a forgotten text stays away whatever was on its way."""
    found = add_people(any_store, *(f"worker-{number}" for number in range(6)))
    add_tasks(any_store, 12, overlap=6)

    def work(person: Any) -> int:
        done = 0
        while True:
            with any_store.write() as tx:
                task = queue.lease_task(tx, person["id"], utcnow())
            if task is None:
                return done
            answer = Answer([1, 2, 3], rationale=f"about {task['task_id']} by {person['login']}")
            with (
                contextlib.suppress(Refusal),
                any_store.write() as tx,
            ):  # it was forgotten while it was judged
                judging.submit(tx, person, task["public_id"], uuid4().hex, 1, answer, utcnow())
                done += 1

    with ThreadPoolExecutor(6) as pool:
        workers = [pool.submit(work, person) for person in found]
        for number in range(12):
            with any_store.write() as tx:
                forget.forget_task(tx, utcnow(), 1, f"record-{number}")
        judged = sum(worker.result(timeout=60) for worker in workers)
    with any_store.write() as tx:
        forget.forget_person(tx, utcnow(), "worker-0")
    left = everything(any_store)
    assert ("about " in left, "Question" in left) == (False, False)
    with any_store.read() as connection:
        audit.verify(connection)
        assert connection.scalar(select(func.count()).select_from(judgments)) == judged
