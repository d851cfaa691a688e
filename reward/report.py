"""The page of a reward run: what its held-out figures say, and the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignment.report import plots
from alignment.report.page import Page

GROUPS = {"by_margin": "By the strength that people stated", "by_length": "By length"}


def write_report(path: Path, name: str, figures: dict[str, Any], logs: list[dict[str, Any]]) -> None:
    """Write the page of the measures of `evaluation.measures`; logs: the lines of metrics.jsonl."""
    accuracy = figures["accuracy"]
    page = Page(f"The reward model {name}", f"{accuracy['n']:,} held-out votes")
    _verdict(page, figures)
    page.heading("Accuracy")
    rows = [("all pairs", accuracy), ("the longer text, for comparison", figures["length_alone"])]
    rows += [(one["group"], one) for key in GROUPS for one in figures[key]]
    page.table(
        ["pairs", "accuracy", "low", "high", "votes"],
        [[label, one["value"], one["low"], one["high"], one["n"]] for label, one in rows],
        "Share of pairs ordered as people did, a tie counted half; 95% intervals resample prompts.",
    )
    page.figure(
        plots.intervals(
            [(label, one["value"], one["low"], one["high"]) for label, one in rows],
            reference=0.5,
            bounds=(0.0, 1.0),
            x_label="accuracy",
        ),
        "Accuracy with its interval; one half is chance.",
    )
    _calibration(page, figures["calibration"])
    _people(page, figures["agreement"])
    _members(page, figures)
    losses = [line for line in logs if "loss" in line]
    if losses:
        page.heading("Training")
        curve = ([line["step"] for line in losses], [line["loss"] for line in losses])
        page.figure(plots.lines({"loss": curve}, x_label="step", y_label="nats"), "Loss.")
    page.write(path, overwrite=True)


def _verdict(page: Page, figures: dict[str, Any]) -> None:
    accuracy, longer = figures["accuracy"], figures["length_alone"]
    spread = f"{accuracy['value']:.1%} of held-out votes, 95% interval {accuracy['low']:.1%} to "
    spread += f"{accuracy['high']:.1%}"
    if accuracy["low"] > 0.5:
        page.verdict("It orders pairs as those who judged them did, more often than chance.", "good", spread)
    else:
        page.verdict("It is not shown to be better than chance.", "bad", spread)
    if longer["value"] >= accuracy["value"]:
        page.verdict(
            "Choosing the longer text is right as often.",
            "bad",
            f"{longer['value']:.1%} [{longer['low']:.1%}, {longer['high']:.1%}]: what it has learned beyond "
            "length is not seen here; length_debias may help.",
        )


def _calibration(page: Page, found: dict[str, Any]) -> None:
    page.heading("Calibration")
    page.text(
        f"Expected calibration error {found['error']:.3f}, log loss {found['log_loss']:.3f} nats (a coin: "
        "0.693). The model is as sure of the higher of two scores as σ of their difference says."
    )
    bins = found["bins"]
    line = ([one["stated"] for one in bins], [one["seen"] for one in bins])
    page.figure(
        plots.lines(
            {"model": line, "perfect": ([0.5, 1.0], [0.5, 1.0])},
            x_label="stated probability",
            y_label="share that was right",
        ),
        "Reliability: how often it was right against how sure it was.",
    )
    page.table(
        ["stated", "right", "votes"], [[one["stated"], one["seen"], one["n"]] for one in bins], "The bins."
    )


def _people(page: Page, found: dict[str, Any] | None) -> None:
    page.heading("Beside people")
    if found is None:
        page.text("No held-out pair was judged by two people, so there is nothing to compare with.")
        return
    rows = [("the model and a judge", found["model"]), ("two judges", found["people"])]
    page.table(
        ["who", "agreement", "low", "high", "pairs"],
        [[label, one["value"], one["low"], one["high"], one["n"]] for label, one in rows],
        "How often two of them order a pair alike, over pairs with several votes.",
    )


def _members(page: Page, figures: dict[str, Any]) -> None:
    if "members" in figures:
        page.heading("Members of the ensemble")
        page.table(
            ["member", "accuracy"],
            [[str(number), value] for number, value in enumerate(figures["members"])],
            f"They differ about a pair by {figures['disagreement']:.3f} on average (standard deviation).",
        )
