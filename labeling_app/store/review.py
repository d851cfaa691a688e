"""What reviewers decide: the last word on tasks on which judges differ, and flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from alignment.errors import UserError
from labeling_app.store import audit, forms
from labeling_app.store.models import (
    adjudications,
    annotators,
    assignments,
    completions,
    flags,
    judgments,
    tasks,
)
from labeling_app.store.verdicts import newest


@dataclass(frozen=True)
class Opinion:
    """What one judge said, by ordinal; nothing tells who it was."""

    ranks: Sequence[int | None] | None
    all_bad: bool
    ratings: dict[str, Sequence[float | None]] | None
    rationale: str | None


@dataclass(frozen=True)
class Case:
    """A task to review: no source and no name of a judge. last: the newest adjudication, if there is one."""

    task_id: int
    prompt: list[dict[str, Any]]
    outputs: list[RowMapping]
    opinions: list[Opinion]
    last: RowMapping | None


def decided(connection: Connection, project_id: int) -> set[int]:
    """The tasks of a project that a reviewer has had the last word on."""
    wanted = select(adjudications.c.task_id).join(tasks, tasks.c.id == adjudications.c.task_id)
    return set(connection.scalars(wanted.where(tasks.c.project_id == project_id)))


def prompts(connection: Connection, task_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """The prompts of some tasks."""
    rows = connection.execute(select(tasks.c.id, tasks.c.prompt).where(tasks.c.id.in_(task_ids)))
    return {row.id: row.prompt for row in rows}


def case(connection: Connection, project_id: int, task_id: int) -> Case | None:
    """A task with what everybody said about it; None if this project has none with that number."""
    mine = (tasks.c.id == task_id) & (tasks.c.project_id == project_id)
    task = connection.execute(select(tasks.c.prompt, tasks.c.extra).where(mine)).first()
    if task is None:
        return None
    outputs = select(completions).where(completions.c.task_id == task_id).order_by(completions.c.ordinal)
    j = judgments.c
    said = connection.execute(
        select(j.ranks, j.both_bad, j.ratings, j.rationale)
        .select_from(judgments.join(assignments))
        .where(assignments.c.task_id == task_id, newest())
        .order_by(j.id)
    )
    opinions = [Opinion(*row) for row in said]
    opinions += [
        Opinion(one.get("ranks"), bool(one.get("all_bad")), one.get("ratings"), one.get("rationale"))
        for one in task.extra.get("judgments") or ()
    ]
    return Case(
        task_id,
        task.prompt,
        list(connection.execute(outputs).mappings()),
        opinions,
        _last(connection, task_id),
    )


def adjudicate(
    tx: Connection,
    now: datetime,
    reviewer: RowMapping,
    project_id: int,
    task_id: int,
    ranks: list[int] | None,
    rationale: str | None,
) -> int:
    """Keep a reviewer's last word: ranks by ordinal, or None for all bad. A second one is a new revision,
    whose number is returned. Raises UserError for a task that is not there or not in this project."""
    mine = (tasks.c.id == task_id) & (tasks.c.project_id == project_id) & (tasks.c.status != "withdrawn")
    if tx.scalar(select(tasks.c.id).where(mine).with_for_update()) is None:
        raise UserError("this task is not there any more")
    k = tx.scalar(select(func.count()).where(completions.c.task_id == task_id)) or 0
    if not k:
        raise UserError("the texts of this task were removed")
    checked = forms.check_ranks("ranking", list(ranks) if ranks else None, ranks is None, k)
    words = (rationale or "").strip()
    if len(words) > forms.MAX_RATIONALE:
        raise UserError(f"a reason has at most {forms.MAX_RATIONALE:,} characters")
    last = _last(tx, task_id)
    row = {
        "task_id": task_id,
        "reviewer_id": reviewer["id"],
        "revision": (last["revision"] if last else 0) + 1,
        "ranks": checked,
        "both_bad": ranks is None,
        "rationale": words or None,
    }
    tx.execute(insert(adjudications).values(**row, created_at=now))
    after = {"revision": row["revision"], "sha256": audit.digest(row)}
    audit.append(tx, now, reviewer["public_id"], "adjudicate", f"task/{task_id}", after=after)
    return int(row["revision"])


def open_flags(connection: Connection, project_id: int, limit: int = 200) -> list[RowMapping]:
    """Flags that nobody has resolved, the oldest first, with the login of who raised them."""
    wanted = (
        select(
            flags.c.id,
            flags.c.kind,
            flags.c.reason,
            flags.c.created_at,
            tasks.c.id.label("task_id"),
            tasks.c.prompt,
            annotators.c.login,
        )
        .select_from(flags.join(assignments, assignments.c.id == flags.c.assignment_id).join(tasks))
        .join(annotators, annotators.c.id == assignments.c.annotator_id)
        .where(tasks.c.project_id == project_id, flags.c.resolved_at.is_(None), tasks.c.status != "withdrawn")
        .order_by(flags.c.id)
        .limit(limit)
    )
    return list(connection.execute(wanted).mappings())


def resolve(
    tx: Connection,
    now: datetime,
    reviewer: RowMapping,
    project_id: int,
    chosen: Sequence[int],
    *,
    withdraw: bool,
) -> int:
    """Mark flags of this project resolved, and with `withdraw` give their tasks out no more; their judgments
    stay and are measured and shown no more. Returns how many flags were open."""
    of_project = select(assignments.c.id).join(tasks).where(tasks.c.project_id == project_id)
    wanted = (flags.c.id.in_(chosen)) & flags.c.resolved_at.is_(None) & flags.c.assignment_id.in_(of_project)
    changed = update(flags).where(wanted).values(resolved_at=now, resolved_by=reviewer["id"])
    rows = tx.execute(changed.returning(flags.c.id, flags.c.assignment_id)).all()
    for row in rows:
        audit.append(tx, now, reviewer["public_id"], "flag resolve", f"flag/{row.id}")
    if withdraw:
        owners = select(assignments.c.task_id).where(
            assignments.c.id.in_([row.assignment_id for row in rows])
        )
        for task_id in sorted(set(tx.scalars(owners))):
            tx.execute(update(tasks).where(tasks.c.id == task_id).values(status="withdrawn"))
            audit.append(tx, now, reviewer["public_id"], "task withdraw", f"task/{task_id}")
    return len(rows)


def _last(connection: Connection, task_id: int) -> RowMapping | None:
    wanted = select(adjudications).where(adjudications.c.task_id == task_id)
    return connection.execute(wanted.order_by(adjudications.c.revision.desc()).limit(1)).mappings().first()
