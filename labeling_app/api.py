"""What the annotate page calls. Every route authorises by itself, and names tasks only by opaque ids."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from labeling_app.auth import Annotator, store_of
from labeling_app.render import render
from labeling_app.shown import (
    LETTERS,
    render_task,
    shown_history,
    shown_judgment,
    shown_pace,
    shown_progress,
    shown_task,
)
from labeling_app.start import shown_feedback, shown_gate
from labeling_app.store import forms, gold, history, judging, queue
from labeling_app.store.database import stamp, utcnow
from labeling_app.store.models import assignments, guidelines, tasks
from labeling_app.store.progress import pace

router = APIRouter(prefix="/api")


class DraftBody(BaseModel):
    """Unfinished work. `payload` is the page's own; it is given back as it came."""

    model_config = ConfigDict(extra="forbid")
    client_seq: Annotated[int, Field(ge=1, le=2**31 - 1)]
    revision: Annotated[int, Field(ge=1, le=10_000)] = 1
    payload: dict[str, Any]


class RewriteBody(BaseModel):
    """A better answer, and which of the shown outputs it started from (0 is the first)."""

    model_config = ConfigDict(extra="forbid")
    output: Annotated[int, Field(ge=0, lt=len(LETTERS))]
    text: Annotated[str, Field(max_length=forms.MAX_REWRITE)]


class JudgmentBody(BaseModel):
    """A judgment as the page sees it: every list is in the order in which the outputs are shown."""

    model_config = ConfigDict(extra="forbid")
    submit_key: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{16,64}$")]
    revision: Annotated[int, Field(ge=1, le=10_000)] = 1
    ranks: Annotated[list[Annotated[int, Field(ge=1, le=99)] | None], Field(max_length=len(LETTERS))]
    all_bad: bool = False
    strength: Annotated[int, Field(ge=1, le=3)] | None = None
    ratings: Annotated[
        dict[str, Annotated[list[int | None], Field(max_length=len(LETTERS))]],
        Field(max_length=forms.MAX_DIMENSIONS),
    ] = {}
    rationale: Annotated[str, Field(max_length=forms.MAX_RATIONALE)] | None = None
    edited_text: RewriteBody | None = None
    flag: Annotated[str, Field(max_length=forms.MAX_REASON)] | None = None
    seconds: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] | None = None
    guideline_version: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None

    def answer(self, order: list[int]) -> judging.Answer:
        """The same by ordinal: in the record's order of outputs."""
        rewrite = self.edited_text
        if rewrite is not None and rewrite.output >= len(order):
            raise queue.Refusal(422, f"There are {len(order)} outputs to start a better answer from.")
        return judging.Answer(
            ranks=forms.by_ordinal(self.ranks, order, "ranks"),
            all_bad=self.all_bad,
            seconds=self.seconds,
            guideline_version=self.guideline_version,
            strength=self.strength,
            ratings={
                name: forms.by_ordinal(values, order, "ratings") for name, values in self.ratings.items()
            },
            rationale=self.rationale,
            edited_text={"from": order[rewrite.output], "text": rewrite.text} if rewrite else None,
            flag=self.flag,
        )


class SkipBody(BaseModel):
    """Why a task is given up; "content": a person does not want to read it."""

    model_config = ConfigDict(extra="forbid")
    kind: Literal["skip", "flag", "content"] = "skip"
    reason: Annotated[str, Field(max_length=forms.MAX_REASON)] | None = None


@router.get("/me")
def me(annotator: Annotator) -> dict[str, Any]:
    """Who is signed in."""
    return {"login": annotator["login"], "role": annotator["role"]}


@router.post("/next")
def next_task(request: Request, annotator: Annotator) -> dict[str, Any]:
    """Lease the task to work on, with its draft if there is one; {"task": null} when nothing is left, or when
    `gate` says what comes before it (start.py)."""
    now = utcnow()
    with store_of(request).write() as tx:
        work = queue.next_work(tx, annotator["id"], now)
        task = None if work.assignment is None else shown_task(tx, work.assignment)
        progress = queue.progress(tx, annotator["id"], now)
    if task is not None:
        render_task(task)
    shown = shown_progress(progress, task is not None)
    return {"task": task, "gate": shown_gate(work.gate), "progress": shown}


