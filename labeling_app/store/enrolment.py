"""What one person still has to do in a project before its first task: consent, content warning, practice.

A text counts as agreed to for as long as it is the same text, byte by byte: another text is asked again.
Whoever turns a project down is never asked again and loses nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    Connection,
    RowMapping,
    Select,
    and_,
    false,
    func,
    insert,
    literal,
    select,
    true,
    update,
)

from alignment.errors import UserError
from labeling_app.store import audit
from labeling_app.store.models import annotators, enrolments, projects, tasks
from labeling_app.store.refusal import Refusal

Step = Literal["consent", "warning", "practice", "passed", "failed", "ready"]
Textual = Literal["consent", "warning"]


@dataclass(frozen=True)
class Place:
    """One person in one project: its texts and rules, and how far the person is.

    practice: tasks in the practice round, which are no more than the practice tasks that there are.
    practice_right: the sum of their scores (store/gold.py), each between 0 and 1.
    """

    project_id: int
    name: str
    gold_rate: float
    consent: str | None
    warning: str | None
    practice: int
    practice_needed: float
    consent_version: str | None
    warning_version: str | None
    practice_done: int
    practice_right: float
    qualified_at: datetime | None
    chosen_at: datetime | None

    @property
    def step(self) -> Step:
        """What comes next. "passed": the practice round was good enough, and the person has not gone on."""
        if self.consent and self.consent_version != text_version(self.consent):
            return "consent"
        if self.warning and self.warning_version != text_version(self.warning):
            return "warning"
        if not self.practice or self.qualified_at is not None:
            return "ready"
        if self.practice_done < self.practice:
            return "practice"
        return "passed" if self.score >= self.practice_needed - 1e-9 else "failed"

    @property
    def score(self) -> float:
        """The share of the practice round that was right, 0 before it began."""
        return self.practice_right / self.practice_done if self.practice_done else 0.0


def text_version(text: str) -> str:
    """SHA-256 of a text, in hex: its name in the audit log and beside a person's agreement."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def places(connection: Connection, annotator_id: int) -> list[Place]:
    """The active projects that this person has not turned down: the one chosen last, then by age."""
    wanted = _places(annotator_id).where(projects.c.active, enrolments.c.declined_at.is_(None))
    found = [_place(row) for row in connection.execute(wanted.order_by(projects.c.id)).mappings()]
    chosen = max((place for place in found if place.chosen_at), key=_chosen_at, default=None)
    return found if chosen is None else [chosen, *(place for place in found if place is not chosen)]


def place_in(connection: Connection, annotator_id: int, project: str) -> Place:
    """This person in the project of that name. Raises Refusal 404 if there is none to work in."""
    wanted = _places(annotator_id).where(
        projects.c.name == project, projects.c.active, enrolments.c.declined_at.is_(None)
    )
    row = connection.execute(wanted).mappings().first()
    if row is None:
        raise Refusal(404, "There is no such project for you.")
    return _place(row)


def place_of(connection: Connection, annotator_id: int, project_id: int) -> Place:
    """This person in this project, turned down or not."""
    wanted = _places(annotator_id).where(projects.c.id == project_id)
    return _place(connection.execute(wanted).mappings().one())


def agree(
    tx: Connection, now: datetime, annotator: RowMapping, project: str, which: Textual, version: str
) -> None:
    """Keep that the person agreed to the consent text, or goes on after the warning.

    version: of the text that was on the screen. Raises Refusal 409 if the project has another one by now.
    """
    lock_annotator(tx, annotator["id"])
    place = place_in(tx, annotator["id"], project)
    text = place.consent if which == "consent" else place.warning
    if not text or text_version(text) != version:
        raise Refusal(409, "This text was changed meanwhile. Please read it again.")
    when = "consented_at" if which == "consent" else "warned_at"
    _put(tx, annotator["id"], place.project_id, {when: now, f"{which}_version": version})
    _log(tx, now, annotator["public_id"], which, place.project_id, {"version": version})


def decline(tx: Connection, now: datetime, annotator: RowMapping, project: str) -> None:
    """Turn a project down: its tasks are never offered again, and what was done in it stays."""
    lock_annotator(tx, annotator["id"])
    place = place_in(tx, annotator["id"], project)
    _put(tx, annotator["id"], place.project_id, {"declined_at": now})
    _log(tx, now, annotator["public_id"], "decline", place.project_id, {"step": place.step})


def choose(tx: Connection, now: datetime, annotator: RowMapping, project: str) -> Place:
    """Make this the project whose tasks come first."""
    lock_annotator(tx, annotator["id"])
    place = place_in(tx, annotator["id"], project)
    _put(tx, annotator["id"], place.project_id, {"chosen_at": now})
    return place


def begin(tx: Connection, now: datetime, annotator: RowMapping, project: str) -> Place:
    """Go on from the practice round's introduction or from its result; returns where the person was."""
    lock_annotator(tx, annotator["id"])
    place = place_in(tx, annotator["id"], project)
    if place.step == "passed":
        _put(tx, annotator["id"], place.project_id, {"qualified_at": now})
        _log(tx, now, annotator["public_id"], "qualify", place.project_id, _result(place))
    elif place.step != "practice":
        raise Refusal(409, "There is nothing to practise here now.")
    return place


def practice_number(connection: Connection, assignment: RowMapping) -> dict[str, int] | None:
    """For a practice task that is being worked on: which of how many it is; None for any other task."""
    project_id = connection.scalar(
        select(tasks.c.project_id).where(tasks.c.id == assignment["task_id"], tasks.c.is_practice == true())
    )
    if project_id is None or assignment["state"] == "submitted":
        return None
    place = place_of(connection, assignment["annotator_id"], project_id)
    return {"number": place.practice_done + 1, "of": place.practice}


