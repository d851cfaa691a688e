"""What the annotate page calls. Every route authorises by itself, and names tasks only by opaque ids."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, RowMapping, select

from labeling_app.auth import Annotator, store_of
from labeling_app.render import render
from labeling_app.store import judging, queue
from labeling_app.store.database import stamp, utcnow
from labeling_app.store.models import completions, projects, tasks

LETTERS = "ABCDEFGH"
RENDERED_ROLES = ("assistant",)  # what people and programs wrote is shown as it was written

router = APIRouter(prefix="/api")


class DraftBody(BaseModel):
    """Unfinished work. `payload` is the page's own; it is given back as it came."""

    model_config = ConfigDict(extra="forbid")
    client_seq: Annotated[int, Field(ge=1, le=2**31 - 1)]
    payload: dict[str, Any]


class JudgmentBody(BaseModel):
    """A judgment as the page sees it: `ranks` in the order in which the outputs are shown."""

    model_config = ConfigDict(extra="forbid")
    submit_key: Annotated[str, Field(pattern=r"^[0-9A-Za-z-]{16,64}$")]
    revision: Annotated[int, Field(ge=1, le=10_000)] = 1
    ranks: Annotated[list[Annotated[int, Field(ge=1, le=99)] | None], Field(max_length=len(LETTERS))]
    all_bad: bool = False
    seconds: Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)] | None = None
    guideline_version: int | None = None


@router.get("/me")
def me(annotator: Annotator) -> dict[str, Any]:
    """Who is signed in."""
    return {"login": annotator["login"], "role": annotator["role"]}


@router.post("/next")
def next_task(request: Request, annotator: Annotator) -> dict[str, Any]:
    """Lease the task to work on, with its draft if there is one; {"task": null} when nothing is left."""
    now = utcnow()
    with store_of(request).write() as tx:
        assignment = queue.lease_task(tx, annotator["id"], now)
        task = None if assignment is None else _shown_task(tx, assignment)
        progress = queue.progress(tx, annotator["id"], now)
    if task is not None:
        _render_task(task)
    return {"task": task, "progress": _shown_progress(progress, task is not None)}


@router.put("/assignments/{public_id}/draft")
def put_draft(public_id: str, body: DraftBody, request: Request, annotator: Annotator) -> dict[str, Any]:
    """Keep unfinished work and renew the lease. {"live": false}: the task was given to others meanwhile."""
    with store_of(request).write() as tx:
        live = judging.save_draft(tx, annotator, public_id, body.client_seq, body.payload, utcnow())
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
        order = assignment["presented_order"]
        if len(body.ranks) != len(order):
            raise queue.Refusal(422, f"There are {len(order)} outputs, and {len(body.ranks)} ranks came.")
        by_ordinal = dict(zip(order, body.ranks, strict=True))
        answer = judging.Answer(
            ranks=[by_ordinal[ordinal] for ordinal in range(len(order))],
            all_bad=body.all_bad,
            seconds=body.seconds,
            guideline_version=body.guideline_version,
        )
        saved = judging.submit(tx, annotator, public_id, body.submit_key, body.revision, answer, now)
        progress = queue.progress(tx, annotator["id"], now)
    return {
        "saved_at": stamp(saved.judgment["created_at"]),
        "late": saved.judgment["late"],
        "repeated": saved.repeated,
        "progress": _shown_progress(progress, False),
    }


@router.post("/assignments/{public_id}/skip")
def skip(public_id: str, request: Request, annotator: Annotator) -> dict[str, Any]:
    """Give the task to others; it does not come back."""
    with store_of(request).write() as tx:
        queue.skip(tx, annotator, public_id, utcnow())
    return {"skipped": True}


def _shown_task(tx: Connection, assignment: RowMapping) -> dict[str, Any]:
    """All that a browser gets of a task: no source, no id of a record, and outputs in this person's order."""
    wanted = (
        select(tasks.c.prompt, projects.c.name, projects.c.guideline, projects.c.guideline_version)
        .join(projects, projects.c.id == tasks.c.project_id)
        .where(tasks.c.id == assignment["task_id"])
    )
    task = tx.execute(wanted).one()
    rows = tx.execute(select(completions).where(completions.c.task_id == assignment["task_id"]))
    outputs = {row.ordinal: row for row in rows}
    draft = judging.load_draft(tx, assignment["id"])
    return {
        "id": assignment["public_id"],
        "project": task.name,
        "guideline": {"version": task.guideline_version, "text": task.guideline},
        "turns": [_turn(message) for message in task.prompt],
        "outputs": [
            {"letter": letter, "turns": _output_turns(outputs[ordinal])}
            for letter, ordinal in zip(LETTERS, assignment["presented_order"], strict=False)
        ],
        "draft": None if draft is None else dict(draft),
    }


def _output_turns(row: Any) -> list[dict[str, str]]:
    messages = row.extra.get("messages") or [{"role": "assistant", "content": row.content or ""}]
    return [_turn(message) for message in messages]


def _turn(message: dict[str, Any]) -> dict[str, str]:
    calls = [f"{call}" for call in message.get("tool_calls") or ()]
    return {"role": message["role"], "text": "\n".join([message.get("content", ""), *calls]).strip("\n")}


def _render_task(task: dict[str, Any]) -> None:
    """Add HTML where Markdown is rendered; outside the transaction, so that it holds no lock."""
    task["guideline"] = {"version": task["guideline"]["version"], "html": render(task["guideline"]["text"])}
    for turn in [*task["turns"], *(turn for output in task["outputs"] for turn in output["turns"])]:
        if turn["role"] in RENDERED_ROLES:
            turn["html"] = render(turn["text"])


def _shown_progress(progress: queue.Progress, with_task: bool) -> dict[str, Any]:
    return {
        "done": progress.done,
        "left": progress.left + with_task,
        "left_is_more": progress.left >= queue.COUNT_LIMIT,
        "held": progress.held,
        "free_at": None if progress.free_at is None else stamp(progress.free_at),
    }
