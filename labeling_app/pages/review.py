"""Tasks on which judges differ, for a reviewer's last word; and flags to resolve.

A reviewer sees neither which model wrote an output nor who judged how: letters and numbers are drawn by task.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import gradio as gr
from sqlalchemy import Connection, RowMapping

from alignment.errors import UserError
from alignment.report.text import escape
from labeling_app import measures
from labeling_app.comparisons import comparisons
from labeling_app.pages.desk import Desk, Stored, Update, Visit, html
from labeling_app.pages.measured import measured, nothing_yet
from labeling_app.pages.parts import (
    Cell,
    Html,
    address,
    badge,
    day,
    empty,
    heading,
    join,
    link,
    paragraph,
    table,
    told,
)
from labeling_app.render import render
from labeling_app.shown import LETTERS, excerpt, output_turns
from labeling_app.store import review, verdicts
from labeling_app.store.database import utcnow
from labeling_app.store.queue import shuffled

ALL_BAD, OTHER = "all bad", "other"
ROWS = 25
KINDS = {"skip": "skipped", "flag": "flagged", "content": "content"}


def draw(store: Stored, blocks: Any) -> None:
    """The page's components and handlers."""
    desk = Desk(store, "review")
    shown = html("")
    current = gr.Number(visible=False, precision=0)
    with gr.Column(visible=False, elem_classes="ad-panel") as word:
        choice = gr.Radio([], label="The last word")
        own = gr.Textbox(
            label="Another order",
            info="Best first, = for a tie, all outputs: B > A = C",
            max_lines=1,
            max_length=60,
        )
        why = gr.Textbox(
            label="Why", info="Goes into the export beside the order.", lines=2, max_length=20_000
        )
        decide = gr.Button("Decide", variant="primary", elem_classes="ad-narrow")
    listed = html("")
    with gr.Column(visible=False, elem_classes="ad-panel") as settle:
        which = gr.Dropdown([], label="Flags", multiselect=True)
        with gr.Row():
            resolve = gr.Button("Resolved")
            withdraw = gr.Button("Resolved, and give the task out no more")
    outputs = [shown, current, word, choice, own, why, listed, settle, which]

    def fill(visit: Visit) -> Update:
        return show(visit, visit.number("task"))

    def show(visit: Visit, wanted: int | None) -> Update:
        project = visit.project()
        if project is None:
            return {shown: nothing_yet(visit)}
        with visit.store.read() as connection:
            done = review.decided(connection, project["id"])
            raised = review.open_flags(connection, project["id"])
        (said, found), _ = measured(visit, project, "disputes", partial(_disputes, project["id"]))
        waiting = [row for row in found if row[0] not in done]
        if wanted is None and waiting:
            wanted = waiting[0][0]
        with visit.store.read() as connection:
            case = None if wanted is None else review.case(connection, project["id"], wanted)
            texts = review.prompts(connection, [row[0] for row in found[:ROWS]])
        numbers = [(f"{row['id']}: {KINDS[row['kind']]} by {row['login']}", row["id"]) for row in raised]
        return {
            shown: _nothing(project, said) if case is None else _case(case, len(waiting)),
            current: None if case is None else case.task_id,
            word: gr.update(visible=case is not None and bool(case.outputs)),
            choice: gr.update(choices=[] if case is None else _choices(case), value=None),
            own: "",
            why: "",
            listed: join([*_list(project, found, done, texts), *_flags(project, raised)]),
            settle: gr.update(visible=bool(raised)),
            which: gr.update(choices=numbers, value=[]),
        }

    def decided(visit: Visit, task: Any, chosen: str | None, written: str, reason: str) -> Update:
        project = visit.project()
        if project is None or not isinstance(task, int):
            raise UserError("there is no task to decide")
        with visit.store.read() as connection:
            case = review.case(connection, project["id"], task)
        if case is None:
            raise UserError("this task is not there any more")
        ranks = _ranks(case, chosen, written)
        with visit.store.write() as tx:
            review.adjudicate(tx, utcnow(), visit.account, project["id"], case.task_id, ranks, reason)
        return {**show(visit, None), desk.notice: told(f"Decided: task {case.task_id}.")}

    def settled(visit: Visit, numbers: Any, take_out: bool) -> Update:
        project = visit.project()
        if project is None or not numbers:
            raise UserError("choose flags first")
        with visit.store.write() as tx:
            chosen = [number for number in numbers if isinstance(number, int)]
            count = review.resolve(tx, utcnow(), visit.account, project["id"], chosen, withdraw=take_out)
        return {**show(visit, visit.number("task")), desk.notice: told(f"{count} flags are resolved.")}

    desk.load(blocks, fill, outputs)
    desk.on(decide.click, decided, [current, choice, own, why], outputs)
    desk.on(resolve.click, lambda visit, numbers: settled(visit, numbers, False), [which], outputs)
    desk.on(withdraw.click, lambda visit, numbers: settled(visit, numbers, True), [which], outputs)


