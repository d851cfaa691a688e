"""What a person has judged already, newest first, to look at and to change."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, exists, func, select

from labeling_app.store.models import assignments, completions, drafts, judgments, projects, tasks
from labeling_app.store.queue import Refusal


def judged(connection: Connection, annotator_id: int, limit: int, offset: int = 0) -> list[RowMapping]:
    """A person's judgments, each in its newest revision, the last one first. Withdrawn tasks are left out."""
    again = judgments.alias()
    newest = (
        select(func.max(again.c.revision))
        .where(again.c.assignment_id == judgments.c.assignment_id)
        .scalar_subquery()
    )
    found = (  # by number alone: nothing is read of the texts of those that are not shown
        select(judgments.c.id)
        .select_from(judgments.join(assignments).join(tasks))
        .where(
            assignments.c.annotator_id == annotator_id,
            judgments.c.revision == newest,
            tasks.c.status != "withdrawn",
        )
        .order_by(judgments.c.id.desc())
        .limit(limit)
        .offset(offset)
        .subquery()
    )
    wanted = (
        select(
            assignments.c.public_id,
            assignments.c.presented_order,
            judgments.c.revision,
            judgments.c.ranks,
            judgments.c.both_bad,
            judgments.c.created_at,
            tasks.c.prompt,
            tasks.c.status,
            tasks.c.is_gold,
            tasks.c.is_practice,
            projects.c.name.label("project"),
            projects.c.gold_feedback,
            exists().where(drafts.c.assignment_id == assignments.c.id).label("draft"),
        )
        .select_from(judgments.join(assignments).join(tasks).join(projects))
        .where(judgments.c.id.in_(select(found.c.id)))
        .order_by(judgments.c.id.desc())
    )
    return list(connection.execute(wanted).mappings())


def own_judgment(connection: Connection, annotator_id: int, public_id: str) -> tuple[RowMapping, RowMapping]:
    """A person's assignment and the newest revision of what was said. Raises Refusal 404, or 410 where the
    task's texts were removed."""
    mine = (assignments.c.public_id == public_id) & (assignments.c.annotator_id == annotator_id)
    assignment = connection.execute(select(assignments).where(mine)).mappings().first()
    if assignment is None:
        raise Refusal(404, "There is no such task of yours.")
    wanted = select(judgments).where(judgments.c.assignment_id == assignment["id"])
    judgment = connection.execute(wanted.order_by(judgments.c.revision.desc()).limit(1)).mappings().first()
    if judgment is None:
        raise Refusal(404, "You have not judged this task.")
    outputs = select(func.count()).where(completions.c.task_id == assignment["task_id"])
    if connection.scalar(outputs) != len(assignment["presented_order"]):
        raise Refusal(410, "The texts of this task were removed.")
    return assignment, judgment