def count_practice(tx: Connection, now: datetime, annotator_id: int, project_id: int, score: float) -> Place:
    """Add one practice task with its score (0 to 1) to the round; returns where the person is now."""
    mine = and_(enrolments.c.annotator_id == annotator_id, enrolments.c.project_id == project_id)
    done, right = enrolments.c.practice_done, enrolments.c.practice_right
    changed = tx.execute(
        update(enrolments).where(mine).values(practice_done=done + 1, practice_right=right + score)
    )
    if not changed.rowcount:
        _put(tx, annotator_id, project_id, {"practice_done": 1, "practice_right": score})
    place = place_of(tx, annotator_id, project_id)
    if place.step in ("passed", "failed"):
        name = tx.scalar(select(annotators.c.public_id).where(annotators.c.id == annotator_id)) or ""
        _log(tx, now, name, f"practice {place.step}", project_id, _result(place))
    return place


def try_again(tx: Connection, now: datetime, actor: str, annotator_id: int, project_id: int) -> None:
    """An admin gives a person another practice round."""
    values = {"practice_done": 0, "practice_right": 0.0, "qualified_at": None}
    _decide(tx, now, actor, "practice again", annotator_id, project_id, values)


def qualify(tx: Connection, now: datetime, actor: str, annotator_id: int, project_id: int) -> None:
    """An admin lets a person work whatever the practice round said."""
    _decide(tx, now, actor, "qualify", annotator_id, project_id, {"qualified_at": now})


def let_back(tx: Connection, now: datetime, actor: str, annotator_id: int, project_id: int) -> None:
    """An admin asks a person again who has turned the project down."""
    _decide(tx, now, actor, "let back", annotator_id, project_id, {"declined_at": None})


def overview(connection: Connection, project_id: int) -> list[dict[str, Any]]:
    """Everybody who has begun in a project, by login: for the admin's pages.

    `state` is a Step or "declined"; `score` is of the practice round, None before it began.
    """
    people = connection.execute(
        select(annotators.c.id, annotators.c.public_id, annotators.c.login, enrolments.c.declined_at)
        .join(enrolments, enrolments.c.annotator_id == annotators.c.id)
        .where(enrolments.c.project_id == project_id)
        .order_by(annotators.c.login)
    ).all()
    rows = []
    for person in people:
        place = place_of(connection, person.id, project_id)
        rows.append(
            {
                "annotator_id": person.id,
                "public_id": person.public_id,
                "login": person.login,
                "state": "declined" if person.declined_at else place.step,
                "practice_done": place.practice_done,
                "practice": place.practice,
                "score": place.score if place.practice_done else None,
            }
        )
    return rows


def lock_annotator(tx: Connection, annotator_id: int) -> None:
    """Let one request of a person run after the other. Locks are taken in this order everywhere, so that
    no two transactions wait for each other: annotator, assignment, task, audit log."""
    tx.execute(select(annotators.c.id).where(annotators.c.id == annotator_id).with_for_update())


def _places(annotator_id: int) -> Select[Any]:
    there = (
        select(func.count())
        .where(
            tasks.c.project_id == projects.c.id,
            tasks.c.status == "open",
            tasks.c.is_gold == false(),
            tasks.c.is_practice == true(),
            projects.c.practice_tasks > literal(0),
        )
        .correlate(projects)
        .scalar_subquery()
    )
    p, e = projects.c, enrolments.c
    return select(
        p.id.label("project_id"),
        p.name,
        p.gold_rate,
        p.consent,
        p.warning,
        p.practice_tasks,
        p.practice_needed,
        there.label("there"),
        e.consent_version,
        e.warning_version,
        func.coalesce(e.practice_done, 0).label("practice_done"),
        func.coalesce(e.practice_right, 0.0).label("practice_right"),
        e.qualified_at,
        e.chosen_at,
    ).outerjoin(enrolments, and_(e.project_id == p.id, e.annotator_id == annotator_id))


def _place(row: RowMapping) -> Place:
    values = dict(row)
    practice = min(values.pop("practice_tasks"), values.pop("there"))
    return Place(**values, practice=practice)


def _chosen_at(place: Place) -> datetime:
    return place.chosen_at or datetime.min


def _result(place: Place) -> dict[str, Any]:
    return {"done": place.practice_done, "score": round(place.score, 4)}


def _put(tx: Connection, annotator_id: int, project_id: int, values: dict[str, Any]) -> None:
    """Set columns of the person's row, which is made if it is not there: the person is locked."""
    mine = and_(enrolments.c.annotator_id == annotator_id, enrolments.c.project_id == project_id)
    if not tx.execute(update(enrolments).where(mine).values(**values)).rowcount:
        tx.execute(insert(enrolments).values(annotator_id=annotator_id, project_id=project_id, **values))


def _decide(
    tx: Connection,
    now: datetime,
    actor: str,
    action: str,
    annotator_id: int,
    project_id: int,
    values: dict[str, Any],
) -> None:
    name = tx.scalar(select(annotators.c.public_id).where(annotators.c.id == annotator_id))
    if name is None or tx.scalar(select(projects.c.id).where(projects.c.id == project_id)) is None:
        raise UserError("there is no such person or no such project")
    lock_annotator(tx, annotator_id)
    _put(tx, annotator_id, project_id, values)
    _log(tx, now, actor, action, project_id, {"annotator": name})


def _log(
    tx: Connection, now: datetime, actor: str, action: str, project_id: int, after: dict[str, Any]
) -> None:
    audit.append(tx, now, actor, action, f"project/{project_id}", after=after)
