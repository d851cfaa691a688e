"""How fast a project goes: judgments by day, and what each person has done, in what time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median

from sqlalchemy import Connection, and_, case, func, or_, select, true

from labeling_app.store.models import annotators, assignments, flags, judgments, tasks
from labeling_app.store.verdicts import newest

RECENT = timedelta(days=7)


@dataclass(frozen=True)
class Worker:
    """One person in one project. hours: active time on the page, of all that was judged (practice too);
    time on tasks that were skipped is not known. median_seconds: of a judgment."""

    login: str
    public_id: str
    judgments: int
    hours: float
    median_seconds: float | None
    skips: int
    flags: int
    late: int
    last_at: datetime | None


def workers(connection: Connection, project_id: int) -> list[Worker]:
    """Everybody who was given a task, who judged most first."""
    j, a = judgments.c, assignments.c
    # A revision goes on from the time of the one before, but another round of practice begins anew.
    counted = or_(newest(), tasks.c.is_practice == true())
    rows = connection.execute(
        select(a.annotator_id, j.seconds, newest().label("newest"), j.late, j.created_at)
        .select_from(judgments.join(assignments).join(tasks))
        .where(tasks.c.project_id == project_id, counted)
    )
    seconds: dict[int, list[float]] = {}
    made: dict[int, list[tuple[bool, datetime]]] = {}
    for row in rows:
        seconds.setdefault(row.annotator_id, [])
        if row.seconds is not None:
            seconds[row.annotator_id].append(row.seconds)
        if row.newest:
            made.setdefault(row.annotator_id, []).append((row.late, row.created_at))
    people = connection.execute(
        select(
            a.annotator_id,
            annotators.c.login,
            annotators.c.public_id,
            func.sum(case((a.state == "skipped", 1), else_=0)).label("skips"),
        )
        .select_from(assignments.join(tasks))
        .join(annotators, annotators.c.id == a.annotator_id)
        .where(tasks.c.project_id == project_id)
        .group_by(a.annotator_id, annotators.c.login, annotators.c.public_id)
        .order_by(annotators.c.login)
    ).all()
    raised = _flags(connection, project_id)
    found = []
    for person in people:
        own, mine = seconds.get(person.annotator_id, []), made.get(person.annotator_id, [])
        found.append(
            Worker(
                login=person.login,
                public_id=person.public_id,
                judgments=len(mine),
                hours=sum(own) / 3600,
                median_seconds=median(own) if own else None,
                skips=person.skips,
                flags=raised.get(person.annotator_id, 0),
                late=sum(late for late, _ in mine),
                last_at=max((at for _, at in mine), default=None),
            )
        )
    return sorted(found, key=lambda one: -one.judgments)


def by_day(connection: Connection, project_id: int) -> list[tuple[date, int]]:
    """First judgments of a project's queue by day in UTC, from the first day to the last, none left out."""
    day = func.date(judgments.c.created_at)
    rows = connection.execute(
        select(day.label("day"), func.count().label("made"))
        .select_from(judgments.join(assignments).join(tasks))
        .where(
            tasks.c.project_id == project_id,
            judgments.c.revision == 1,
            ~tasks.c.is_practice,
            ~tasks.c.is_gold,
        )
        .group_by(day)
    )
    counts = {date.fromisoformat(str(row.day)): row.made for row in rows}
    if not counts:
        return []
    first, last = min(counts), max(counts)
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [(one, counts.get(one, 0)) for one in days]


def days_left(days: Sequence[tuple[date, int]], left: int, today: date) -> float | None:
    """How many days `left` judgments take at the pace of the last RECENT; None where there was none."""
    since = today - RECENT
    recent = sum(count for day, count in days if day > since)
    begun = max(days[0][0], since + timedelta(days=1)) if days else today
    span = (today - begun).days + 1
    return left * span / recent if recent else None


def _flags(connection: Connection, project_id: int) -> dict[int, int]:
    rows = connection.execute(
        select(assignments.c.annotator_id, func.count().label("raised"))
        .select_from(flags.join(assignments).join(tasks))
        .where(and_(tasks.c.project_id == project_id, flags.c.kind == "flag"))
        .group_by(assignments.c.annotator_id)
    )
    return {row.annotator_id: row.raised for row in rows}
