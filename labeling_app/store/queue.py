"""Who gets which task: leases, their end, progress."""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    exists,
    func,
    insert,
    select,
    update,
)

from labeling_app.store import audit
from labeling_app.store.models import annotators, assignments, completions, projects, tasks

LEASE = timedelta(minutes=30)
COUNT_LIMIT = 1000  # progress says "1000 or more" rather than counting a whole queue


class Refusal(Exception):
    """A request that the data does not allow. `status` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Progress:
    """`done` and `left` of one annotator, and when a task that others hold may come free."""

    done: int
    left: int
    held: int
    free_at: datetime | None


def lease_task(
    tx: Connection, annotator_id: int, now: datetime, lease: timedelta = LEASE
) -> RowMapping | None:
    """The assignment to work on now, leased until now + `lease`; None if there is nothing to do.

    In this order: the one that the annotator holds already; one whose lease ran out, if there is still room
    (its order and draft are kept); a new one, of a task where judgments + live leases are fewer than
    n_required and this annotator has none.
    """
    lock_annotator(tx, annotator_id)
    _expire(tx, now)
    mine = assignments.c.annotator_id == annotator_id
    held = tx.execute(select(assignments).where(mine, assignments.c.state == "leased")).mappings().first()
    if held is not None:
        return _extend(tx, held["id"], now + lease)
    for row in tx.execute(
        select(assignments.c.id, assignments.c.task_id)
        .join(tasks, tasks.c.id == assignments.c.task_id)
        .where(mine, assignments.c.state == "expired", tasks.c.status == "open")
        .order_by(assignments.c.id)
    ):
        if _lock_if_room(tx, row.task_id, now):
            return _extend(tx, row.id, now + lease)
    return _lease_new(tx, annotator_id, now, now + lease)


def renew(tx: Connection, assignment: RowMapping, now: datetime, lease: timedelta = LEASE) -> bool:
    """Prolong a lease, or take up one that ran out if there is still room. False: somebody else has it."""
    live = assignment["state"] == "leased" and assignment["leased_until"] > now
    if not live:
        if assignment["state"] not in ("leased", "expired"):
            return False
        if not _lock_if_room(tx, assignment["task_id"], now):
            return False
    _extend(tx, assignment["id"], now + lease)
    return True


def skip(tx: Connection, annotator: RowMapping, public_id: str, now: datetime) -> None:
    """Give a task up for good: this annotator is not asked again. Doing it twice is one skip."""
    lock_annotator(tx, annotator["id"])
    assignment = own_assignment(tx, annotator["id"], public_id)
    if assignment["state"] == "skipped":
        return
    if assignment["state"] == "submitted":
        raise Refusal(409, "This task is judged already.")
    tx.execute(update(assignments).where(assignments.c.id == assignment["id"]).values(state="skipped"))
    audit.append(
        tx, now, annotator["public_id"], "skip", f"assignment/{assignment['id']}", before=assignment["state"]
    )


def progress(connection: Connection, annotator_id: int, now: datetime) -> Progress:
    """How far this annotator is. `left` counts to COUNT_LIMIT; `held` are tasks that others work on now."""
    done = connection.scalar(
        select(func.count())
        .select_from(assignments)
        .where(assignments.c.annotator_id == annotator_id, assignments.c.state == "submitted")
    )
    possible = _untouched(annotator_id)
    left = connection.scalar(
        select(func.count()).select_from(possible.where(_room(now)).limit(COUNT_LIMIT).subquery())
    )
    held = connection.scalar(
        select(func.count()).select_from(possible.where(~_room(now)).limit(COUNT_LIMIT).subquery())
    )
    free_at = None
    if held and not left:
        free_at = connection.scalar(
            select(func.min(assignments.c.leased_until)).where(
                assignments.c.task_id.in_(possible.where(~_room(now))), _live(now)
            )
        )
    return Progress(done or 0, left or 0, held or 0, free_at)


def own_assignment(tx: Connection, annotator_id: int, public_id: str) -> RowMapping:
    """The annotator's own assignment, locked. Raises Refusal 404 for any other, existing or not."""
    row = (
        tx.execute(
            select(assignments)
            .where(assignments.c.public_id == public_id, assignments.c.annotator_id == annotator_id)
            .with_for_update()
        )
        .mappings()
        .first()
    )
    if row is None:
        raise Refusal(404, "There is no such task of yours.")
    return row


