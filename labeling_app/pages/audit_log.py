"""The audit log: who did what, filtered, and whether its chain of hashes is whole."""

from __future__ import annotations

from typing import Any

import gradio as gr
from sqlalchemy import RowMapping

from alignment.errors import UserError
from labeling_app.pages.desk import Desk, Stored, Update, Visit, html
from labeling_app.pages.parts import Cell, Html, address, empty, join, link, table, told
from labeling_app.store import audit, logbook

ROWS = 100
MAX_SHOWN = 400  # characters of what was before and after


def draw(store: Stored, blocks: Any) -> None:
    """The page's components and handlers."""
    desk = Desk(store, "audit")
    with gr.Row():
        actor = gr.Dropdown([], label="Who")
        action = gr.Dropdown([], label="What")
        entity = gr.Textbox(label="On what", placeholder="project/3", max_lines=1, max_length=80)
    with gr.Row():
        search = gr.Button("Filter", elem_classes="ad-narrow")
        check = gr.Button("Check the chain of hashes", elem_classes="ad-narrow")
    body = html("")

    def fill(visit: Visit) -> Update:
        with visit.store.read() as connection:
            who = [("everybody", ""), *logbook.actors(connection)]
            what = [("everything", ""), *((one, one) for one in logbook.actions(connection))]
        given = {key: visit.query.get(key, "") for key in ("actor", "action", "entity")}
        known = {value for _, value in who}, {value for _, value in what}
        return {
            actor: gr.update(choices=who, value=given["actor"] if given["actor"] in known[0] else ""),
            action: gr.update(choices=what, value=given["action"] if given["action"] in known[1] else ""),
            entity: given["entity"],
            body: _rows(visit, given["actor"], given["action"], given["entity"], visit.number("below")),
        }

    def filtered(visit: Visit, who: str | None, what: str | None, on: str | None) -> Update:
        return {body: _rows(visit, who or "", what or "", (on or "").strip(), None)}

    def checked(visit: Visit) -> Update:
        with visit.store.read() as connection:
            try:
                count = audit.verify(connection)
            except UserError as error:
                return {desk.notice: told(f"Not whole: {error}.", "bad")}
        return {
            desk.notice: told(
                f"Chain verified: all {count:,} rows are as they were written, and none is missing."
            )
        }

    desk.load(blocks, fill, [actor, action, entity, body], project=False)
    desk.on(search.click, filtered, [actor, action, entity], [body])
    desk.on(entity.submit, filtered, [actor, action, entity], [body])
    desk.on(check.click, checked, [], [])


def _rows(visit: Visit, actor: str, action: str, entity: str, below: int | None) -> Html:
    with visit.store.read() as connection:
        found = logbook.entries(
            connection, actor=actor, action=action, entity=entity, below=below, limit=ROWS + 1
        )
    if not found:
        return empty("Nothing in the log", "No row is like that.", link("Show everything", address("audit")))
    older = Html("")
    if len(found) > ROWS:
        query = {"actor": actor or None, "action": action or None, "entity": entity or None}
        older = Html(f"<p>{link('Older rows', address('audit', below=found[ROWS - 1]['id'], **query))}</p>")
    columns = ["Row", "When (UTC)", "Who", "What", "On what", "Before", "After"]
    return join([table(columns, [_row(one) for one in found[:ROWS]], "Audit log"), older])


def _row(one: RowMapping) -> list[Cell]:
    when = one["at"].replace("T", " ").removesuffix("Z")[:19]
    return [
        str(one["id"]),
        when,
        one["login"] or one["actor"],
        one["action"],
        one["entity"],
        _short(one["before"]),
        _short(one["after"]),
    ]


def _short(text: str | None) -> str:
    if text is None:
        return ""
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
