"""Projects: what they ask, their guideline in versions, and how far each is."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, case, exists, false, func, insert, select, update

from alignment.errors import UserError
from labeling_app.store import audit
from labeling_app.store.forms import parse_form
from labeling_app.store.models import assignments, guidelines, judgments, projects, tasks

MAX_TEXT = 50_000  # characters of a guideline, a consent text, a warning


@dataclass(frozen=True)
class Settings:
    """All that an admin decides of a project. gold_rate, practice_needed: shares between 0 and 1."""

    name: str
    guideline: str
    asks: str = "ranking"
    form: dict[str, Any] | None = None
    overlap: int = 1
    gold_rate: float = 0.0
    gold_feedback: bool = False
    consent: str | None = None
    warning: str | None = None
    practice_tasks: int = 0
    practice_needed: float = 0.0
    active: bool = True


def add(tx: Connection, now: datetime, actor: str, settings: Settings) -> int:
    """Make a project; returns its id. Raises UserError for a setting that is no good, or a name in use."""
    row = _checked(tx, settings, None)
    number = tx.scalar(insert(projects).values(**row, created_at=now).returning(projects.c.id)) or 0
    keep_guideline(tx, now, number, 1, row["guideline"])
    told = {key: value for key, value in row.items() if key != "name"}
    audit.append(tx, now, actor, "project add", f"project/{number}", after=told)
    return number


def change(tx: Connection, now: datetime, actor: str, project_id: int, settings: Settings) -> list[str]:
    """Give a project other settings; returns the names of those that changed.

    Another guideline is a new version, and another overlap changes what every task needs. Raises UserError,
    also where what is asked would change after somebody has judged.
    """
    row = tx.execute(select(projects).where(projects.c.id == project_id).with_for_update()).mappings().first()
    if row is None:
        raise UserError("there is no such project any more")
    wanted = _checked(tx, settings, project_id)
    changes = {key: value for key, value in wanted.items() if not _same(key, value, row)}
    if "asks" in changes and has_judgments(tx, project_id):
        raise UserError(
            f"this project asks for {row['asks']} and has judgments already; "
            f"make another project for {settings.asks}"
        )
    apply_changes(tx, now, actor, row, changes)
    return list(changes)


def apply_changes(
    tx: Connection, now: datetime, actor: str, row: RowMapping, changes: dict[str, Any]
) -> None:
    """Write `changes` of a project's columns, with all that follows from them, and one row in the log."""
    if not changes:
        return
    version = row["guideline_version"] + 1
    numbered = {"guideline_version": version} if "guideline" in changes else {}
    tx.execute(update(projects).where(projects.c.id == row["id"]).values(**changes, **numbered))
    if "guideline" in changes:
        keep_guideline(tx, now, row["id"], version, changes["guideline"])
    if "overlap" in changes:
        _require(tx, row["id"], changes["overlap"])
    # The settings are the house's own, no person's data; a name may be one, and stands in `projects` alone.
    told = [key for key in changes if key != "name"]
    before, after = {key: row[key] for key in told}, {key: changes[key] for key in told}
    audit.append(tx, now, actor, "project change", f"project/{row['id']}", before=before, after=after)


def checked_name(name: str) -> str:
    """The name, if a project may have it. Raises UserError."""
    if not re.fullmatch(r"[^/\x00-\x1f\x7f]{1,200}", name) or name != name.strip():
        raise UserError(f"{name!r} is no name for a project: 1 to 200 characters on one line, without a /")
    return name


def keep_guideline(tx: Connection, now: datetime, project_id: int, version: int, text: str) -> None:
    """A judgment names the version that its maker saw, so every version's text is kept."""
    row = {"project_id": project_id, "version": version, "text": text, "created_at": now}
    tx.execute(insert(guidelines).values(**row))


def find(connection: Connection, project_id: int | None) -> RowMapping | None:
    """The project with this id; for None or an unknown one the first active one, else the first."""
    wanted = select(projects).order_by(projects.c.id != (project_id or 0), ~projects.c.active, projects.c.id)
    return connection.execute(wanted.limit(1)).mappings().first()


def project_id(connection: Connection, name: str) -> int:
    """The id of the project with this name. Raises UserError, naming those that there are."""
    rows = connection.execute(select(projects.c.name, projects.c.id).order_by(projects.c.name)).all()
    found = {row.name: row.id for row in rows}
    if name not in found:
        raise UserError(f'there is no project "{name}"; there are: {", ".join(found) or "none"}')
    return found[name]


