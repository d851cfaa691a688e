"""Who gets which task: leases, their end, gold and practice among them, progress."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import (
    Connection,
    RowMapping,
    and_,
    bindparam,
    case,
    false,
    func,
    insert,
    select,
    true,
    update,
)

from labeling_app.store import audit, enrolment
from labeling_app.store.enrolment import Place, lock_annotator
from labeling_app.store.models import assignments, completions, judgments, tasks
from labeling_app.store.openings import expired, given_out, room, untouched
from labeling_app.store.progress import COUNT_LIMIT, Progress, count_untouched, progress
from labeling_app.store.refusal import Refusal

__all__ = ["COUNT_LIMIT", "Progress", "Refusal", "lock_annotator", "progress"]  # as others know them

LEASE = timedelta(minutes=30)
UNLIMITED = 2_000_000_000  # n_required of gold and practice tasks: everybody may get them
GOLD_CHOICE = 100  # the next so many gold tasks of a person, from which one is drawn


@dataclass(frozen=True)
class Gate:
    """What has to be done before the next task. `place` is the project; "choose" has several `places`."""

    kind: Literal["consent", "warning", "practice", "passed", "failed", "choose"]
    places: list[Place]


@dataclass(frozen=True)
class Work:
    """What a person does next: a task, or a gate to pass first. Neither: nothing is left."""

    assignment: RowMapping | None = None
    gate: Gate | None = None


def next_work(
    tx: Connection, annotator_id: int, now: datetime, lease: timedelta = LEASE, *, may_choose: bool = True
) -> Work:
    """The task to work on now, leased until now + `lease`, or what comes before it.

    The task that the person holds comes first, then the project that the person has chosen, then the others;
    with `may_choose`, a person for whom several have work is asked which. In a project: what has to be agreed
    to, the practice round, a task whose lease ran out if there is still room (its order and draft are kept),
    a new task.
    """
    lock_annotator(tx, annotator_id)
    _expire(tx, now)
    places = enrolment.places(tx, annotator_id)
    held = _held(tx, annotator_id)
    if held is not None:
        place = next((place for place in places if place.project_id == held["project_id"]), None)
        if place is not None and place.step in ("consent", "warning"):
            return Work(gate=Gate(place.step, [place]))
        if place is not None:
            return Work(_extend(tx, held["id"], now + lease))
        _let_go(tx, annotator_id)  # the project was turned down or closed meanwhile
    rest = places
    if places and places[0].chosen_at is not None:
        work = _work_in(tx, annotator_id, places[0], now, now + lease)
        if work is not None:
            return work
        rest = places[1:]
    if may_choose and len(rest) > 1:
        offers = [place for place in rest if _has_work(tx, annotator_id, place, now)]
        if len(offers) > 1:
            return Work(gate=Gate("choose", offers))
    for place in rest:
        work = _work_in(tx, annotator_id, place, now, now + lease)
        if work is not None:
            return work
    failed = [place for place in places if place.step == "failed"]
    return Work(gate=Gate("failed", failed[:1]) if failed else None)


def lease_task(
    tx: Connection, annotator_id: int, now: datetime, lease: timedelta = LEASE
) -> RowMapping | None:
    """The assignment of `next_work`, by the order of projects; None if there is none, or a gate before it."""
    return next_work(tx, annotator_id, now, lease, may_choose=False).assignment


def begin_practice(tx: Connection, annotator_id: int, place: Place, now: datetime) -> None:
    """Give the first task of the practice round, which the next call of `next_work` shows."""
    lock_annotator(tx, annotator_id)
    _expire(tx, now)
    if _held(tx, annotator_id) is None:
        _lease_practice(tx, annotator_id, place, now, now + LEASE)


def change_project(tx: Connection, now: datetime, annotator: RowMapping, project: str) -> None:
    """Choose the project whose tasks come first; a task of another one is given back, its draft is kept."""
    place = enrolment.choose(tx, now, annotator, project)
    held = _held(tx, annotator["id"])
    if held is not None and held["project_id"] != place.project_id:
        _let_go(tx, annotator["id"])


def projects_with_work(tx: Connection, annotator_id: int, now: datetime) -> list[tuple[Place, int]]:
    """The projects that a person may choose among, and how many tasks each has left, to COUNT_LIMIT."""
    found = enrolment.places(tx, annotator_id)
    return [
        (place, count_untouched(tx, annotator_id, place))
        for place in found
        if _has_work(tx, annotator_id, place, now)
    ]


def set_priorities(tx: Connection, project_id: int, priorities: Mapping[str, float]) -> int:
    """Order a project's tasks by record id: the higher, the sooner. Returns how many tasks there were."""
    if not priorities:
        return 0
    changed = (
        update(tasks)
        .where(tasks.c.project_id == project_id, tasks.c.external_id == bindparam("record"))
        .values(priority=bindparam("wanted"))
    )
    rows = [{"record": name, "wanted": value} for name, value in priorities.items()]
    return tx.execute(changed, rows).rowcount


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


