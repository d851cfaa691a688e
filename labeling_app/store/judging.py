"""Drafts and judgments: what people say about a task, kept so that none is lost and none counts twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from labeling_app.store import audit, forms, outbox, queue
from labeling_app.store.models import assignments, completions, drafts, flags, judgments, projects, tasks
from labeling_app.store.queue import Refusal, lock_annotator, own_assignment, renew


@dataclass(frozen=True)
class Answer:
    """One judgment as it is stored: everything by ordinal, that is in the record's order of completions.

    ranks: 1 is best, equal is a tie, None is not judged. None for the whole list: nothing was ranked.
    seconds: active time on the page, as the browser measured it.
    strength: of a decided pair, 1 (slightly better) to the project's number of steps.
    ratings: {dimension: one number per output}. edited_text: {"from": ordinal, "text": the better answer}.
    flag: why a reviewer should look at the task.
    """

    ranks: list[int | None] | None
    all_bad: bool = False
    seconds: float | None = None
    guideline_version: int | None = None
    strength: int | None = None
    ratings: forms.Ratings | None = None
    rationale: str | None = None
    edited_text: dict[str, Any] | None = None
    flag: str | None = None


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
    Raises Refusal: 404 not the annotator's, 409 already judged (or skipped, or a key of another task, or an
    edit where the answer has been shown), 422 what the project's form does not take (store/forms.py).
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
    again = last is not None and assignment["state"] != "submitted"  # a practice task, in another round
    expected = (last["revision"] if last else 0) + 1
    if revision != expected and not again:
        raise Refusal(409, "This task was judged already, perhaps in another window.")
    in_time = assignment["state"] == "leased" and assignment["leased_until"] > now
    task = _locked_task(tx, assignment["task_id"])
    if last and not again and not editable(task):
        raise Refusal(409, "This task can no longer be changed.")
    row = {
        "assignment_id": assignment["id"],
        "revision": expected,
        "submit_key": submit_key,
        **_checked(answer, task),
        "seconds": _seconds(answer.seconds, (now - assignment["created_at"]).total_seconds()),
        "guideline_version": _version(answer.guideline_version, task["guideline_version"]),
        "late": last["late"] if last and not again else not in_time,
        "created_at": now,
    }
    judgment = tx.execute(insert(judgments).values(**row).returning(judgments)).mappings().one()
    if last is None:
        _count(tx, task)
    if last is None or again:
        tx.execute(update(assignments).where(assignments.c.id == assignment["id"]).values(state="submitted"))
    outbox.tell(tx, now, judgment["id"], task["id"])
    if answer.flag is not None:
        _add_flag(tx, assignment["id"], "flag", answer.flag, now)
    tx.execute(delete(drafts).where(drafts.c.assignment_id == assignment["id"]))
    content = {key: value for key, value in row.items() if key not in ("submit_key", "created_at")}
    audit.append(
        tx,
        now,
        annotator["public_id"],
        "submit",
        f"assignment/{assignment['id']}",
        before=last["revision"] if last else None,
        after={"revision": expected, "late": row["late"], "sha256": audit.digest(content)},
    )
    return Saved(judgment, repeated=False)


def give_up(
    tx: Connection, annotator: RowMapping, public_id: str, kind: str, reason: str | None, now: datetime
) -> None:
    """Skip a task for good, and keep why. Doing it twice is one skip with one reason.

    kind: "skip"; "flag", which needs a reason; "content", when a person does not want to read this.
    Raises Refusal 404, 409 when it is judged, 422.
    """
    lock_annotator(tx, annotator["id"])
    assignment = own_assignment(tx, annotator["id"], public_id)
    if assignment["state"] == "skipped":
        return
    queue.skip(tx, annotator, public_id, now)
    _add_flag(tx, assignment["id"], kind, reason, now)
    tx.execute(delete(drafts).where(drafts.c.assignment_id == assignment["id"]))


def editable(task: Any) -> bool:
    """Whether a judgment of this task may be changed: not where the right answer was told, nor once it is
    withdrawn."""
    told = task["is_practice"] or (task["is_gold"] and task["gold_feedback"])
    return not told and task["status"] != "withdrawn"


def save_draft(
    tx: Connection,
    annotator: RowMapping,
    public_id: str,
    client_seq: int,
    payload: Any,
    now: datetime,
    revision: int = 1,
) -> bool:
    """Keep unfinished work if its `client_seq` is higher than the stored draft's, and renew the lease.

    revision: what the work is to become; above 1 it changes a judgment, which needs no lease.
    Returns whether the lease is live. Raises Refusal 404 or, for a task that is done, 409.
    """
    assignment = own_assignment(tx, annotator["id"], public_id)
    if assignment["state"] == "skipped":
        raise Refusal(409, "This task is done.")
    editing = assignment["state"] == "submitted"
    if editing:
        last = _last_judgment(tx, assignment["id"])
        if revision != (last["revision"] if last else 0) + 1:
            raise Refusal(409, "This task is done.")
    stored = tx.scalar(select(drafts.c.client_seq).where(drafts.c.assignment_id == assignment["id"]))
    values = {"payload": payload, "client_seq": client_seq, "updated_at": now}
    if stored is None:
        tx.execute(insert(drafts).values(assignment_id=assignment["id"], **values))
    elif client_seq > stored:
        tx.execute(update(drafts).where(drafts.c.assignment_id == assignment["id"]).values(**values))
    return editing or renew(tx, assignment, now)


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
                tasks.c.is_gold,
                tasks.c.is_practice,
                projects.c.asks,
                projects.c.form,
                projects.c.gold_feedback,
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


def _checked(answer: Answer, task: RowMapping) -> dict[str, Any]:
    asks, k, bad = task["asks"], task["k"], answer.all_bad
    form = forms.parse_form(asks, task["form"])
    if bad and asks == "ratings":
        raise Refusal(422, "This project asks for ratings; all bad says nothing there.")
    ranks = forms.check_ranks(asks, answer.ranks, bad, k)
    return {
        "ranks": ranks,
        "both_bad": bad,
        "strength": forms.check_strength(asks, form, answer.strength, ranks, bad),
        "ratings": forms.check_ratings(asks, form, answer.ratings, bad, k),
        "rationale": forms.check_rationale(form, answer.rationale),
        "edited_text": forms.check_rewrite(form, answer.edited_text, k),
    }


def _add_flag(tx: Connection, assignment_id: int, kind: str, reason: str | None, now: datetime) -> None:
    words = (reason or "").strip()
    if len(words) > forms.MAX_REASON:
        raise Refusal(422, f"A reason has at most {forms.MAX_REASON:,} characters.")
    if kind == "flag" and not words:
        raise Refusal(422, "Say what is wrong with this task.")
    if words or kind != "skip":
        tx.execute(
            insert(flags).values(assignment_id=assignment_id, kind=kind, reason=words or None, created_at=now)
        )


def _seconds(measured: float | None, since_lease: float) -> float | None:
    return None if measured is None else round(min(max(measured, 0.0), max(since_lease, 0.0)), 1)


def _version(seen: int | None, current: int) -> int:
    return seen if seen is not None and 1 <= seen <= current else current
