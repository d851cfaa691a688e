"""How good each judge is: against known answers, against the others, and by two models of judges."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping

from alignment.report import plots
from alignment.stats.intervals import Interval
from labeling_app import measures
from labeling_app.comparisons import comparisons
from labeling_app.pages.agreement import MOST
from labeling_app.pages.desk import Stored, Visit
from labeling_app.pages.measured import measured, measured_page
from labeling_app.pages.parts import (
    Cell,
    Html,
    address,
    day,
    empty,
    estimate,
    figures,
    heading,
    join,
    link,
    table,
)
from labeling_app.store import gold, verdicts

Found = tuple[list[measures.Quality], dict[str, Interval], list[gold.Accuracy]]


def draw(store: Stored, blocks: Any) -> None:
    """The page's components and handlers."""
    measured_page(store, blocks, "annotators", _body)


def _body(visit: Visit, project: RowMapping) -> Html:
    def compute(connection: Connection) -> Found:
        found = comparisons(verdicts.panel(connection, project["id"]))
        known = gold.accuracy(connection, project["id"])
        return measures.quality(found), measures.with_others(found), known

    (rows, others, known), at = measured(visit, project, "quality", compute)
    if not rows and not known:
        text = "Quality is measured from judgments of the same tasks by several people, and from gold tasks."
        return empty("No judgments yet", text, link("Progress", address("progress", project=project["id"])))
    return join([*_models(rows, others, at), *_gold(visit, project, known)])


def _models(rows: list[measures.Quality], others: dict[str, Interval], at: datetime) -> list[Html]:
    if not rows:
        return []
    shown: list[list[Cell]] = [
        [
            row.name,
            row.judgments,
            row.comparisons,
            estimate(others.get(row.name), True),
            f"{100 * row.right:.1f}%",
            f"{row.trust:.3f}",
        ]
        for row in rows
    ]
    note = (
        "Right: the chance that a verdict (first, second, tie) is the true one, by Dawid-Skene. Trust: "
        "the chance that a vote is the model's own and not its opposite, by Bradley-Terry with annotator "
        "effects; 0.5 is a coin, below that somebody answers the other way round. Both need several judges "
        "on the same tasks; of a judge with few comparisons they say little. "
        f"Of {day(at)} UTC."
    )
    columns = ["Judge", "Judgments", "Comparisons", "Agrees with others [95%]", "Right", "Trust"]
    worst = sorted(rows, key=lambda row: row.right)[:MOST]
    plot = plots.bars([(row.name, 100 * row.right) for row in worst], x_label="% right, by Dawid-Skene")
    return [
        heading("By what others said", note),
        table(columns, shown, "Judges by model"),
        figures((plot, "Lowest first")),
    ]


def _gold(visit: Visit, project: RowMapping, known: list[gold.Accuracy]) -> list[Html]:
    note = "Exact: the whole known answer, on the first try. Mean: the share of comparisons that are right."
    title = heading("By known answers", note)
    if not known:
        text = "Mark tasks with a known answer as gold, and set how often they are given out."
        links = [
            link("Import gold", address("records", project=project["id"]), "ad-button"),
            link("Set the rate", address("settings", project=project["id"])),
        ]
        return [title, empty("No gold task was judged yet", text, *(links if visit.is_admin else []))]
    rows: list[list[Cell]] = [
        [one.login, one.exact.n, estimate(one.exact, True), f"{100 * one.share:.1f}%"] for one in known
    ]
    worst = sorted(known, key=lambda one: one.exact.value)[:MOST]
    drawn = [(one.login, one.exact.value, one.exact.low, one.exact.high) for one in worst]
    plot = plots.intervals(drawn, bounds=(0.0, 1.0), x_label="share of gold tasks exactly right")
    columns = ["Judge", "Gold tasks", "Exact [95%]", "Mean"]
    return [
        title,
        table(columns, rows, "Accuracy on gold"),
        figures((plot, "Lowest first, Wilson's 95% interval")),
    ]