def notation(ranks: Any, order: list[int]) -> str:
    """Ranks by ordinal as letters, A being the first of `order`: "A > B = C"; without what is not ranked."""
    letter = {ordinal: LETTERS[at] for at, ordinal in enumerate(order)}
    levels = sorted({rank for rank in ranks if rank is not None})
    groups = [sorted(letter[at] for at, rank in enumerate(ranks) if rank == level) for level in levels]
    return " > ".join(" = ".join(group) for group in groups)


def parse_notation(text: str, order: list[int]) -> list[int]:
    """The ranks by ordinal that "B > A = C" means. Raises UserError if a letter is missing or comes twice."""
    groups = [[part.strip().upper() for part in re.split("[=,]", group)] for group in text.split(">")]
    letters = sorted(letter for group in groups for letter in group)
    if letters != sorted(LETTERS[: len(order)]):
        example = " > ".join(LETTERS[: len(order)])
        raise UserError(f'write every output once, best first, for example "{example}"')
    rank = {letter: level for level, group in enumerate(groups, 1) for letter in group}
    placed = {ordinal: rank[LETTERS[at]] for at, ordinal in enumerate(order)}
    return [placed[ordinal] for ordinal in range(len(order))]


def _disputes(project_id: int, connection: Connection) -> tuple[int, list[tuple[int, float, int]]]:
    panel = verdicts.panel(connection, project_id)
    return len(panel.said), measures.disputes(comparisons(panel))


def _order(case: review.Case) -> list[int]:
    return shuffled(len(case.outputs), case.task_id)


def _choices(case: review.Case) -> list[tuple[str, str]]:
    """What the judges said, each order once, to be taken over."""
    order, said = _order(case), dict[str, list[str]]()
    for number, one in enumerate(case.opinions, 1):
        key = notation(one.ranks, order) if one.ranks else ALL_BAD if one.all_bad else None
        if key is not None and (key == ALL_BAD or len(re.findall("[A-H]", key)) == len(order)):
            said.setdefault(key, []).append(f"judge {number}")
    orders = [(f"{key} ({', '.join(who)})", key) for key, who in said.items()]
    bad = [] if ALL_BAD in said else [("All bad", ALL_BAD)]
    return [*orders, *bad, ("Another order, written below", OTHER)]


def _ranks(case: review.Case, chosen: str | None, written: str) -> list[int] | None:
    if chosen is None and not (written or "").strip():
        raise UserError("choose the last word first")
    if chosen == ALL_BAD:
        return None
    text = written if chosen in (None, OTHER) else chosen
    return parse_notation(text or "", _order(case))


def _nothing(project: RowMapping, said: int) -> Html:
    if not said:
        text = "As soon as two people have judged the same task differently, it is here."
    else:
        text = "Every task on which judges differ has its last word, or nobody differs."
    return empty("Nothing to decide", text, link("Agreement", address("agreement", project=project["id"])))