def own_assignment(tx: Connection, annotator_id: int, public_id: str) -> RowMapping:
    """The annotator's own assignment, locked. Raises Refusal 404 for any other, existing or not, and 409
    where the task's texts were removed."""
    lock_annotator(tx, annotator_id)
    row = (
        tx.execute(
            select(assignments, tasks.c.sha256)
            .join(tasks, tasks.c.id == assignments.c.task_id)
            .where(assignments.c.public_id == public_id, assignments.c.annotator_id == annotator_id)
            .with_for_update(of=assignments)
        )
        .mappings()
        .first()
    )
    if row is None:
        raise Refusal(404, "There is no such task of yours.")
    if not row["sha256"]:
        raise Refusal(409, "The texts of this task were removed.")
    return row


def _held(tx: Connection, annotator_id: int) -> RowMapping | None:
    wanted = (
        select(assignments.c.id, tasks.c.project_id)
        .join(tasks, tasks.c.id == assignments.c.task_id)
        .where(assignments.c.annotator_id == annotator_id, assignments.c.state == "leased")
    )
    return tx.execute(wanted).mappings().first()


def _let_go(tx: Connection, annotator_id: int) -> None:
    held = and_(assignments.c.annotator_id == annotator_id, assignments.c.state == "leased")
    tx.execute(update(assignments).where(held).values(state="expired"))


def _work_in(tx: Connection, annotator_id: int, place: Place, now: datetime, until: datetime) -> Work | None:
    step = place.step
    if step == "ready":
        assignment = _resume(tx, annotator_id, place, now, until)
        assignment = assignment or _lease_new(tx, annotator_id, place, now, until)
        return None if assignment is None else Work(assignment)
    if step == "failed" or not _has_work(tx, annotator_id, place, now):
        return None
    if step == "practice" and _practising(tx, annotator_id, place):
        return Work(_lease_practice(tx, annotator_id, place, now, until))
    return Work(gate=Gate(step, [place]))


def _has_work(tx: Connection, annotator_id: int, place: Place, now: datetime) -> bool:
    if place.step == "failed":
        return False
    mine = expired(annotator_id, place).where(room(now)).limit(1)
    new = untouched(annotator_id, place).where(room(now)).limit(1)
    return tx.scalar(new) is not None or tx.scalar(mine) is not None


def _resume(
    tx: Connection, annotator_id: int, place: Place, now: datetime, until: datetime
) -> RowMapping | None:
    for row in tx.execute(expired(annotator_id, place).order_by(assignments.c.id)).all():
        attempt = tx.begin_nested()
        if _lock_if_room(tx, row.task_id, now):
            attempt.commit()
            return _extend(tx, row.id, until)
        attempt.rollback()
    return None


def _lease_new(
    tx: Connection, annotator_id: int, place: Place, now: datetime, until: datetime
) -> RowMapping | None:
    free = untouched(annotator_id, place).where(room(now))
    wanted = free.order_by(tasks.c.priority.desc(), tasks.c.id).limit(1)
    full: list[int] = []
    waits = tx.dialect.name == "sqlite"  # nobody else writes now
    while True:
        left = wanted.where(tasks.c.id.not_in(full)) if full else wanted
        attempt = tx.begin_nested()
        task_id = tx.scalar(left.with_for_update(of=tasks, skip_locked=not waits))
        if task_id is None:
            attempt.rollback()
            if waits:
                return None
            waits = True  # all that is left is locked by others, who may leave room: ask again, in line
            continue
        if _lock_if_room(tx, task_id, now):
            attempt.commit()
            break
        # PostgreSQL: filled between our snapshot and our lock, which is let go: two who wait for a task, each
        # with a full one in hand, would wait for each other.
        attempt.rollback()
        full.append(task_id)
    seed = secrets.randbits(31)
    if place.gold_rate > 0:  # gold is looked up whatever the draw says, so that the time does not tell
        known = untouched(annotator_id, place, gold=True).order_by(tasks.c.priority.desc(), tasks.c.id)
        gold_id = drawn_gold(tx.scalars(known.limit(GOLD_CHOICE)).all(), place.gold_rate, seed)
        task_id = task_id if gold_id is None else gold_id
    return _assign(tx, annotator_id, task_id, seed, now, until)


