"""Records in and out: a file of any format becomes tasks, and what people said is downloaded."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import gradio as gr
from sqlalchemy import RowMapping

from alignment.data.formats import FORMATS
from alignment.errors import UserError
from alignment.report.text import escape
from labeling_app import imports
from labeling_app.pages.desk import Desk, Stored, Update, Visit, html
from labeling_app.pages.measured import nothing_yet
from labeling_app.pages.parts import Cell, Html, address, day, heading, join, link, paragraph, table, told
from labeling_app.store import gold, outgone
from labeling_app.store.database import utcnow

USES = {
    "To be judged": "",
    "Gold: each has one judgment, which is the known answer": "gold",
    "Practice, before the first task: likewise": "practice",
}


def draw(store: Stored, blocks: Any) -> None:
    """The page's components and handlers."""
    desk = Desk(store, "records")
    with gr.Column(elem_classes="ad-panel") as bring:
        html(
            heading(
                "Import", "Every record with 2 to 8 outputs becomes a task. The same file twice adds nothing."
            )
        )
        file = gr.File(
            label="Records, or a file of any format that alignkit data convert reads", type="filepath"
        )
        seen = html("")
        use = gr.Radio(list(USES), value=next(iter(USES)), label="What the tasks are for")
        with gr.Accordion("More", open=False):
            with gr.Row():
                form = gr.Dropdown(["auto", *sorted(FORMATS)], value="auto", label="Format")
                priority = gr.Textbox(
                    label="Order by",
                    info="A field with a number, highest first: meta.uncertainty; or rewards: their spread.",
                    max_lines=1,
                    max_length=200,
                )
            redact = gr.Checkbox(label="Put placeholders such as [EMAIL] for what is personal")
        bring_in = gr.Button("Import", variant="primary", elem_classes="ad-narrow")
    out = html("")

    def fill(visit: Visit) -> Update:
        project = visit.project()
        if project is None:
            return {bring: gr.update(visible=False), out: nothing_yet(visit)}
        return {out: _export(visit, project)}

    def looked(visit: Visit, path: str | None, name: str | None) -> Update:
        return {seen: _look(path, name or "auto") if path else ""}

    def brought(
        visit: Visit, path: str | None, name: str | None, what: str | None, order: str | None, hide: bool
    ) -> Update:
        project = visit.project()
        if project is None or not path:
            raise UserError("choose a file first")
        done = _import(visit, project, path, name or "auto", USES[what or "To be judged"], order, hide)
        Path(path).unlink(missing_ok=True)  # the upload; its records are in the database now
        return {desk.notice: done, file: None, seen: "", **fill(visit)}

    desk.load(blocks, fill, [bring, out])
    desk.on(file.upload, looked, [file, form], [seen], files=True)
    desk.on(file.clear, lambda visit: {seen: ""}, [], [seen])
    desk.on(
        bring_in.click, brought, [file, form, use, priority, redact], [file, seen, bring, out], files=True
    )


def _look(path: str, name: str) -> Html:
    try:
        found = imports.look_through(path, name)
    except UserError as error:
        raise _named(error, path) from None
    parts = [paragraph(f"Format: {found.format} ({found.by}).")]
    if found.personal:
        kinds = ", ".join(f"{count:,} × {kind}" for kind, count in found.personal.most_common())
        warning = f"It may hold personal data: {kinds}. Everybody who judges will read it."
        parts.append(Html(f'<p class="ad-told unsure" role="alert">{escape(warning)}</p>'))
    return join(parts)


def _import(
    visit: Visit, project: RowMapping, path: str, name: str, use: str, order: str | None, hide: bool
) -> Html:
    actor, now = visit.account["public_id"], utcnow()
    try:
        records = imports.read_any(path, name)
        with visit.store.write() as tx:
            done = imports.import_into(
                tx,
                now,
                imports.redacted(records) if hide else records,
                project["name"],
                priority_from=(order or "").strip() or None,
                actor=actor,
            )
            if use:
                known = imports.read_any(path, name)
                gold.mark(tx, now, actor, project["id"], known, practice=use == "practice")
    except UserError as error:
        raise _named(error, path) from None
    return told(f"{done.added:,} tasks added, {done.present:,} were there already.{_left_out(done.left_out)}")


def _left_out(reasons: Counter[str]) -> str:
    if not reasons:
        return ""
    return " Left out: " + ", ".join(f"{count:,} with {reason}" for reason, count in reasons.items()) + "."


def _named(error: UserError, path: str) -> UserError:
    """The same error with the file's name for the place where the server keeps the upload."""
    return UserError(str(error).replace(os.fspath(path), Path(path).name))


def _export(visit: Visit, project: RowMapping) -> Html:
    with visit.store.read() as connection:
        records, judgments = outgone.judged(connection, project["id"])
        before = outgone.made(connection, project["id"])
    note = (
        "Records as they were imported, with what people said added: what alignkit reward and evaluate "
        "take. Each export is noted, so that it is known later what held whose judgment."
    )
    held = f"{judgments:,} judgments made here, of {records:,} tasks."
    choices = "".join(
        f'<option value="{value}">{name}</option>'
        for value, name in (
            ("jsonl", "JSON lines"),
            ("jsonl.gz", "JSON lines, gzip"),
            ("jsonl.zst", "JSON lines, zstd"),
            ("parquet", "Parquet"),
        )
    )
    form = (
        '<form method="post" action="/export" class="ad-form">'
        f'<input type="hidden" name="project" value="{int(project["id"])}">'
        f'<label>Format <select name="form">{choices}</select></label>'
        '<label><input type="checkbox" name="everything" value="true"> tasks without a judgment, too</label>'
        '<label><input type="checkbox" name="gold" value="true"> gold and practice, too</label>'
        '<button type="submit" class="ad-button">Download</button></form>'
    )
    panel = Html(f'<div class="ad-panel">{heading("Export", note)}{paragraph(held)}{form}</div>')
    rows: list[list[Cell]] = [
        [
            one["name"],
            one["rows"],
            one["who"],
            day(one["created_at"]),
            Html(f"<code>{escape(one['fingerprint'][:12])}</code>"),
        ]
        for one in before
    ]
    columns = ["File", "Records", "By", "When (UTC)", "Fingerprint"]
    last = [heading("Exports so far"), table(columns, rows, "Exports of this project")] if rows else []
    more = link("Settings of this project", address("settings", project=project["id"]))
    return join([panel, *last, Html(f"<p>{more}</p>")])