def named(connection: Connection, project_id: int) -> RowMapping | None:
    """The project with this id, if there is one."""
    return connection.execute(select(projects).where(projects.c.id == project_id)).mappings().first()


def names(connection: Connection) -> list[RowMapping]:
    """Id and name of every project, the active ones first."""
    wanted = select(projects.c.id, projects.c.name, projects.c.active)
    return list(connection.execute(wanted.order_by(~projects.c.active, projects.c.name)).mappings())


def guideline_versions(connection: Connection, project_id: int) -> list[RowMapping]:
    """Every version of a project's guideline: version, text, created_at, the newest first."""
    g = guidelines.c
    wanted = select(g.version, g.text, g.created_at).where(g.project_id == project_id)
    return list(connection.execute(wanted.order_by(g.version.desc())).mappings())


def has_judgments(connection: Connection, project_id: int) -> bool:
    """Whether somebody has judged a task of this project."""
    made = judgments.join(assignments).join(tasks)
    wanted = select(exists().select_from(made).where(tasks.c.project_id == project_id))
    return bool(connection.scalar(wanted))


def counts(connection: Connection) -> list[RowMapping]:
    """Every project with its tasks (gold and practice apart) and the judgments done and wanted.

    No task counts more judgments as done than it needs.
    """
    t = tasks.c
    queued = and_(t.is_gold == false(), t.is_practice == false(), t.status != "withdrawn")
    enough = case((t.n_judgments < t.n_required, t.n_judgments), else_=t.n_required)
    wanted = (
        select(
            projects,
            _sum(queued, 1).label("tasks"),
            _sum(and_(queued, t.status == "done"), 1).label("tasks_done"),
            _sum(queued, enough).label("done"),
            _sum(queued, t.n_required).label("wanted"),
            _sum(and_(t.is_gold, t.status != "withdrawn"), 1).label("gold"),
            _sum(and_(t.is_practice, t.status != "withdrawn"), 1).label("practice"),
        )
        .outerjoin(tasks, t.project_id == projects.c.id)
        .group_by(projects.c.id)
        .order_by(~projects.c.active, projects.c.id)
    )
    return list(connection.execute(wanted).mappings())


def _same(key: str, value: Any, row: RowMapping) -> bool:
    if key == "form":
        return parse_form(row["asks"], value) == parse_form(row["asks"], row["form"])
    stored = row[key]
    return bool(value == (stored.strip() if isinstance(stored, str) else stored))


def _sum(condition: Any, value: Any) -> Any:
    return func.coalesce(func.sum(case((condition, value), else_=0)), 0)


def _require(tx: Connection, project_id: int, overlap: int) -> None:
    queued = (
        (tasks.c.project_id == project_id) & (tasks.c.is_gold == false()) & (tasks.c.is_practice == false())
    )
    tx.execute(update(tasks).where(queued).values(n_required=overlap))
    enough = tasks.c.n_judgments >= tasks.c.n_required
    tx.execute(update(tasks).where(queued, tasks.c.status == "open", enough).values(status="done"))
    tx.execute(update(tasks).where(queued, tasks.c.status == "done", ~enough).values(status="open"))


def _checked(connection: Connection, settings: Settings, own: int | None) -> dict[str, Any]:
    row = asdict(settings)
    row["name"] = checked_name(settings.name.strip())
    taken = connection.scalar(select(projects.c.id).where(projects.c.name == row["name"]))
    if taken is not None and taken != own:
        raise UserError(f'there is a project "{row["name"]}" already; choose another name')
    for key in ("guideline", "consent", "warning"):
        row[key] = (row[key] or "").replace("\x00", "").strip() or None
        if row[key] and len(row[key]) > MAX_TEXT:
            raise UserError(f"the {key} text has at most {MAX_TEXT:,} characters")
    if row["guideline"] is None:
        raise UserError("the guideline is empty; say what makes an answer good")
    for key, low, high in (("overlap", 1, 1000), ("practice_tasks", 0, 1000)):
        if not low <= row[key] <= high:
            raise UserError(f"{key.replace('_', ' ')} is a whole number from {low} to {high:,}")
    for key in ("gold_rate", "practice_needed"):
        if not 0 <= row[key] <= 1:
            raise UserError(f"{key.replace('_', ' ')} is a share between 0 and 100%")
    parse_form(settings.asks, settings.form)
    return row