@router.put("/assignments/{public_id}/draft")
def put_draft(public_id: str, body: DraftBody, request: Request, annotator: Annotator) -> dict[str, Any]:
    """Keep unfinished work and renew the lease. {"live": false}: the task was given to others meanwhile."""
    with store_of(request).write() as tx:
        live = judging.save_draft(
            tx, annotator, public_id, body.client_seq, body.payload, utcnow(), body.revision
        )
    return {"live": live}


@router.post("/assignments/{public_id}/heartbeat")
def heartbeat(public_id: str, request: Request, annotator: Annotator) -> dict[str, Any]:
    """Renew the lease of a task that is being read."""
    with store_of(request).write() as tx:
        assignment = queue.own_assignment(tx, annotator["id"], public_id)
        return {"live": queue.renew(tx, assignment, utcnow())}


@router.post("/assignments/{public_id}/judgment")
def post_judgment(
    public_id: str, body: JudgmentBody, request: Request, annotator: Annotator
) -> dict[str, Any]:
    """Store a judgment. The answer is sent after COMMIT: what it says is saved is on the disk."""
    now = utcnow()
    with store_of(request).write() as tx:
        assignment = queue.own_assignment(tx, annotator["id"], public_id)
        answer = body.answer(assignment["presented_order"])
        saved = judging.submit(tx, annotator, public_id, body.submit_key, body.revision, answer, now)
        told = gold.feedback(tx, assignment, saved.judgment, saved.repeated, now)
        progress = queue.progress(tx, annotator["id"], now)
    return {
        "saved_at": stamp(saved.judgment["created_at"]),
        "revision": saved.judgment["revision"],
        "late": saved.judgment["late"],
        "repeated": saved.repeated,
        "feedback": shown_feedback(told),
        "progress": shown_progress(progress, False),
    }


@router.post("/assignments/{public_id}/skip")
def skip(public_id: str, body: SkipBody, request: Request, annotator: Annotator) -> dict[str, Any]:
    """Give the task to others; it does not come back."""
    with store_of(request).write() as tx:
        judging.give_up(tx, annotator, public_id, body.kind, body.reason, utcnow())
    return {"skipped": True}


@router.get("/history")
def own_history(
    request: Request,
    annotator: Annotator,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """What this person has judged, the last one first."""
    with store_of(request).read() as connection:
        rows = history.judged(connection, annotator["id"], limit + 1, offset)
    return {"judged": [shown_history(row) for row in rows[:limit]], "more": len(rows) > limit}


@router.get("/pace")
def own_pace(request: Request, annotator: Annotator) -> dict[str, Any]:
    """How much this person has judged, in all and in the last 24 hours, and in what time (active seconds)."""
    with store_of(request).read() as connection:
        return shown_pace(pace(connection, annotator["id"], utcnow()))


@router.get("/assignments/{public_id}")
def judged_task(public_id: str, request: Request, annotator: Annotator) -> dict[str, Any]:
    """A task that this person has judged, with what was said: to look at, and to change as a new revision."""
    with store_of(request).read() as connection:
        assignment, judgment = history.own_judgment(connection, annotator["id"], public_id)
        task = shown_task(connection, assignment)
    render_task(task)
    return {"task": task, "judgment": shown_judgment(assignment, judgment)}


@router.get("/assignments/{public_id}/guideline/{version}")
def older_guideline(
    public_id: str, version: Annotated[int, Path(ge=1, le=2**31 - 1)], request: Request, annotator: Annotator
) -> dict[str, Any]:
    """The guideline as it was in an earlier version: rendered, and as it was written."""
    with store_of(request).read() as connection:
        text = connection.scalar(
            select(guidelines.c.text)
            .join(tasks, tasks.c.project_id == guidelines.c.project_id)
            .join(assignments, assignments.c.task_id == tasks.c.id)
            .where(
                assignments.c.public_id == public_id,
                assignments.c.annotator_id == annotator["id"],
                guidelines.c.version == version,
            )
        )
    if text is None:
        raise queue.Refusal(404, "There is no such version.")
    return {"version": version, "html": render(text), "text": text}
