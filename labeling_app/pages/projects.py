"""Every project and how far it is: where the admin area begins."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping

from labeling_app.pages.desk import Desk, Stored, Visit, html
from labeling_app.pages.parts import Html, address, badge, bar, empty, heading, join, link, table
from labeling_app.store import projects

ASKS = {"ranking": "Rank the outputs", "pair": "Compare two outputs", "ratings": "Rate on scales"}


def draw(store: Stored, blocks: Any) -> None:
    """The page's components and handlers."""
    desk = Desk(store, "")
    body = html("")
    desk.load(blocks, lambda visit: {body: _body(visit)}, [body], project=False)


def _body(visit: Visit) -> Html:
    with visit.store.read() as connection:
        rows = projects.counts(connection)
    new = link("New project", address("settings", new=1), "ad-button")
    if not rows:
        text = "A project holds tasks, a guideline, and what people are asked about each task."
        return empty("No projects yet", text, *([new] if visit.is_admin else []))
    shown = [_row(visit, row) for row in rows]
    columns = ["Project", "Asks", "Judgments", "Tasks", "Overlap", "Gold", "Practice", "State"]
    parts = [table(columns, shown, "Projects")]
    if visit.is_admin:
        parts.append(Html(f'<p class="ad-actions">{new}</p>'))
    else:
        parts.append(heading("", "You review: admins make and change projects."))
    return join(parts)


def _row(visit: Visit, row: RowMapping) -> list[Html | str | int]:
    here = link(row["name"], address("progress", project=row["id"]))
    if not row["active"]:
        state = badge("closed")
    elif not row["tasks"]:
        state = (
            link("import tasks", address("records", project=row["id"])) if visit.is_admin else badge("empty")
        )
    elif row["done"] >= row["wanted"]:
        state = badge("done", "good")
    else:
        state = badge("open", "unsure")
    return [
        here,
        ASKS[row["asks"]],
        bar(row["done"], row["wanted"]),
        row["tasks"],
        row["overlap"],
        row["gold"],
        row["practice"],
        state,
    ]