def lock_annotator(tx: Connection, annotator_id: int) -> None:
    """Let one request of a person run after the other. Locks are taken in this order everywhere, so that
    no two transactions wait for each other: annotator, assignment, task, audit log."""
    tx.execute(select(annotators.c.id).where(annotators.c.id == annotator_id).with_for_update())


def _lease_new(tx: Connection, annotator_id: int, now: datetime, until: datetime) -> RowMapping | None:
    wanted = (
        _untouched(annotator_id)
        .where(_room(now))
        .order_by(tasks.c.priority.desc(), tasks.c.id)
        .limit(1)
        .with_for_update(of=tasks, skip_locked=True)
    )
    full: list[int] = []
    while True:
        task_id = tx.scalar(wanted.where(tasks.c.id.not_in(full)))
        if task_id is None:
            return None
        if _lock_if_room(tx, task_id, now):
            break
        full.append(task_id)  # PostgreSQL: filled between our snapshot and our lock
    count = tx.scalar(select(func.count()).select_from(completions).where(completions.c.task_id == task_id))
    seed = secrets.randbits(31)
    made = insert(assignments).values(
        public_id=secrets.token_urlsafe(12),
        task_id=task_id,
        annotator_id=annotator_id,
        state="leased",
        leased_until=until,
        presented_order=shuffled(count or 0, seed),
        seed=seed,
        created_at=now,
    )
    return tx.execute(made.returning(assignments)).mappings().one()


def shuffled(count: int, seed: int) -> list[int]:
    """The order in which `count` outputs are shown: a uniform permutation drawn from `seed`."""
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311 - an experiment's shuffle, not a secret
    return order


def _untouched(annotator_id: int) -> Select[int]:
    """Open tasks of active projects that this annotator may still be given."""
    taken = exists().where(
        assignments.c.task_id == tasks.c.id,
        assignments.c.annotator_id == annotator_id,
    )
    return (
        select(tasks.c.id)
        .join(projects, projects.c.id == tasks.c.project_id)
        .where(tasks.c.status == "open", projects.c.active, ~taken)
    )


def _live(now: datetime) -> ColumnElement[bool]:
    return and_(assignments.c.state == "leased", assignments.c.leased_until > now)


def _room(now: datetime) -> ColumnElement[bool]:
    leases = (
        select(func.count())
        .select_from(assignments)
        .where(assignments.c.task_id == tasks.c.id, _live(now))
        .scalar_subquery()
    )
    return tasks.c.n_judgments + leases < tasks.c.n_required


def _lock_if_room(tx: Connection, task_id: int, now: datetime) -> bool:
    """Lock the task, then count anew: on PostgreSQL only a later statement sees what others committed."""
    tx.execute(select(tasks.c.id).where(tasks.c.id == task_id).with_for_update())
    return (
        tx.scalar(select(tasks.c.id).where(tasks.c.id == task_id, tasks.c.status == "open", _room(now)))
        is not None
    )


def _expire(tx: Connection, now: datetime) -> None:
    stale = (
        select(assignments.c.id)
        .where(assignments.c.state == "leased", assignments.c.leased_until <= now)
        .with_for_update(skip_locked=True)
    )
    ids = tx.scalars(stale).all()
    if ids:
        tx.execute(update(assignments).where(assignments.c.id.in_(ids)).values(state="expired"))


def _extend(tx: Connection, assignment_id: int, until: datetime) -> RowMapping:
    prolonged = (
        update(assignments)
        .where(assignments.c.id == assignment_id)
        .values(state="leased", leased_until=until)
        .returning(assignments)
    )
    return tx.execute(prolonged).mappings().one()
