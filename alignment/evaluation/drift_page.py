"""Two pages: a new evaluation against a stored one, and a production log against an evaluation."""

from __future__ import annotations

from typing import Any

import yaml

from alignment.evaluation.drift import brief, in_points
from alignment.report import plots
from alignment.report.page import Page
from alignment.report.text import number, percent

TONES = {"worse": "bad", "undecided": "unsure", "no worse": "good"}
SHARES = ("win_rate", "head_to_head", "refusals", "empty", "probe")
FIGURES = {
    "prompt_words": ("words a prompt", False),
    "words": ("words an answer", False),
    "refusals": ("refusals", True),
    "score": ("reward", False),
}


def drift_page(result: dict[str, Any]) -> Page:
    """The page of `drift.drift`'s result."""
    page = Page(
        "Drift: a new evaluation against a stored one", f"{result['new']} against {result['baseline']}"
    )
    verdict = result["verdict"]
    page.verdict(verdict["text"], verdict["tone"], verdict["detail"])
    if result["warnings"]:
        page.heading("Before you rely on it")
        page.points(result["warnings"])
    page.heading("What decides")
    figures = result["figures"]
    page.table(
        ["figure", "judge", "stored", "new", "change, and its 95% interval", "so it is"],
        [[f["what"], f["judge"] or "–", *_both(f), in_points(f["difference"]), f["state"]] for f in figures],
        tones=[TONES[f["state"]] for f in figures],  # type: ignore[misc]
    )
    margin = 100 * result["margin"]
    page.figure(
        plots.intervals(
            [
                (_label(f, figures), *(100 * f["difference"][k] for k in ("value", "low", "high")))
                for f in figures
            ],
            reference=-margin,
            x_label="points, new less stored",
            title="Change of each figure",
        ),
        f"Change in points. The dashed line is the margin, −{margin:g} points: an interval right of it "
        "is no worse, one far enough left of it worse, any other undecided.",
    )
    page.text(
        "Every figure is paired over the prompts that both runs have. Intervals are 95% bootstrap intervals "
        f"over prompts. To be called worse, the interval of {percent_exactly(result['level'])} must lie left "
        "of the margin: one figure is enough to fail, so each of several must err more rarely."
    )
    if result["beside"]:
        page.heading("What else changed")
        page.table(
            ["figure", "judge", "stored", "new", "change, and its 95% interval"],
            [[f["what"], f["judge"] or "–", *_both(f), _change(f)] for f in result["beside"]],
            caption="What decides nothing: more of it is neither better nor worse by itself",
        )
    page.heading("What differs in the configurations")
    if result["differs"]:
        rows = [[d["what"], str(d["first"]), str(d["second"])] for d in result["differs"]]
        page.table(["key", "stored", "new"], rows)
    else:
        page.text("Nothing.")
    page.code(yaml.safe_dump(result, sort_keys=False, allow_unicode=True), "All figures")
    return page


def log_page(result: dict[str, Any]) -> Page:
    """The page of `traffic.compare_log`'s result."""
    log = result["log"]
    page = Page(
        "A production log against an evaluation",
        f"{log['rows']:,} rows ({log['prompts']:,} different prompts) of {', '.join(log['files'])} against "
        f"{result['model']} in {result['run']}",
    )
    verdict = result["verdict"]
    page.verdict(verdict["text"], verdict["tone"], verdict["detail"])
    if result["warnings"]:
        page.heading("Before you rely on it")
        page.points(result["warnings"])
    page.heading("Lengths, refusals, reward")
    rows = []
    for key, (name, share) in FIGURES.items():
        if key in result["figures"]:
            f = result["figures"][key]
            change = in_points(f["difference"]) if share else _interval(f["difference"])
            sides = [percent(f[s]["value"]) if share else _mean(f, s) for s in ("evaluation", "log")]
            rows.append([name, *sides, change, "more than chance" if f["differs"] else "not told apart"])
    page.table(["figure", "evaluation", "log", "log less evaluation", "so it is"], rows)
    page.text(
        "Of lengths and rewards: the mean, and in brackets the 5%, 50% and 95% quantiles. Intervals of the "
        f"differences are bootstrap intervals over prompts of {percent_exactly(result['level'])} each, so "
        "that all tests together err in 5%."
    )
    page.heading("Topics")
    topics = {name: topic for name, topic in result["topics"].items() if topic}
    if not topics:
        page.text("There is too little text to compare.")
    else:
        sampled = next(iter(topics.values()))["sampled"]
        page.table(
            ["of", "divergence, bits", "by chance alone", "p", "so it is"],
            [
                [
                    name,
                    number(t["value"]),
                    number(t["expected"]),
                    number(t["p"]),
                    "more than chance" if t["differs"] else "not told apart",
                ]
                for name, t in topics.items()
            ],
        )
        page.text(
            "The Jensen-Shannon divergence of the words and pairs of words (0: the same, 1: nothing in "
            f"common), each counted once a text, over a sample of {sampled:,} different prompts of the log; "
            "by chance alone: what it is on average when the same texts are dealt out by lot."
        )
    places = {"more_in_log": "the log", "more_in_evaluation": "the evaluation"}
    said = [
        [
            name,
            side,
            ", ".join(f"{w['word']} ({percent(w['log'])}, {percent(w['evaluation'])})" for w in topic[key]),
        ]
        for name, topic in topics.items()
        for key, side in places.items()
    ]
    if said:
        heads = ["of", "commoner in", "words (the share of texts in the log that have it, in the evaluation)"]
        page.table(heads, [row for row in said if row[2]])
    page.code(yaml.safe_dump(result, sort_keys=False, allow_unicode=True), "All figures")
    return page


def percent_exactly(level: float) -> str:
    """A level of confidence: 95%, 98.33%."""
    return f"{100 * level:.4g}%"


def _label(figure: dict[str, Any], figures: list[dict[str, Any]]) -> str:
    """What a figure is called in a plot: with its judge, where there are several."""
    several = len({f["judge"] for f in figures if f["judge"]}) > 1
    return f"{figure['what']}, {brief(figure['judge'])}" if several and figure["judge"] else figure["what"]


def _both(figure: dict[str, Any]) -> list[str]:
    return [
        percent(figure[k]) if figure["kind"] in SHARES else number(figure[k]) for k in ("before", "after")
    ]


def _change(figure: dict[str, Any]) -> str:
    return in_points(figure["difference"]) if figure["kind"] in SHARES else _interval(figure["difference"])


def _interval(change: dict[str, Any]) -> str:
    return f"{number(change['value'])} ({number(change['low'])} to {number(change['high'])})"


def _mean(figure: dict[str, Any], side: str) -> str:
    quantiles = ", ".join(number(q) for q in figure["quantiles"][side])
    return f"{number(figure[side]['value'])} [{quantiles}]"
