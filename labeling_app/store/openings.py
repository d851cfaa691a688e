"""Which tasks there are for a person, as conditions of SQL: what is open, untouched, has room."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, select, true

from labeling_app.store.enrolment import Place
from labeling_app.store.models import assignments, tasks


def given_out(place: Place) -> ColumnElement[bool]:
    """An open task of the project."""
    return and_(tasks.c.project_id == place.project_id, tasks.c.status == "open")


def untouched(
    annotator_id: int, place: Place, *, gold: bool = False, or_expired: bool = False
) -> Select[int]:
    """Open tasks of a project that this annotator was never given: those to judge, or the gold among them.

    or_expired: those too whose lease this annotator let run out, which may come back.
    """
    taken = exists().where(assignments.c.task_id == tasks.c.id, assignments.c.annotator_id == annotator_id)
    if or_expired:
        taken = taken.where(assignments.c.state != "expired")
    kind = and_(tasks.c.is_gold == (true() if gold else false()), tasks.c.is_practice == false())
    return select(tasks.c.id).where(given_out(place), kind, ~taken)


def expired(annotator_id: int, place: Place) -> Select[Any]:
    """Assignments that were given up by waiting, gold among them, of tasks that are still open."""
    return (
        select(assignments.c.id, assignments.c.task_id)
        .join(tasks, tasks.c.id == assignments.c.task_id)
        .where(
            assignments.c.annotator_id == annotator_id,
            assignments.c.state == "expired",
            given_out(place),
            tasks.c.is_practice == false(),
        )
    )


def live(now: datetime) -> ColumnElement[bool]:
    """An assignment that somebody works on now."""
    return and_(assignments.c.state == "leased", assignments.c.leased_until > now)


def room(now: datetime) -> ColumnElement[bool]:
    """A task with fewer judgments and live leases than it needs."""
    leases = (
        select(func.count())
        .select_from(assignments)
        .where(assignments.c.task_id == tasks.c.id, live(now))
        .correlate(tasks)  # not with the assignments that the query around it may read
        .scalar_subquery()
    )
    return tasks.c.n_judgments + leases < tasks.c.n_required
