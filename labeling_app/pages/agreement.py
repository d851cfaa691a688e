"""How far judges agree, with intervals."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping

from alignment.report import plots
from labeling_app import measures
from labeling_app.comparisons import comparisons
from labeling_app.pages.desk import Stored, Visit
from labeling_app.pages.measured import measured, measured_page
from labeling_app.pages.parts import (
    Cell,
    Html,
    address,
    day,
    empty,
    estimate,
    facts,
    figures,
    heading,
    join,
    link,
    paragraph,
    table,
)
from labeling_app.store import verdicts

MOST = 24  # rows of a plot


def draw(store: Stored, blocks: Any) -> None:
    """The page's components and handlers."""
    measured_page(store, blocks, "agreement", _body)


def _body(visit: Visit, project: RowMapping) -> Html:
    def compute(connection: Connection) -> tuple[int, measures.Agreement]:
        panel = verdicts.panel(connection, project["id"])
        return len(panel.said), measures.agreement(panel, comparisons(panel))

    (said, found), at = measured(visit, project, "agreement", compute)
    if found.pairwise is None:
        links = []
        if project["overlap"] < 2 and visit.is_admin:
            links = [link("Raise the overlap", address("settings", project=project["id"]), "ad-button")]
        text = (
            f"{said:,} judgments, and no task with two of them that compare outputs. "
            f"Agreement needs an overlap of 2 or more; here it is {project['overlap']}."
        )
        return empty("Nothing to compare yet", text, *links)
    return join([_numbers(found, at), *_scales(found), *_pictures(found), _pairs(found)])


def _numbers(found: measures.Agreement, at: datetime) -> Html:
    same, decided = estimate(found.pairwise, True), estimate(found.decided, True)
    rows = [
        ("Pairwise agreement", *_split(same), "Two judges say the same: first, second, or a tie"),
        ("Without ties", *_split(decided), "The same, where both prefer one of the two"),
        ("Krippendorff's α", *_split(estimate(found.alpha)), "Three verdicts on each pair of outputs"),
        (
            "Krippendorff's α of ranks",
            *_split(estimate(found.alpha_ranks)),
            "Ordinal, on the ranks themselves",
        ),
        ("Fleiss' κ", *_split(estimate(found.fleiss)), "As many judges as each pair had"),
        (
            "Cohen's κ",
            "–" if found.cohen is None else f"{found.cohen:.3f}".replace("-", "−"),
            "",
            "Mean over pairs of judges, weighted by what they share",
        ),
    ]
    intro = (
        f"{found.tasks:,} tasks with two judges or more, {found.comparisons:,} verdicts of two compared. "
        "A ranking counts as the pairs of outputs that it orders, all bad as ties. In brackets: 95% "
        "intervals, tasks drawn anew. α and κ are 1 for full agreement and 0 for what chance gives. "
        f"Of {day(at)} UTC."
    )
    return join(
        [
            heading("Overall", intro),
            facts([(name, value, f"{low} · {note}".lstrip("· ")) for name, value, low, note in rows]),
        ]
    )


def _split(text: str) -> tuple[str, str]:
    value, _, rest = text.partition(" ")
    return value, rest


def _scales(found: measures.Agreement) -> list[Html]:
    if not found.scales:
        return []
    rows: list[list[Cell]] = [[name, estimate(alpha), alpha.n] for name, alpha in found.scales.items()]
    note = "Krippendorff's α, ordinal: do judges give the same output the same rating?"
    return [heading("Scales", note), table(["Scale", "α [95%]", "Tasks"], rows, "Agreement on scales")]


def _pictures(found: measures.Agreement) -> list[Html]:
    others = sorted(found.others.items(), key=lambda item: -item[1].value)[:MOST]
    rows = [(name, one.value, one.low, one.high) for name, one in others]
    overall = found.pairwise.value if found.pairwise else None
    plot = plots.intervals(rows, reference=overall, x_label="share of verdicts that are the same")
    note = "Each judge against all others on the same tasks; the dashed line is all together."
    parts = [heading("By judge", note), figures((plot, "Pairwise agreement with the others, 95% interval"))]
    if len(found.others) > MOST:
        parts.append(paragraph(f"The {MOST} who agree most of {len(found.others)}; all are in Quality."))
    return parts


def _pairs(found: measures.Agreement) -> Html:
    rows: list[list[Cell]] = [
        [
            f"{pair.first} · {pair.second}",
            pair.same.n,
            pair.comparisons,
            estimate(pair.same, True),
            estimate(pair.kappa),
        ]
        for pair in found.pairs
    ]
    columns = ["Judges", "Tasks", "Comparisons", "Same [95%]", "Cohen's κ [95%]"]
    note = f"Those who share most, up to {measures.PAIRS_SHOWN}."
    return join([heading("Pairs of judges", note), table(columns, rows, "Agreement of pairs of judges")])
