"""The databases of benchmarks/labeling.py: how they are filled, and what must be true of them afterwards."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select

from alignment.data.records import Completion, Message, Record, Source
from labeling_app import imports
from labeling_app.store import audit, people, queue
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import annotators, assignments, audit_log, judgments, tasks
from labeling_app.store.openings import live

PASSWORD = "correct horse battery"
OVERLAP = 3
SENTENCES = (
    "The answer depends on *how much* time you have.",
    "First, read the error message: it names the file and the line.",
    "- Keep a copy of the original\n- Change one thing at a time\n- Measure again",
    "```python\ndef mean(values):\n    return sum(values) / len(values)\n```",
    "| step | cost |\n| --- | --- |\n| read | 1 |\n| write | 2 |",
    "By symmetry, $\\int_{-a}^{a} x^3\\,dx = 0$, so only the even part is left.",
    "I would not do that; here is why, and what I would do instead.",
    "In short: **yes**, but only if both conditions hold at once.",
    "Nobody knows for sure. Two studies disagree, and neither is large.",
)


def records(count: int, outputs: int, sentences: int, seed: int = 0) -> Iterator[Record]:
    """Prompts with `outputs` answers of about `sentences` sentences: Markdown, code, tables and formulas."""
    dice = random.Random(seed)
    for number in range(count):
        answers = [
            "\n\n".join(dice.choices(SENTENCES, k=dice.randint(1, 2 * sentences - 1))) for _ in range(outputs)
        ]
        yield Record(
            id=f"task-{number}",
            prompt=[Message("user", f"Question {number}: {dice.choice(SENTENCES)} What do you say?")],
            completions=[
                Completion(content=f"Answer {number}.{i}\n\n{text}", source=Source("model", f"model-{i}"))
                for i, text in enumerate(answers)
            ],
        )


def fill(store: Store, n_people: int, n_tasks: int, *, outputs: int = 4, sentences: int = 5) -> None:
    """`n_people` accounts person0, person1 … with PASSWORD, and tasks for OVERLAP judgments each."""
    hashed = people.Passwords().hash(PASSWORD)
    with store.write() as tx:
        row = {"password_hash": hashed, "role": "annotator", "active": True, "created_at": utcnow()}
        rows = [{"public_id": f"ann-{n}", "login": f"person{n}", **row} for n in range(n_people)]
        tx.execute(insert(annotators), rows)
    imports.import_records(store, records(n_tasks, outputs, sentences), overlap=OVERLAP)


def sign_in(store: Store) -> list[str]:
    """A session for everybody; the tokens."""
    with store.write() as tx:
        found = tx.scalars(select(annotators.c.id).order_by(annotators.c.id)).all()
        return [people.start_session(tx, utcnow(), person) for person in found]


def add_judgments(store: Store, count: int, outputs: int) -> None:
    """`count` judgments as of the last week: the tasks in order, each by OVERLAP people and then done."""
    with store.read() as connection:
        who = connection.execute(select(annotators.c.id, annotators.c.public_id)).all()
        last = connection.scalar(select(func.max(tasks.c.id))) or 0
        first = connection.scalar(select(func.min(tasks.c.id))) or 0
        number = connection.scalar(select(func.max(assignments.c.id))) or 0
        previous = connection.scalar(select(audit_log.c.hash).order_by(audit_log.c.id.desc()).limit(1))
    assert first + count // OVERLAP <= last
    dice, begin = random.Random(1), utcnow() - timedelta(days=7)
    for start in range(0, count, 20_000):
        given, judged, logged = [], [], []
        for index in range(start, min(start + 20_000, count)):
            number += 1
            person, at = who[index % len(who)], begin + timedelta(seconds=index)
            ranks = [dice.randint(1, outputs) for _ in range(outputs)]
            row = {"revision": 1, "ranks": ranks, "both_bad": False, "seconds": 20.0, "guideline_version": 1}
            given.append(_assignment(number, first + index // OVERLAP, person.id, outputs, at))
            judged.append(
                {
                    "assignment_id": number,
                    "submit_key": f"made-{number}",
                    **row,
                    "late": False,
                    "created_at": at,
                }
            )
            logged.append(audit.row_after(previous, at, person.public_id, "submit", f"assignment/{number}"))
            previous = logged[-1]["hash"]
        with store.write() as tx:
            tx.execute(insert(assignments), given)
            tx.execute(insert(judgments), judged)
            tx.execute(insert(audit_log), logged)
    done = tasks.c.id.between(first, first + count // OVERLAP - 1)
    with store.write() as tx:
        tx.execute(tasks.update().where(done).values(n_judgments=OVERLAP, status="done", version=OVERLAP))


def _assignment(number: int, task: int, person: int, outputs: int, at: datetime) -> dict[str, Any]:
    return {
        "id": number,
        "public_id": f"made-{number}",
        "task_id": task,
        "annotator_id": person,
        "state": "submitted",
        "leased_until": at,
        "presented_order": list(range(outputs)),
        "seed": number,
        "created_at": at,
    }


class RollBack(Exception):
    """Ends a transaction that was only a question."""


def check(store: Store, journal: Path) -> dict[str, int]:
    """What the database holds beside what the clients saw acknowledged.

    Only `acknowledged`, `unanswered` (stored, but the client ended before it heard) and `audit_rows` may be
    above 0.
    """
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    said = {line["key"]: (line["login"], line["task"]) for line in lines}
    with store.read() as connection:
        made = connection.execute(
            select(judgments.c.submit_key, annotators.c.login, assignments.c.public_id, assignments.c.task_id)
            .select_from(judgments.join(assignments).join(annotators))
            .where(judgments.c.submit_key.not_like("made-%"))
        ).all()
        counts = dict(
            connection.execute(
                select(assignments.c.task_id, func.count())
                .where(assignments.c.state == "submitted")
                .group_by(assignments.c.task_id)
            ).all()
        )
        now = utcnow()
        leased = dict(
            connection.execute(
                select(assignments.c.task_id, func.count()).where(live(now)).group_by(assignments.c.task_id)
            ).all()
        )
        wrong = [
            row.id
            for row in connection.execute(select(tasks.c.id, tasks.c.n_judgments))
            if row.n_judgments != counts.get(row.id, 0)
        ]
        too_long = connection.scalar(
            select(func.count()).where(
                assignments.c.state == "leased", assignments.c.leased_until > now + queue.LEASE
            )
        )
        audit_rows = audit.verify(connection)
    stored = {row.submit_key: (row.login, row.public_id) for row in made}
    people_twice = Counter((row.login, row.task_id) for row in made)
    return {
        "acknowledged": len(said),
        "lost": sum(stored.get(key) != whose for key, whose in said.items()),
        "doubled": len(made) - len(stored) + sum(n - 1 for n in people_twice.values()),
        "unanswered": len(stored.keys() - said.keys()),
        "wrong_counters": len(wrong),
        "over_the_overlap": sum(counts.get(t, 0) + leased.get(t, 0) > OVERLAP for t in counts | leased),
        "leases_too_long": too_long or 0,
        "leases_that_do_not_end": _leases_after_their_time(store),
        "audit_rows": audit_rows,
    }


def _leases_after_their_time(store: Store) -> int:
    """Leases of others that are still there when somebody asks once the last one's time is over."""
    later, left = utcnow() + queue.LEASE + timedelta(seconds=1), 0
    try:
        with store.write() as tx:
            person = tx.scalar(select(func.min(annotators.c.id))) or 0
            queue.next_work(tx, person, later)
            mine = assignments.c.annotator_id == person
            left = tx.scalar(select(func.count()).where(assignments.c.state == "leased", ~mine)) or 0
            raise RollBack
    except RollBack:
        return left
