"""What judges lean to beside the content: the place on the screen, the length, ties."""

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
    badge,
    day,
    empty,
    estimate,
    facts,
    figures,
    heading,
    join,
    link,
    table,
)
from labeling_app.store import verdicts

Found = tuple[list[measures.Leaning], int, list[Interval]]


def draw(store: Stored, blocks: Any) -> None:
    """The page's components and handlers."""
    measured_page(store, blocks, "bias", _body)


def _body(visit: Visit, project: RowMapping) -> Html:
    def compute(connection: Connection) -> Found:
        panel = verdicts.panel(connection, project["id"], lengths=True)
        return measures.leanings(comparisons(panel)), *measures.first_places(panel)

    ((overall, *each), k, places), at = measured(visit, project, "bias", compute)
    if overall.ties is None:
        text = "Bias is measured from the order in which outputs stood on the screen, and from their lengths."
        return empty("No judgments yet", text, link("Progress", address("progress", project=project["id"])))
    return join([_numbers(overall, at), *_places(k, places), *_pictures(each), _table(each)])


def _numbers(overall: measures.Leaning, at: datetime) -> Html:
    note = (
        "Where one of two outputs is preferred; 50% is no bias. In brackets: 95% intervals over tasks. "
        f"Of {day(at)} UTC."
    )
    return join(
        [
            heading("All judges together", note),
            facts(
                [
                    ("The higher one preferred", *_told(overall.earlier, "position on the screen")),
                    ("The longer one preferred", *_told(overall.longer, "length in characters")),
                    ("Ties", *_told(overall.ties, "of all comparisons", None)),
                ]
            ),
        ]
    )


def _told(found: Interval | None, what: str, neutral: float | None = 0.5) -> tuple[str, str]:
    if found is None:
        return "–", f"{what}: not known"
    value, _, rest = estimate(found, True).partition(" ")
    judged = "" if neutral is None else f" · {_verdict(found, neutral)}"
    return value, f"{rest} · {what}{judged}"


def _verdict(found: Interval, neutral: float) -> str:
    return "no bias seen" if found.low <= neutral <= found.high else "biased"


def _places(k: int, places: list[Interval]) -> list[Html]:
    if not places:
        return []
    names = [f"place {number}" for number in range(1, k + 1)]
    rows = [(name, one.value, one.low, one.high) for name, one in zip(names, places, strict=False)]
    plot = plots.intervals(rows, reference=1 / k, x_label="share of judgments in which it was the best")
    note = f"Of tasks with {k} outputs, by place from the top; the dashed line, 1/{k}, is no bias."
    return [figures((plot, f"Where the best output stood. {note}"))]


def _pictures(each: list[measures.Leaning]) -> list[Html]:
    drawn = []
    for title, pick in (("the higher one", _earlier), ("the longer one", _longer)):
        known = [(one.name or "", *found[:3]) for one in each if (found := pick(one)) is not None]
        furthest = sorted(known, key=lambda row: -abs(row[1] - 0.5))[:MOST]
        if furthest:
            plot = plots.intervals(furthest, reference=0.5, x_label=f"share that preferred {title}")
            drawn.append((plot, f"How often each judge preferred {title}, the furthest from 50% first"))
    return [figures(*drawn)] if drawn else []


def _earlier(one: measures.Leaning) -> Interval | None:
    return one.earlier


def _longer(one: measures.Leaning) -> Interval | None:
    return one.longer


def _table(each: list[measures.Leaning]) -> Html:
    rows: list[list[Cell]] = [
        [one.name or "", _cell(one.earlier), _cell(one.longer), estimate(one.ties, True)] for one in each
    ]
    columns = ["Judge", "Higher one preferred", "Longer one preferred", "Ties"]
    note = "With so many intervals, one in twenty misses its mark by chance alone."
    return join([heading("By judge", note), table(columns, rows, "Bias by judge")])


def _cell(found: Interval | None) -> Cell:
    shown = estimate(found, True)
    if found is None or found.low <= 0.5 <= found.high:
        return shown
    return Html(f"{shown} {badge('leans', 'unsure')}")
