"""Make a project, or change what one asks, its texts, its overlap, its known answers and its practice."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
import msgspec
from sqlalchemy import RowMapping

from alignment.errors import UserError
from labeling_app.imports import DEFAULT_GUIDELINE
from labeling_app.pages.desk import Desk, Stored, Update, Visit, html
from labeling_app.pages.parts import Html, address, day, link, paragraph, told
from labeling_app.pages.projects import ASKS
from labeling_app.render import render
from labeling_app.store import forms, projects
from labeling_app.store.database import utcnow

SCALES = "name | 1-5 | label of the low end | label of the high end | the question"
STRENGTHS = [
    ("no", 0),
    ("one step: better", 1),
    ("two: slightly, clearly", 2),
    ("three: slightly, clearly, far", 3),
]
_RANGE = re.compile(r"(\d{1,2})\s*(?:-|–|to)\s*(\d{1,2})")


def draw(store: Stored, blocks: Any) -> None:
    """The page's components and handlers."""
    desk = Desk(store, "settings")
    intro = html("")
    fields = _fields()
    save = gr.Button("Save", variant="primary", elem_classes="ad-narrow")
    with gr.Accordion("How the guideline reads, and its earlier versions", open=False):
        versions = html("")
    outputs = [intro, save, versions, *fields.values()]

    def fill(visit: Visit) -> Update:
        row = None if visit.query.get("new") else visit.project()
        return {**_show(visit, row, intro, save, versions), **_values(row, fields)}

    def store_it(visit: Visit, *values: Any) -> Update:
        given = dict(zip(fields, values, strict=True))
        row = None if visit.query.get("new") else visit.project()
        return {desk.notice: _save(visit, row, given), **_show(visit, row, intro, save, versions)}

    desk.load(blocks, fill, outputs)
    desk.on(save.click, store_it, list(fields.values()), [intro, save, versions])


def _fields() -> dict[str, Any]:
    """The form's components by the name of what they set."""
    made: dict[str, Any] = {}
    made["name"] = gr.Textbox(label="Name", max_lines=1, max_length=200)
    made["asks"] = gr.Radio([(label, key) for key, label in ASKS.items()], label="What people are asked")
    made["guideline"] = gr.Textbox(
        label="Guideline",
        info="Markdown, beside every task. Another text is a new version; judgments name theirs.",
        lines=8,
        max_lines=24,
    )
    with gr.Accordion("What else is asked", open=False):
        made["scales"] = gr.Textbox(
            label="Scales", info=f"One a line: {SCALES}. Only the name is needed.", lines=3
        )
        made["strength"] = gr.Radio(STRENGTHS, label="How much better? (pairs)")
        made["rationale"] = gr.Radio(["no", "optional", "required"], label="A reason in words")
        made["rewrite"] = gr.Checkbox(label="A better answer may be written by hand")
    with gr.Accordion("Overlap and known answers", open=False), gr.Row():
        made["overlap"] = gr.Number(
            label="Overlap",
            info="How many people judge each task; agreement needs 2 or more.",
            precision=0,
            minimum=1,
            maximum=1000,
        )
        made["gold_rate"] = gr.Slider(
            0, 50, step=1, label="Gold, in %", info="Of the tasks given out, those with a known answer."
        )
        made["gold_feedback"] = gr.Checkbox(label="Tell people at once whether a gold task was right")
    with gr.Accordion("Before the first task", open=False):
        made["consent"] = gr.Textbox(
            label="Consent", info="Has to be agreed to. Empty: none is asked.", lines=3
        )
        made["warning"] = gr.Textbox(
            label="Content warning", info="Whoever turns the project down then is not asked again.", lines=2
        )
        with gr.Row():
            made["practice_tasks"] = gr.Number(
                label="Practice tasks", info="0: no practice round.", precision=0, minimum=0, maximum=1000
            )
            made["practice_needed"] = gr.Slider(
                0, 100, step=5, label="Pass mark, in %", info="The share of practice that has to be right."
            )
    made["active"] = gr.Checkbox(label="Open: its tasks are given out")
    return made


