"""What a browser gets of tasks and judgments: no source, no record id, outputs in this person's order."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, select

from labeling_app.render import render, render_asked
from labeling_app.store import enrolment, forms, judging, queue
from labeling_app.store.database import stamp
from labeling_app.store.models import assignments, completions, guidelines, judgments, projects, tasks
from labeling_app.store.progress import Pace

LETTERS = "ABCDEFGH"
RENDER = {"assistant": render, "user": render_asked, "system": render_asked}  # the rest as it was written
EXCERPT = 200  # characters of a prompt in a list


def shown_task(tx: Connection, assignment: RowMapping) -> dict[str, Any]:
    """A task for the page, with its draft; texts are not rendered yet (see `render_task`)."""
    wanted = (
        select(
            tasks.c.prompt,
            tasks.c.project_id,
            projects.c.name,
            projects.c.guideline,
            projects.c.guideline_version,
            projects.c.asks,
            projects.c.form,
        )
        .join(projects, projects.c.id == tasks.c.project_id)
        .where(tasks.c.id == assignment["task_id"])
    )
    task = tx.execute(wanted).one()
    rows = tx.execute(select(completions).where(completions.c.task_id == assignment["task_id"]))
    outputs = {row.ordinal: row for row in rows}
    draft = judging.load_draft(tx, assignment["id"])
    order = assignment["presented_order"]
    older = select(guidelines.c.version).where(
        guidelines.c.project_id == task.project_id, guidelines.c.version < task.guideline_version
    )
    return {
        "id": assignment["public_id"],
        "project": task.name,
        "asks": "ranking" if task.asks == "pair" and len(order) != 2 else task.asks,
        "form": msgspec.to_builtins(forms.parse_form(task.asks, task.form)),
        "guideline": {
            "version": task.guideline_version,
            "text": task.guideline,
            "read": _version_read(tx, assignment["annotator_id"], task),
            "older": sorted(tx.scalars(older), reverse=True),
        },
        "turns": [_turn(message) for message in task.prompt],
        "outputs": [
            {"letter": letter, "turns": output_turns(outputs[ordinal])}
            for letter, ordinal in zip(LETTERS, order, strict=False)
        ],
        "draft": None if draft is None else dict(draft),
        "practice": enrolment.practice_number(tx, assignment),
    }


def shown_judgment(assignment: RowMapping, judgment: RowMapping) -> dict[str, Any]:
    """What was said, with every list in the order in which the outputs are shown."""
    order = assignment["presented_order"]
    edited = judgment["edited_text"]
    return {
        "revision": judgment["revision"],
        "at": stamp(judgment["created_at"]),
        "ranks": in_shown_order(judgment["ranks"], order),
        "all_bad": judgment["both_bad"],
        "strength": judgment["strength"],
        "ratings": {
            name: in_shown_order(values, order) for name, values in (judgment["ratings"] or {}).items()
        },
        "rationale": judgment["rationale"] or "",
        "edited_text": edited and {"output": order.index(edited["from"]), "text": edited["text"]},
        "seconds": judgment["seconds"] or 0,
    }


def shown_history(row: RowMapping) -> dict[str, Any]:
    """One line of the list of a person's judgments."""
    return {
        "id": row["public_id"],
        "project": row["project"],
        "at": stamp(row["created_at"]),
        "revision": row["revision"],
        "ranks": in_shown_order(row["ranks"], row["presented_order"]),
        "all_bad": row["both_bad"],
        "excerpt": excerpt(row["prompt"]),
        "draft": row["draft"],
        "editable": judging.editable(row),
    }


def shown_progress(progress: queue.Progress, with_task: bool) -> dict[str, Any]:
    """How far a person is; `with_task`: one more is on the screen."""
    return {
        "done": progress.done,
        "left": progress.left + with_task,
        "left_is_more": progress.left >= queue.COUNT_LIMIT,
        "held": progress.held,
        "free_at": None if progress.free_at is None else stamp(progress.free_at),
    }


def shown_pace(pace: Pace) -> dict[str, Any]:
    """How much was judged and how fast; times in seconds."""
    day = {"judged": pace.day_judged, "seconds": pace.day_seconds}
    return {"judged": pace.judged, "seconds": pace.seconds, "day": day, "each": pace.each}


def render_task(task: dict[str, Any]) -> None:
    """Add HTML where Markdown is rendered; outside the transaction, so that it holds no lock."""
    guideline = task["guideline"]
    guideline["html"] = render(guideline["text"])
    for turn in [*task["turns"], *(turn for output in task["outputs"] for turn in output["turns"])]:
        if turn["role"] in RENDER:
            turn["html"] = RENDER[turn["role"]](turn["text"])


def in_shown_order(values: list[Any] | None, order: list[int]) -> list[Any] | None:
    """A list by ordinal, as the screen has it."""
    return None if values is None else [values[ordinal] for ordinal in order]


def _version_read(tx: Connection, annotator_id: int, task: Any) -> int | None:
    """The version of the guideline by which this person last judged in the project; None: there is one only,
    or nothing was judged yet."""
    if task.guideline_version == 1:
        return None
    mine = (assignments.c.annotator_id == annotator_id) & (assignments.c.state == "submitted")
    last = (
        select(judgments.c.guideline_version)
        .select_from(judgments.join(assignments).join(tasks))
        .where(mine, tasks.c.project_id == task.project_id)
        .order_by(assignments.c.id.desc(), judgments.c.revision.desc())
    )
    version: int | None = tx.scalar(last.limit(1))
    return version


def excerpt(prompt: list[dict[str, Any]]) -> str:
    asked = [message.get("content", "") for message in prompt if message["role"] == "user"]
    text = " ".join((asked[-1] if asked else "").split())
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"


def output_turns(row: Any) -> list[dict[str, str]]:
    messages = row.extra.get("messages") or [{"role": "assistant", "content": row.content or ""}]
    return [_turn(message) for message in messages]


def _turn(message: dict[str, Any]) -> dict[str, str]:
    calls = [f"{call}" for call in message.get("tool_calls") or ()]
    return {"role": message["role"], "text": "\n".join([message.get("content", ""), *calls]).strip("\n")}
