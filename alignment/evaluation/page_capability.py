"""The page's section on what was kept and what was forgotten: a table and a plot of every probe's changes."""

from __future__ import annotations

from typing import Any

from alignment.evaluation.phrases import title
from alignment.report import plots
from alignment.report.page import Page, Tone
from alignment.report.text import number, percent


def capability(page: Page, report: dict[str, Any]) -> None:
    """Probes, if the evaluation has any."""
    if report["probes"]:
        _probes(page, report["probes"])


def _probes(page: Page, probes: dict[str, Any]) -> None:
    page.heading("What was kept, and what was forgotten")
    page.points([change["text"] for probe in probes.values() for change in probe["pairs"].values()])
    page.table(
        ["probe", "measured", "candidate", "figure", "95% interval", "items", "also"],
        [
            [name, probe["unit"], model, *_figure(probe, figures), figures["n"] or "–", _also(figures)]
            for name, probe in probes.items()
            for model, figures in probe["models"].items()
        ],
    )
    rows, tones = [], []
    for name, probe in probes.items():
        for pair, change in probe["pairs"].items():
            p = "< 0.0001" if change["p_holm"] < 1e-4 else number(change["p_holm"])
            counts = ["–", "–"] if change["wins"] is None else [change["wins"], change["losses"]]
            rows.append([name, title(pair), *_change(probe, change), *counts, p, _least(probe, change)])
            tones.append(_tone(probe, change))
    if not rows:
        return
    heads = ["probe", "comparison", "change", "95% interval", "better on", "worse on", "p"]
    heads.append("smallest loss seen")
    page.table(heads, rows, tones=tones)
    for name, probe in probes.items():
        scale = _scale(probe)
        marks = [
            (title(pair), scale * c["value"], scale * c["low"], scale * c["high"])
            for pair, c in probe["pairs"].items()
            if c["low"] is not None
        ]
        if marks:
            unit = "points" if scale > 1 else next(iter(probe["pairs"].values()))["unit"]
            side = "Left" if probe["better"] == "higher" else "Right"
            page.figure(
                plots.intervals(marks, reference=0.0, x_label=unit, title=f"{name}: change"),
                f"{name}: change in {probe['unit']}, with 95% intervals over items. {side} of the dashed "
                "line is a loss.",
            )
    page.text(
        "Every model had the same items, and a change is measured item by item. Intervals are percentile "
        "bootstrap intervals over items (10,000 resamples); p is of the exact sign test of the items that "
        "got better against those that got worse (McNemar's, where an item is right or wrong), with Holm's "
        "correction over all probes and comparisons. Smallest loss seen: the true loss that so many items "
        "show with 80% chance; a smaller one may well have gone unseen."
    )


def _scale(probe: dict[str, Any]) -> float:
    """Shares are shown in points of a hundred."""
    return 100.0 if probe["kind"] in ("choices", "exact_match") else 1.0


def _figure(probe: dict[str, Any], figures: dict[str, Any]) -> list[str]:
    show = percent if _scale(probe) > 1 else number
    if figures["low"] is None:
        return [show(figures["value"]), "–"]
    return [show(figures["value"]), f"{show(figures['low'])} to {show(figures['high'])}"]


def _change(probe: dict[str, Any], change: dict[str, Any]) -> list[str]:
    scale = _scale(probe)
    value, low, high = (
        "–" if v is None else f"{scale * v:+.1f}" if scale > 1 else f"{v:+.4f}"
        for v in (change["value"], change["low"], change["high"])
    )
    unit = "points" if scale > 1 else change["unit"]
    return [f"{value} {unit}", f"{low} to {high}" + ("" if change["paired"] else ", unpaired")]


def _least(probe: dict[str, Any], change: dict[str, Any]) -> str:
    if change["smallest_loss"] is None:
        return "none: too few items"
    scale = _scale(probe)
    return f"{scale * change['smallest_loss']:.1f} points" if scale > 1 else number(change["smallest_loss"])


def _also(figures: dict[str, Any]) -> str:
    parts = []
    if "perplexity" in figures:
        parts += [f"perplexity {number(figures['perplexity'])}"]
        parts += [f"{number(figures['bits_per_byte'])} bits a byte"]
        parts += [f"{figures['in_windows']} documents read in windows"] if figures["in_windows"] else []
    if "chance" in figures:
        parts += [f"by length {percent(figures['accuracy_by_length'])}"]
        parts += [f"by sum {percent(figures['accuracy_of_sum'])}"]
        parts += [f"guessing {percent(figures['chance'])}"]
    if "f1" in figures:
        parts += [f"F1 {number(figures['f1'])}"]
    if figures.get("unfinished"):
        parts += [f"{percent(figures['unfinished'])} cut off"]
    return ", ".join(parts) or "–"


def _tone(probe: dict[str, Any], change: dict[str, Any]) -> Tone:
    if change["forgotten"]:
        return "bad"
    if change["low"] is not None and (change["low"] > 0 or change["high"] < 0):
        return "good"
    return "plain"
