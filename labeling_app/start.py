"""What comes before a person's first task in a project, as the page asks for it: consent, content warning,
practice, and which of several projects comes first. Every route authorises by itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from labeling_app.auth import Annotator, store_of
from labeling_app.render import render
from labeling_app.store import enrolment, queue
from labeling_app.store.database import utcnow
from labeling_app.store.queue import Gate

router = APIRouter(prefix="/api/start")


class ProjectBody(BaseModel):
    """A project, by the name that its gate has."""

    model_config = ConfigDict(extra="forbid")
    project: Annotated[str, Field(min_length=1, max_length=200)]


class TextBody(ProjectBody):
    """What a person says to a text: `version` names the text that was on the screen."""

    version: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    agree: bool


@router.post("/consent")
def consent(body: TextBody, request: Request, annotator: Annotator) -> dict[str, Any]:
    """Agree to the consent text, or turn the project down."""
    return _answer_text(body, "consent", request, annotator)


@router.post("/warning")
def warning(body: TextBody, request: Request, annotator: Annotator) -> dict[str, Any]:
    """Go on after the content warning, or turn the project down: it is not offered again."""
    return _answer_text(body, "warning", request, annotator)


@router.post("/practice")
def practice(body: ProjectBody, request: Request, annotator: Annotator) -> dict[str, Any]:
    """Begin the practice round, or go on to the first task after it."""
    now = utcnow()
    with store_of(request).write() as tx:
        place = enrolment.begin(tx, now, annotator, body.project)
        if place.step == "practice":
            queue.begin_practice(tx, annotator["id"], place, now)
    return {"done": True}


@router.get("/projects")
def projects(request: Request, annotator: Annotator) -> dict[str, Any]:
    """The projects that have work for this person; the first one is where the next task comes from."""
    with store_of(request).read() as connection:
        found = queue.projects_with_work(connection, annotator["id"], utcnow())
    return {
        "projects": [
            {"name": place.name, "left": left, "left_is_more": left >= queue.COUNT_LIMIT}
            for place, left in found
        ]
    }


@router.post("/project")
def choose(body: ProjectBody, request: Request, annotator: Annotator) -> dict[str, Any]:
    """Take tasks of this project first. A task of another one goes back, with its draft."""
    with store_of(request).write() as tx:
        queue.change_project(tx, utcnow(), annotator, body.project)
    return {"done": True}


def shown_gate(gate: Gate | None) -> dict[str, Any] | None:
    """A gate for the page, its text rendered. Numbers of the practice round are tasks and shares."""
    if gate is None:
        return None
    if gate.kind == "choose":
        return {"kind": "choose"}  # the page asks for the projects, as it does when a person comes to change
    place = gate.places[0]
    shown: dict[str, Any] = {"kind": gate.kind, "project": place.name}
    if gate.kind in ("consent", "warning"):
        text = (place.consent if gate.kind == "consent" else place.warning) or ""
        return shown | {"version": enrolment.text_version(text), "html": render(text)}
    return shown | {
        "of": place.practice,
        "needed": place.practice_needed,
        "score": round(place.score, 4),
    }


def shown_feedback(told: dict[str, Any] | None) -> dict[str, Any] | None:
    """What store.gold.feedback said, with its explanation rendered."""
    if told is None:
        return None
    explanation = told.pop("explanation")
    return told | {"explanation_html": render(explanation) if explanation else None}


def _answer_text(
    body: TextBody, which: enrolment.Textual, request: Request, annotator: Annotator
) -> dict[str, Any]:
    now = utcnow()
    with store_of(request).write() as tx:
        if body.agree:
            enrolment.agree(tx, now, annotator, body.project, which, body.version)
        else:
            enrolment.decline(tx, now, annotator, body.project)
    return {"done": True}