def drawn_gold(known: Sequence[int], rate: float, seed: int) -> int | None:
    """Which of the `known` tasks is given instead of the next one: none with probability 1 - `rate`, else
    each with the same. It follows from the assignment's seed, so anybody can check the draw later."""
    dice = random.Random(f"gold {seed}")  # noqa: S311 - an experiment's draw, not a secret
    return dice.choice(known) if dice.random() < rate and known else None


def _practising(tx: Connection, annotator_id: int, place: Place) -> bool:
    begun = (
        select(assignments.c.id)
        .join(tasks, tasks.c.id == assignments.c.task_id)
        .where(
            assignments.c.annotator_id == annotator_id,
            assignments.c.state == "expired",
            tasks.c.project_id == place.project_id,
            tasks.c.is_practice == true(),
        )
    )
    return place.practice_done > 0 or tx.scalar(begun.limit(1)) is not None


def _lease_practice(
    tx: Connection, annotator_id: int, place: Place, now: datetime, until: datetime
) -> RowMapping | None:
    """The practice task that this person has judged least often; one that was skipped comes last."""
    times = (
        select(func.count()).where(judgments.c.assignment_id == assignments.c.id).correlate(assignments)
    ).scalar_subquery()
    mine = and_(assignments.c.task_id == tasks.c.id, assignments.c.annotator_id == annotator_id)
    skipped = case((assignments.c.state == "skipped", 1), else_=0)
    row = tx.execute(
        select(tasks.c.id.label("task_id"), assignments.c.id, assignments.c.state)
        .outerjoin(assignments, mine)
        .where(given_out(place), tasks.c.is_gold == false(), tasks.c.is_practice == true())
        .order_by(times, skipped, tasks.c.priority.desc(), tasks.c.id)
        .limit(1)
    ).first()
    if row is None:
        return None
    seed = secrets.randbits(31)
    if row.id is None:
        return _assign(tx, annotator_id, row.task_id, seed, now, until)
    if row.state != "expired":  # once more, in an order of its own
        again = {"seed": seed, "presented_order": _order(tx, row.task_id, seed)}
        tx.execute(update(assignments).where(assignments.c.id == row.id).values(**again))
    return _extend(tx, row.id, until)


def _assign(
    tx: Connection, annotator_id: int, task_id: int, seed: int, now: datetime, until: datetime
) -> RowMapping:
    made = insert(assignments).values(
        public_id=secrets.token_urlsafe(12),
        task_id=task_id,
        annotator_id=annotator_id,
        state="leased",
        leased_until=until,
        presented_order=_order(tx, task_id, seed),
        seed=seed,
        created_at=now,
    )
    return tx.execute(made.returning(assignments)).mappings().one()


def _order(tx: Connection, task_id: int, seed: int) -> list[int]:
    count = tx.scalar(select(func.count()).select_from(completions).where(completions.c.task_id == task_id))
    return shuffled(count or 0, seed)


def shuffled(count: int, seed: int) -> list[int]:
    """The order in which `count` outputs are shown: a uniform permutation drawn from `seed`."""
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311 - an experiment's shuffle, not a secret
    return order


def _lock_if_room(tx: Connection, task_id: int, now: datetime) -> bool:
    """Lock the task, then count anew: on PostgreSQL only a later statement sees what others committed."""
    tx.execute(select(tasks.c.id).where(tasks.c.id == task_id).with_for_update())
    return (
        tx.scalar(select(tasks.c.id).where(tasks.c.id == task_id, tasks.c.status == "open", room(now)))
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
