"""Judgments in the order in which they were committed, for readers that must miss none.

Ids of judgments will not do: on PostgreSQL two transactions may commit in the other order than they took
their ids, and a reader that has seen the higher one would never see the lower. The audit log is a chain, so
its rows are written one transaction after the other, and every judgment has one there.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select

from labeling_app.store import audit
from labeling_app.store.database import stamp
from labeling_app.store.models import (
    annotators,
    assignments,
    audit_log,
    exported,
    exports,
    judgments,
    projects,
    tasks,
)


@dataclass(frozen=True)
class Told:
    """A judgment as programs get it, and whose it is."""

    shown: dict[str, Any]
    project_id: int
    task_id: int
    annotator_id: int


def judgments_after(
    connection: Connection, cursor: int, limit: int, project_id: int
) -> tuple[list[Told], int]:
    """At most `limit` judgments of a project that were committed after `cursor` (0: from the start), in that
    order, and the cursor after the last one looked at. No rows means that there are no more for now.

    Judgments of practice tasks are left out. An edit is a judgment of its own, with a higher revision.
    """
    log = audit_log.c
    while True:
        wanted = select(log.id, log.entity, log.after).where(log.id > cursor, log.action == "submit")
        page = connection.execute(wanted.order_by(log.id).limit(limit)).all()
        if not page:
            return [], cursor
        cursor = page[-1].id
        keys = [(int(row.entity.split("/")[1]), json.loads(row.after)["revision"]) for row in page]
        mine = assignments.c.id.in_({assignment for assignment, _ in keys})
        rows = _rows(connection, mine & (tasks.c.project_id == project_id))
        found = {(row["assignment_id"], row["revision"]): row for row in rows}
        told = [_told(found[key]) for key in keys if key in found]
        if told:
            return told, cursor


def judgments_by_id(connection: Connection, ids: Collection[int]) -> dict[int, Told]:
    """The judgments with these ids; those whose content was removed meanwhile are missing."""
    return {row["id"]: _told(row) for row in _rows(connection, judgments.c.id.in_(ids))}


def note_told(tx: Connection, now: datetime, name: str, told: list[Told], actor: str) -> None:
    """Note whose judgments went out, as for an export to a file: `alignkit label forget` lists them."""
    fingerprint = audit.digest([one.shown for one in told])
    row = {"project_id": told[0].project_id, "name": name, "fingerprint": fingerprint, "rows": len(told)}
    made = insert(exports).values(**row, actor=actor, created_at=now)
    number = tx.scalar(made.returning(exports.c.id))
    held = {(one.task_id, one.annotator_id) for one in told}
    rows = [{"export_id": number, "task_id": task, "annotator_id": who} for task, who in sorted(held)]
    tx.execute(insert(exported), rows)


def _rows(connection: Connection, where: Any) -> list[RowMapping]:
    wanted = (
        select(judgments, assignments.c.presented_order, assignments.c.task_id, assignments.c.annotator_id)
        .add_columns(annotators.c.public_id, tasks.c.external_id, tasks.c.is_gold, tasks.c.project_id)
        .add_columns(projects.c.name.label("project"))
        .join_from(judgments, assignments, assignments.c.id == judgments.c.assignment_id)
        .join(annotators, annotators.c.id == assignments.c.annotator_id)
        .join(tasks, tasks.c.id == assignments.c.task_id)
        .join(projects, projects.c.id == tasks.c.project_id)
        .where(where, ~tasks.c.is_practice)
    )
    return list(connection.execute(wanted).mappings())


def _told(row: RowMapping) -> Told:
    judgment = {
        "by": row["public_id"],
        "revision": row["revision"],
        "ranks": row["ranks"],
        "all_bad": row["both_bad"],
        "strength": row["strength"],
        "ratings": row["ratings"],
        "rationale": row["rationale"],
        "rewrite": row["edited_text"],
        "at": stamp(row["created_at"]),
        "seconds": row["seconds"],
        "presented": row["presented_order"],
        "guideline": f"v{row['guideline_version']}",
        "late": row["late"],
    }
    shown = {
        "project": row["project"],
        "task": row["external_id"],
        "gold": row["is_gold"],
        "judgment": judgment,
    }
    return Told(shown, row["project_id"], row["task_id"], row["annotator_id"])
