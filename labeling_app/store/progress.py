"""How far a person is, and when to come back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from sqlalchemy import Connection, and_, case, exists, false, func, literal, or_, select, true

from labeling_app.store import enrolment
from labeling_app.store.enrolment import Place
from labeling_app.store.models import assignments, judgments, projects, tasks
from labeling_app.store.openings import given_out, live, untouched

RECENT = 50  # judgments from which the pace of late is taken
COUNT_LIMIT = 1000  # progress says "1000 or more" rather than counting a whole queue


@dataclass(frozen=True)
class Progress:
    """`done` and `left` of one annotator, and when a task that others hold may come free."""

    done: int
    left: int
    held: int
    free_at: datetime | None


def progress(connection: Connection, annotator_id: int, now: datetime) -> Progress:
    """How far this annotator is. `left` counts to COUNT_LIMIT; `held` are tasks that others work on now.

    Practice counts in neither. Gold tasks count in both like any other, so that the numbers do not tell which
    task was one.
    """
    mine = assignments.c.annotator_id == annotator_id
    submitted = and_(mine, assignments.c.state == "submitted")
    done = connection.scalar(select(func.count()).select_from(assignments).where(submitted)) or 0
    practising = select(projects.c.id).where(projects.c.practice_tasks > literal(0))
    practised = connection.scalar(  # from the practice tasks, which are few, and not from what a person did
        select(func.count()).where(
            tasks.c.project_id.in_(practising),
            tasks.c.status == "open",
            tasks.c.is_gold == false(),
            tasks.c.is_practice == true(),
            exists().where(assignments.c.task_id == tasks.c.id, submitted),
        )
    )
    places = [place for place in enrolment.places(connection, annotator_id) if place.step != "failed"]
    held, free_at = _held_by_others(connection, annotator_id, places, now)
    new = sum(count_untouched(connection, annotator_id, place) for place in places)
    left = max(0, new - held) if new < COUNT_LIMIT else COUNT_LIMIT
    if left:
        gold = [place for place in places if place.gold_rate > 0]
        left += sum(count_untouched(connection, annotator_id, place, gold=True) for place in gold)
    return Progress(done - (practised or 0), min(left, COUNT_LIMIT), held, None if left else free_at)


@dataclass(frozen=True)
class Pace:
    """What one annotator has judged, in all and in the last 24 hours, and the active seconds it took.

    each: the median seconds of the last RECENT judgments, None if there are none with a time.
    """

    judged: int
    seconds: float
    day_judged: int
    day_seconds: float
    each: float | None


def pace(connection: Connection, annotator_id: int, now: datetime) -> Pace:
    """One person's own figures; a judgment that was changed counts once, as it was first made."""
    day = case((judgments.c.created_at > now - timedelta(days=1), 1), else_=0)
    seconds = func.coalesce(judgments.c.seconds, 0.0)
    mine = (assignments.c.annotator_id == annotator_id) & (judgments.c.revision == 1)
    rows = judgments.join(assignments)
    sums = select(func.count(), func.sum(seconds), func.sum(day), func.sum(day * seconds))
    judged, total, day_judged, day_total = connection.execute(sums.select_from(rows).where(mine)).one()
    last = select(judgments.c.seconds).select_from(rows).where(mine, judgments.c.seconds.is_not(None))
    recent = connection.scalars(last.order_by(judgments.c.id.desc()).limit(RECENT)).all()
    each = median(recent) if recent else None
    return Pace(judged, total or 0.0, day_judged or 0, day_total or 0.0, each)


def count_untouched(connection: Connection, annotator_id: int, place: Place, *, gold: bool = False) -> int:
    """Tasks of a project, or gold among them, that a person may still be given, up to COUNT_LIMIT."""
    rows = untouched(annotator_id, place, gold=gold, or_expired=True).limit(COUNT_LIMIT).subquery()
    return connection.scalar(select(func.count()).select_from(rows)) or 0


def _held_by_others(
    connection: Connection, annotator_id: int, places: list[Place], now: datetime
) -> tuple[int, datetime | None]:
    """How many tasks have no room for this person because of live leases, and when the first one ends.

    Counted from the leases, of which there are no more than people, not from the tasks.
    """
    leases = (
        select(
            assignments.c.task_id,
            func.count().label("live"),
            func.min(assignments.c.leased_until).label("until"),
        )
        .where(live(now), assignments.c.annotator_id != annotator_id)
        .group_by(assignments.c.task_id)
        .subquery()
    )
    gone = exists().where(
        assignments.c.task_id == tasks.c.id,
        assignments.c.annotator_id == annotator_id,
        assignments.c.state != "expired",
    )
    row = connection.execute(
        select(func.count(), func.min(leases.c.until))
        .select_from(leases.join(tasks, tasks.c.id == leases.c.task_id))
        .where(
            or_(false(), *(given_out(place) for place in places)),
            tasks.c.n_judgments + leases.c.live >= tasks.c.n_required,
            ~gone,
        )
    ).one()
    return row[0], row[1]
