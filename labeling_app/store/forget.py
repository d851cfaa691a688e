"""Removes what a person wrote, or a task's texts, and says which exports hold them still.

The audit log has digests and names of rows, no texts, so its chain stays as it is. Ranks, ratings and times
stay under the random name that exports use: nothing here leads from that name to a person any more.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, RowMapping, Table, delete, exists, null, select, update

from alignment.errors import UserError
from labeling_app.store import audit, people
from labeling_app.store.enrolment import lock_annotator
from labeling_app.store.models import (
    adjudications,
    annotators,
    assignments,
    completions,
    drafts,
    exported,
    exports,
    flags,
    judgments,
    login_failures,
    projects,
    tasks,
)


@dataclass(frozen=True)
class Forgotten:
    """name: the person's in exports, or the task's id. removed: how many texts, by kind. exports: those that
    held something of it: name, fingerprint, rows, actor, created_at and project, the oldest first."""

    name: str
    removed: Counter[str]
    exports: list[RowMapping]


def forget_person(tx: Connection, now: datetime, login: str, actor: str = audit.COMMAND_LINE) -> Forgotten:
    """Close an account for good and remove its login, its way to sign in and every text its owner wrote.

    Raises UserError for an unknown login, and for the last active admin.
    """
    row = people.account(tx, login)
    people.set_active(tx, now, login, False, actor)  # refuses the last admin, ends the sessions
    lock_annotator(tx, row["id"])
    mine = select(assignments.c.id).where(assignments.c.annotator_id == row["id"])
    removed = _remove_said(tx, mine)
    wrote = adjudications.c.reviewer_id == row["id"]
    removed["rationales"] += _blank(tx, adjudications, adjudications.c.rationale, wrote)
    leased = (assignments.c.annotator_id == row["id"]) & (assignments.c.state == "leased")
    tx.execute(update(assignments).where(leased).values(state="expired"))
    tx.execute(delete(login_failures).where(login_failures.c.login == row["login"]))
    nobody = {"login": f"forgotten-{row['public_id']}", "role": "annotator"}
    no_way_in = {"password_hash": None, "oidc_issuer": None, "oidc_subject": None}
    tx.execute(update(annotators).where(annotators.c.id == row["id"]).values(**nobody, **no_way_in))
    audit.append(tx, now, actor, "forget user", row["public_id"], after=_told(removed))
    return Forgotten(row["public_id"], removed, _held(tx, exported.c.annotator_id == row["id"]))


def forget_task(
    tx: Connection, now: datetime, project_id: int, external_id: str, actor: str = audit.COMMAND_LINE
) -> Forgotten:
    """Withdraw a task and remove its prompt, its outputs and every text that people wrote about it.

    Its id stays, so that importing the same record again does not bring it back. Raises UserError if the
    project has no task of this id, or it is forgotten already.
    """
    t = tasks.c
    wanted = select(t.id, t.sha256).where(t.project_id == project_id, t.external_id == external_id)
    found = tx.execute(wanted).first()
    if found is None:
        raise UserError(f'the project has no task "{external_id}"')
    # Everybody's requests begin with a lock on the person. With all of them held nobody is in the midst of
    # leasing or judging this task, and its assignments can be changed after it without a deadlock.
    tx.execute(select(annotators.c.id).order_by(annotators.c.id).with_for_update())
    task = tx.execute(wanted.with_for_update()).one()
    if not task.sha256:
        raise UserError(f'task "{external_id}" is forgotten already')
    given = select(assignments.c.id).where(assignments.c.task_id == task.id)
    removed = _remove_said(tx, given)
    about = adjudications.c.task_id == task.id
    removed["rationales"] += _blank(tx, adjudications, adjudications.c.rationale, about)
    leased = (assignments.c.task_id == task.id) & (assignments.c.state == "leased")
    tx.execute(update(assignments).where(leased).values(state="expired"))
    removed["outputs"] = tx.execute(delete(completions).where(completions.c.task_id == task.id)).rowcount
    removed["prompts"] = 1
    empty = {"prompt": [], "extra": {}, "gold": null(), "sha256": "", "status": "withdrawn"}
    tx.execute(update(tasks).where(t.id == task.id).values(**empty))
    audit.append(tx, now, actor, "forget task", f"task/{task.id}", after=_told(removed))
    return Forgotten(external_id, removed, _held(tx, exported.c.task_id == task.id))


def projects_with_task(connection: Connection, external_id: str) -> list[RowMapping]:
    """Id and name of every project with a task of this record id."""
    wanted = select(projects.c.id, projects.c.name).join(tasks, tasks.c.project_id == projects.c.id)
    found = wanted.where(tasks.c.external_id == external_id).order_by(projects.c.id)
    return list(connection.execute(found).mappings())


def _remove_said(tx: Connection, given: Any) -> Counter[str]:
    """Remove every text that was written in these assignments; drafts go altogether."""
    made, raised = judgments.c.assignment_id.in_(given), flags.c.assignment_id.in_(given)
    return Counter(
        {
            "rationales": _blank(tx, judgments, judgments.c.rationale, made),
            "rewrites": _blank(tx, judgments, judgments.c.edited_text, made),
            "reasons": _blank(tx, flags, flags.c.reason, raised),
            "drafts": tx.execute(delete(drafts).where(drafts.c.assignment_id.in_(given))).rowcount,
        }
    )


def _blank(tx: Connection, table: Table, column: Column[Any], where: Any) -> int:
    """Set a JSON column to NULL; returns how many rows had something else than null in it."""
    rows = tx.execute(select(table.c.id, column).where(where))
    ids = [row.id for row in rows if row[1] is not None]
    for start in range(0, len(ids), 500):
        some = table.c.id.in_(ids[start : start + 500])
        tx.execute(update(table).where(some).values({column: null()}))
    return len(ids)


def _told(removed: Counter[str]) -> dict[str, int]:
    return {kind: count for kind, count in removed.items() if count}


def _held(connection: Connection, where: Any) -> list[RowMapping]:
    e = exports.c
    held = exists().where(exported.c.export_id == e.id, where)
    wanted = (
        select(e.name, e.fingerprint, e.rows, e.actor, e.created_at, projects.c.name.label("project"))
        .join(projects, projects.c.id == e.project_id)
        .where(held)
        .order_by(e.id)
    )
    return list(connection.execute(wanted).mappings())
