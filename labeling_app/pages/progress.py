"""How far a project is, how fast it goes, and what each person has done in how many hours."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import gradio as gr
from sqlalchemy import RowMapping

from alignment.errors import UserError
from alignment.report import plots
from labeling_app.pages.desk import Desk, Stored, Update, Visit, html
from labeling_app.pages.measured import nothing_yet
from labeling_app.pages.parts import (
    ADMINS,
    Cell,
    Html,
    address,
    badge,
    bar,
    day,
    empty,
    facts,
    figures,
    heading,
    join,
    link,
    table,
    told,
)
from labeling_app.store import enrolment, pace, projects
from labeling_app.store.database import utcnow

STATES = {
    "consent": "has not agreed yet",
    "warning": "has not passed the warning",
    "practice": "practises",
    "passed": "passed the practice",
    "failed": "failed the practice",
    "ready": "works",
    "declined": "turned it down",
}
ACTIONS = {
    "Another practice round": enrolment.try_again,
    "Let work, whatever the practice said": enrolment.qualify,
    "Ask again who turned it down": enrolment.let_back,
}


def draw(store: Stored, blocks: Any) -> None:
    """The page's components and handlers."""
    desk = Desk(store, "progress")
    body = html("")
    with gr.Column(visible=False) as decide:
        who = gr.Dropdown([], label="Person", info="Of those who have begun with consent or practice here.")
        what = gr.Radio(list(ACTIONS), label="What to do")
        act = gr.Button("Do it", elem_classes="ad-narrow")

    def fill(visit: Visit) -> Update:
        project = visit.project()
        if project is None:
            return {body: nothing_yet(visit), decide: gr.update(visible=False)}
        with visit.store.read() as connection:
            enrolled = enrolment.overview(connection, project["id"])
        names = [(one["login"], one["annotator_id"]) for one in enrolled]
        shown = gr.update(visible=visit.is_admin and bool(names))
        return {body: _body(visit, project, enrolled), who: gr.update(choices=names), decide: shown}

    def decided(visit: Visit, annotator: Any, action: str | None) -> Update:
        project = visit.project()
        if project is None or not isinstance(annotator, int) or action not in ACTIONS:
            raise UserError("choose a person and what to do")
        with visit.store.write() as tx:
            ACTIONS[action](tx, utcnow(), visit.account["public_id"], annotator, project["id"])
        return {desk.notice: told(f"Done: {action.lower()}."), **fill(visit)}

    desk.load(blocks, fill, [body, who, decide])
    desk.on(act.click, decided, [who, what], [body, who, decide], roles=ADMINS)


def _body(visit: Visit, project: RowMapping, enrolled: list[dict[str, Any]]) -> Html:
    with visit.store.read() as connection:
        counts = next(row for row in projects.counts(connection) if row["id"] == project["id"])
        days = pace.by_day(connection, project["id"])
        people = pace.workers(connection, project["id"])
    if not counts["tasks"] and not people:
        links = [link("Import tasks", address("records", project=project["id"]), "ad-button")]
        text = "A file of records, prompts with two to eight outputs each, becomes its tasks."
        return empty("This project has no tasks yet", text, *(links if visit.is_admin else []))
    parts = [_numbers(counts, days, people)]
    if days:
        parts.append(_by_day(days))
    if people:
        parts.append(_people(people))
    else:
        links = [link("Invite annotators", address("accounts"), "ad-button")] if visit.is_admin else []
        parts.append(empty("Nobody has begun", "Tasks are given out to whoever signs in.", *links))
    if enrolled:
        parts.append(_enrolled(enrolled))
    return join(parts)


def _numbers(counts: RowMapping, days: list[Any], people: list[pace.Worker]) -> Html:
    left = counts["wanted"] - counts["done"]
    today = utcnow().date()
    wait = pace.days_left(days, left, today)
    if not left:
        when, note = "done", "every task has the judgments that it needs"
    elif wait is None:
        when, note = "–", "no judgment in the last seven days"
    else:
        when = "today" if wait < 1 else f"{wait:,.0f} days"
        note = (
            f"until {today + timedelta(days=round(wait))}, at the pace of the last seven days"
            if wait < 3650
            else ""
        )
    hours = sum(one.hours for one in people)
    return facts(
        [
            (
                "Judgments",
                bar(counts["done"], counts["wanted"]),
                f"{counts['tasks_done']:,} of {counts['tasks']:,} tasks done",
            ),
            ("Time left", when, note),
            ("Hours worked", f"{hours:,.1f}", f"by {len(people)} people, active on the page"),
            ("Overlap", counts["overlap"], "judgments wanted of each task"),
        ]
    )


def _by_day(days: list[Any]) -> Html:
    first = days[0][0]
    numbers = [(one - first).days for one, _ in days]
    counts = [count for _, count in days]
    total, sums = 0, []
    for count in counts:
        total += count
        sums.append(total)
    label = f"days since {first}"
    each = plots.lines(
        {"judgments": (numbers, counts)}, x_label=label, y_label="judgments a day", reference=0.0
    )
    together = plots.lines({"all": (numbers, sums)}, x_label=label, y_label="judgments so far", reference=0.0)
    return join([heading("Pace"), figures((each, "Judgments by day (UTC)"), (together, "Together"))])


def _people(people: list[pace.Worker]) -> Html:
    rows: list[list[Cell]] = [
        [
            one.login,
            one.judgments,
            round(one.hours, 2),
            None if one.median_seconds is None else round(one.median_seconds, 1),
            one.skips,
            one.flags,
            one.late,
            "–" if one.last_at is None else day(one.last_at),
        ]
        for one in people
    ]
    columns = [
        "Annotator",
        "Judgments",
        "Hours worked",
        "Median seconds",
        "Skips",
        "Flags",
        "Late",
        "Last (UTC)",
    ]
    note = (
        "Hours worked: active time on judged tasks, without pauses of more than a minute or hidden windows; "
        "time on skipped tasks is not in it. Late: the lease had ended."
    )
    return join([heading("By annotator", note), table(columns, rows, "What each annotator did")])


def _enrolled(enrolled: list[dict[str, Any]]) -> Html:
    tones = {"ready": "good", "failed": "bad", "declined": "bad"}
    rows: list[list[Cell]] = [
        [
            one["login"],
            badge(STATES[one["state"]], tones.get(one["state"], "plain")),
            f"{one['practice_done']} of {one['practice']}" if one["practice"] else "–",
            "–" if one["score"] is None else f"{100 * one['score']:.0f}%",
        ]
        for one in enrolled
    ]
    columns = ["Person", "State", "Practice", "Right"]
    return join([heading("Consent and practice"), table(columns, rows, "Who has begun, and how it went")])