def _show(visit: Visit, row: RowMapping | None, intro: Any, save: Any, versions: Any) -> Update:
    if row is None:
        lead = paragraph("A new project. What you leave as it is can be changed later.")
        return {intro: lead, save: gr.update(value="Make the project"), versions: ""}
    with visit.store.read() as connection:
        texts = projects.guideline_versions(connection, row["id"])
    shown = "".join(
        f"<details{'' if index else ' open'}><summary>Version {text['version']}, {day(text['created_at'])}"
        f'</summary><div class="ad-text">{render(text["text"])}</div></details>'
        for index, text in enumerate(texts)
    )
    new = link("New project", address("settings", new=1))
    return {
        intro: Html(f'<p class="ad-actions">{new}</p>'),
        save: gr.update(value="Save changes"),
        versions: Html(shown),
    }


def _values(row: RowMapping | None, fields: dict[str, Any]) -> Update:
    if row is None:
        row_values: dict[str, Any] = {**_DEFAULTS}
    else:
        row_values = {**row}
    form = forms.parse_form(row_values["asks"], row_values["form"])
    values = {
        **row_values,
        "scales": "\n".join(map(_line, form.dimensions)),
        "strength": form.strength,
        "rationale": form.rationale,
        "rewrite": form.rewrite,
        "gold_rate": round(100 * row_values["gold_rate"]),
        "practice_needed": round(100 * row_values["practice_needed"]),
    }
    return {component: values[key] if values[key] is not None else "" for key, component in fields.items()}


_DEFAULTS: dict[str, Any] = {
    "name": "",
    "asks": "ranking",
    "form": None,
    "guideline": DEFAULT_GUIDELINE,
    "overlap": 2,
    "gold_rate": 0.0,
    "gold_feedback": False,
    "consent": "",
    "warning": "",
    "practice_tasks": 0,
    "practice_needed": 0.8,
    "active": True,
}


def _save(visit: Visit, row: RowMapping | None, given: dict[str, Any]) -> Html:
    settings = _settings(given)
    with visit.store.write() as tx:
        if row is not None:
            changed = projects.change(tx, utcnow(), visit.account["public_id"], row["id"], settings)
            what = ", ".join(name.replace("_", " ") for name in changed)
            return told(f"Saved: {what}." if changed else "Nothing was changed.")
        number = projects.add(tx, utcnow(), visit.account["public_id"], settings)
    on = link("Import its tasks", address("records", project=number))
    return Html(
        f'<p class="ad-told good" role="status">The project is made. {on}, or '
        f"{link('look at its settings', address('settings', project=number))}.</p>"
    )


def _settings(given: dict[str, Any]) -> projects.Settings:
    asks = given["asks"]
    plain = {
        "dimensions": parse_scales(given["scales"] or ""),
        "rationale": given["rationale"] or "no",
        "rewrite": bool(given["rewrite"]),
        "strength": given["strength"] or 0 if asks == "pair" else 0,
    }
    return projects.Settings(
        name=given["name"] or "",
        guideline=given["guideline"] or "",
        asks=asks,
        form=msgspec.to_builtins(forms.parse_form(asks, plain)),
        overlap=_whole(given["overlap"], "overlap"),
        gold_rate=_percent(given["gold_rate"]),
        gold_feedback=bool(given["gold_feedback"]),
        consent=given["consent"],
        warning=given["warning"],
        practice_tasks=_whole(given["practice_tasks"], "practice tasks"),
        practice_needed=_percent(given["practice_needed"]),
        active=bool(given["active"]),
    )


def parse_scales(text: str) -> list[dict[str, Any]]:
    """The lines of the scales field as dimensions of a form. Raises UserError that names the line."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, *rest = [part.strip() for part in line.split("|")]
        if len(rest) > 4:
            raise UserError(f"scales, line {number}: there are more than five parts; write {SCALES}")
        span, low_label, high_label, label = [*rest, *[""] * (4 - len(rest))]
        bounds = _RANGE.fullmatch(span or "1-5")
        if bounds is None:
            raise UserError(f'scales, line {number}: "{span}" is no range; write for example 1-5')
        found.append(
            {
                "name": name,
                "label": label,
                "low": int(bounds[1]),
                "high": int(bounds[2]),
                "low_label": low_label,
                "high_label": high_label,
            }
        )
    return found


def _line(dimension: forms.Dimension) -> str:
    span = f"{dimension.low}-{dimension.high}"
    parts = [dimension.name, span, dimension.low_label, dimension.high_label, dimension.label]
    while not parts[-1]:
        parts.pop()
    return " | ".join(parts)


def _whole(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise UserError(f"{name} is a whole number")
    return int(value)


def _percent(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise UserError("a share is between 0 and 100%")
    return round(value / 100, 4)