def _case(case: review.Case, waiting: int) -> Html:
    order = _order(case)
    last = ""
    if case.last is not None:
        said = ALL_BAD if case.last["ranks"] is None else notation(case.last["ranks"], order)
        last = told(f"Decided already: {said}. Another word replaces it; both are kept.", "unsure")
    turns = "".join(_turn(turn["role"], turn.get("content") or "") for turn in case.prompt)
    cards = "".join(
        f'<article class="ad-card"><h3>{LETTERS[at]}</h3>'
        + "".join(
            _turn(turn["role"], turn["text"], single=True) for turn in output_turns(case.outputs[ordinal])
        )
        + "</article>"
        for at, ordinal in enumerate(order)
    )
    note = f"{waiting:,} tasks wait for a last word. Neither models nor judges are named here."
    return join(
        [
            heading(f"Task {case.task_id}", note),
            Html(last),
            Html(f'<section class="ad-prompt" aria-label="Prompt">{turns}</section>'),
            Html(f'<div class="ad-cards">{cards}</div>'),
            _opinions(case, order),
        ]
    )


def _turn(role: str, text: str, single: bool = False) -> str:
    body = render(text) if role == "assistant" else f'<div class="ad-plain">{escape(text)}</div>'
    name = "" if single and role == "assistant" else f'<b class="ad-role">{escape(role)}</b>'
    return f'<div class="ad-turn" dir="auto">{name}{body}</div>'


def _opinions(case: review.Case, order: list[int]) -> Html:
    rows: list[list[Cell]] = []
    names = sorted({name for one in case.opinions for name in one.ratings or ()})
    for number, one in enumerate(case.opinions, 1):
        said = notation(one.ranks, order) if one.ranks else ("all bad" if one.all_bad else "–")
        if one.ranks and one.all_bad:
            said += ", all bad"
        rows.append(
            [f"Judge {number}", said, *(_ratings(one, name, order) for name in names), one.rationale or ""]
        )
    if not rows:
        return paragraph("Nobody has judged this task.")
    return table(["Judge", "Order", *names, "Why"], rows, "What the judges said")


def _ratings(one: review.Opinion, name: str, order: list[int]) -> str:
    values = (one.ratings or {}).get(name)
    if not values:
        return "–"
    shown = [(LETTERS[at], values[ordinal]) for at, ordinal in enumerate(order)]
    return ", ".join(f"{letter} {value:g}" for letter, value in shown if value is not None)


def _list(
    project: RowMapping, found: list[tuple[int, float, int]], done: set[int], texts: dict[int, Any]
) -> list[Html]:
    if not found:
        return []
    rows: list[list[Cell]] = [
        [
            link(f"Task {task}", address("review", project=project["id"], task=task)),
            excerpt(texts.get(task, [])),
            judges,
            f"{100 * share:.0f}%",
            badge("decided", "good") if task in done else badge("open", "unsure"),
        ]
        for task, share, judges in found[:ROWS]
    ]
    note = f"{len(found):,} tasks, the most disputed first" + (
        f"; the first {ROWS}." if len(found) > ROWS else "."
    )
    columns = ["Task", "Prompt", "Judges", "Differ", "State"]
    return [heading("Where judges differ", note), table(columns, rows, "Disputed tasks")]


def _flags(project: RowMapping, raised: list[RowMapping]) -> list[Html]:
    if not raised:
        return [
            heading("Flags"),
            paragraph("No open flags: nobody has reported a task, or all are resolved."),
        ]
    rows: list[list[Cell]] = [
        [
            str(row["id"]),
            badge(KINDS[row["kind"]], "unsure" if row["kind"] != "skip" else "plain"),
            row["reason"] or "–",
            link(f"Task {row['task_id']}", address("review", project=project["id"], task=row["task_id"])),
            excerpt(row["prompt"]),
            row["login"],
            day(row["created_at"]),
        ]
        for row in raised
    ]
    columns = ["Flag", "Kind", "Reason", "Task", "Prompt", "By", "When (UTC)"]
    return [heading("Flags", "What people reported or why they skipped."), table(columns, rows, "Open flags")]
