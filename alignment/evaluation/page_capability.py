"""The page's section on what was kept and what was forgotten: a table and a plot of every probe's changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignment.evaluation.phrases import signed, spread, title
from alignment.report import plots
from alignment.report.page import Page, Tone
from alignment.report.text import number, percent

FEW = 6  # changes that are told in a sentence each, whatever they are
NAMES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "f1": "word F1",
    "exact_match": "exact match",
}


def capability(page: Page, report: dict[str, Any]) -> None:
    """Probes and references, if the evaluation has any, and how diverse the answers are."""
    if report["probes"]:
        _probes(page, report["probes"])
    if report["text_metrics"]:
        _references(page, report["text_metrics"])
    _diversity(page, report["diversity"])


def _probes(page: Page, probes: dict[str, Any]) -> None:
    page.heading("What was kept, and what was forgotten")
    changes = [change for probe in probes.values() for change in probe["pairs"].values()]
    page.points(_told(sorted(changes, key=lambda change: not change["forgotten"])))
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
        "Every model had the same items, and a change is measured item by item. Intervals of shares are "
        "Clopper-Pearson's, of the rest and of changes percentile bootstrap intervals over items (10,000 "
        "resamples), wider where fewer than ten items changed; p is of the exact sign test of the items that "
        "got better against those that got worse (McNemar's, where an item is right or wrong), with Holm's "
        "correction over all probes and comparisons. Smallest loss seen: the true loss that so many items "
        "show with 80% chance; a smaller one may well have gone unseen."
    )


def _told(changes: Sequence[dict[str, Any]]) -> list[str]:
    """The changes in words; of many, those where nothing was seen are only counted."""
    same = [c["text"] for c in changes if c["low"] is None or c["low"] <= 0 <= c["high"]]
    moved = [c["text"] for c in changes if c["text"] not in same]
    if len(changes) <= FEW:
        return [*moved, *same]
    rest = f"{len(same)} of {len(changes)} comparisons show no change; how small a loss they show, see below."
    return [*moved, *([rest] if same else [])]


def _references(page: Page, found: dict[str, Any]) -> None:
    page.heading("Beside the references")
    keys = list(next(iter(found["models"].values())))
    heads = ["candidate", *(NAMES[key] for key in keys)]
    page.table(heads, [[name, *(spread(f[key]) for key in keys)] for name, f in found["models"].items()])
    if found["pairs"]:
        rows = [[title(pair), *(signed(f[key]) for key in keys)] for pair, f in found["pairs"].items()]
        page.table(["change", *heads[1:]], rows)
    whole = found["prompts"] == found["of"]
    drawn = "" if whole else f", drawn at random of the {found['of']:,} that have one"
    page.text(
        f"How close the answers come to the prompts' references, 0 to 1, on {found['prompts']:,} prompts"
        f"{drawn}; in brackets 95% bootstrap intervals over prompts. An open question has many good answers, "
        "and these measures know one: they fit short, factual answers, summaries and translations. BLEU and "
        f"chrF are of the whole set (sacrebleu: {found['signatures']['bleu']})."
    )


def _diversity(page: Page, found: dict[str, Any]) -> None:
    page.heading("How diverse the answers are")
    within = any(f["self_bleu_within_prompts"] for f in found.values())
    heads = ["candidate", "distinct-1", "distinct-2", "distinct-3", "self-BLEU", "repeated runs", "looping"]
    rows = [
        [
            name,
            *("–" if f[f"distinct_{n}"] is None else number(f[f"distinct_{n}"]) for n in (1, 2, 3)),
            *("–" if f[key] is None else spread(f[key]) for key in ("self_bleu", "repeated")),
            percent(f["repetitive"]["value"]),
            *(["–" if (i := f["self_bleu_within_prompts"]) is None else spread(i)] if within else []),
        ]
        for name, f in found.items()
    ]
    page.table([*heads, *(["self-BLEU of one prompt"] if within else [])], rows)
    page.text(
        "Distinct-n: the share of different runs of n words in all answers together. Self-BLEU: how much an "
        "answer resembles the others, 1 where all say the same. Repeated runs: the share of an answer's runs "
        "of 4 words that it said before (answers of 40 words or more). Looping: answers where that is half, "
        "or a line comes again and again. All fall or rise with length: read them beside the lengths."
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
        "–" if v is None else f"{scale * v:+.{1 if scale > 1 else 4}f}".replace("-", "−")
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
    return ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts) or "–"


def _tone(probe: dict[str, Any], change: dict[str, Any]) -> Tone:
    if change["forgotten"]:
        return "bad"
    if change["low"] is not None and (change["low"] > 0 or change["high"] < 0):
        return "good"
    return "plain"
