"""Drafts and judgments: what people say about a task, kept so that none is lost and none counts twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from labeling_app.store import audit
from labeling_app.store.models import assignments, completions, drafts, judgments, projects, tasks
from labeling_app.store.queue import Refusal, lock_annotator, own_assignment, renew


@dataclass(frozen=True)
class Answer:
    """One judgment as it is stored: everything by ordinal, that is in the record's order of completions.

    ranks: 1 is best, equal is a tie, None is not judged. None for the whole list: nothing was ranked.
    seconds: active time on the page, as the browser measured it.
    """

    ranks: list[int | None] | None
    all_bad: bool = False
    seconds: float | None = None
    guideline_version: int | None = None
    strength: Any = None
    ratings: Any = None
    rationale: str | None = None
    edited_text: Any = None


@dataclass(frozen=True)
class Saved:
    """A stored judgment. `repeated`: it was there already, under the same submit key."""

    judgment: RowMapping
    repeated: bool


def submit(
    tx: Connection,
    annotator: RowMapping,
    public_id: str,
    submit_key: str,
    revision: int,
    answer: Answer,
    now: datetime,
) -> Saved:
    """Store judgment, counter and audit row in one transaction; the caller's commit makes it so.

    revision: 1 for the first judgment of an assignment; an edit is the next number and a new row.
    The same `submit_key` again returns the row that it made, whatever else the request says. A judgment whose
    lease has ended is kept and flagged `late`.
    Raises Refusal: 404 not the annotator's, 409 already judged (or skipped, or a key of another task),
    422 ranks that are incomplete or of the wrong length.
    """
    lock_annotator(tx, annotator["id"])
    assignment = own_assignment(tx, annotator["id"], public_id)
    stored = tx.execute(select(judgments).where(judgments.c.submit_key == submit_key)).mappings().first()
    if stored is not None:
        if stored["assignment_id"] != assignment["id"]:
            raise Refusal(409, "This submit key belongs to another task.")
        return Saved(stored, repeated=True)
    if assignment["state"] == "skipped":
        raise Refusal(409, "You skipped this task.")
    last = _last_judgment(tx, assignment["id"])
    if revision != (last["revision"] if last else 0) + 1:
        raise Refusal(409, "This task was judged already, perhaps in another window.")
    in_time = assignment["state"] == "leased" and assignment["leased_until"] > now
    task = _locked_task(tx, assignment["task_id"])
    row = {
        "assignment_id": assignment["id"],
        "revision": revision,
        "submit_key": submit_key,
        "ranks": _checked_ranks(answer, task["k"]),
        "both_bad": answer.all_bad,
        "strength": answer.strength,
        "ratings": answer.ratings,
        "rationale": answer.rationale,
        "edited_text": answer.edited_text,
        "seconds": _seconds(answer.seconds, (now - assignment["created_at"]).total_seconds()),
        "guideline_version": _version(answer.guideline_version, task["guideline_version"]),
        "late": last["late"] if last else not in_time,
        "created_at": now,
    }
    judgment = tx.execute(insert(judgments).values(**row).returning(judgments)).mappings().one()
    if last is None:
        _count(tx, task)
        tx.execute(update(assignments).where(assignments.c.id == assignment["id"]).values(state="submitted"))
    tx.execute(delete(drafts).where(drafts.c.assignment_id == assignment["id"]))
    content = {key: value for key, value in row.items() if key not in ("submit_key", "created_at")}
    audit.append(
        tx,
        now,
        annotator["public_id"],
        "submit",
        f"assignment/{assignment['id']}",
        before=last["revision"] if last else None,
        after={"revision": revision, "late": row["late"], "sha256": audit.digest(content)},
    )
    return Saved(judgment, repeated=False)


def save_draft(
    tx: Connection, annotator: RowMapping, public_id: str, client_seq: int, payload: Any, now: datetime
) -> bool:
    """Keep unfinished work if its `client_seq` is higher than the stored draft's, and renew the lease.

    Returns whether the lease is live. Raises Refusal 404 or, for a task that is done, 409.
    """
    assignment = own_assignment(tx, annotator["id"], public_id)
    if assignment["state"] in ("submitted", "skipped"):
        raise Refusal(409, "This task is done.")
    stored = tx.scalar(select(drafts.c.client_seq).where(drafts.c.assignment_id == assignment["id"]))
    values = {"payload": payload, "client_seq": client_seq, "updated_at": now}
    if stored is None:
        tx.execute(insert(drafts).values(assignment_id=assignment["id"], **values))
    elif client_seq > stored:
        tx.execute(update(drafts).where(drafts.c.assignment_id == assignment["id"]).values(**values))
    return renew(tx, assignment, now)


def load_draft(connection: Connection, assignment_id: int) -> RowMapping | None:
    """The draft's payload and client_seq, if there is one."""
    wanted = select(drafts.c.payload, drafts.c.client_seq).where(drafts.c.assignment_id == assignment_id)
    return connection.execute(wanted).mappings().first()


def _last_judgment(tx: Connection, assignment_id: int) -> RowMapping | None:
    wanted = select(judgments.c.revision, judgments.c.late).where(judgments.c.assignment_id == assignment_id)
    return tx.execute(wanted.order_by(judgments.c.revision.desc()).limit(1)).mappings().first()


def _locked_task(tx: Connection, task_id: int) -> RowMapping:
    count = select(func.count()).where(completions.c.task_id == tasks.c.id).scalar_subquery()
    return (
        tx.execute(
            select(
                tasks.c.id,
                tasks.c.version,
                tasks.c.n_judgments,
                tasks.c.n_required,
                tasks.c.status,
                projects.c.guideline_version,
                count.label("k"),
            )
            .join(projects, projects.c.id == tasks.c.project_id)
            .where(tasks.c.id == task_id)
            .with_for_update(of=tasks)
        )
        .mappings()
        .one()
    )


def _count(tx: Connection, task: RowMapping) -> None:
    judged = task["n_judgments"] + 1
    status = "done" if task["status"] == "open" and judged >= task["n_required"] else task["status"]
    changed = tx.execute(
        update(tasks)
        .where(tasks.c.id == task["id"], tasks.c.version == task["version"])
        .values(n_judgments=judged, status=status, version=task["version"] + 1)
    )
    if changed.rowcount != 1:  # the row is locked: only a bug gets here, and then nothing may be stored
        raise RuntimeError(f"task {task['id']} changed while a judgment of it was stored")


def _checked_ranks(answer: Answer, k: int) -> list[int | None] | None:
    ranks = answer.ranks
    if ranks is not None and len(ranks) != k:
        raise Refusal(422, f"There are {k} outputs, and {len(ranks)} ranks came.")
    complete = ranks is not None and None not in ranks
    if not complete and not answer.all_bad:
        raise Refusal(422, "Every output needs a rank, unless all are bad.")
    if ranks is None or all(rank is None for rank in ranks):
        return None
    levels = sorted({rank for rank in ranks if rank is not None})
    if levels[0] < 1:
        raise Refusal(422, "The best rank is 1.")
    return [None if rank is None else levels.index(rank) + 1 for rank in ranks]


def _seconds(measured: float | None, since_lease: float) -> float | None:
    return None if measured is None else round(min(max(measured, 0.0), max(since_lease, 0.0)), 1)


def _version(seen: int | None, current: int) -> int:
    return seen if seen is not None and 1 <= seen <= current else current
