"""The page's figures: win rates and what stands beside them, the candidates, kinds of prompt, training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment.evaluation import metrics
from alignment.evaluation.answers import is_file
from alignment.evaluation.phrases import shares, spread, title
from alignment.report import plots
from alignment.report.page import Page
from alignment.report.text import number, percent, seconds

if TYPE_CHECKING:
    from alignment.evaluation.report import Evidence

# The figure that says most about a stage's training, the first that its log has.
CURVES = {
    "score": "mean score of the reward model",
    "reward": "mean reward",
    "rewards/accuracies": "share of pairs ordered as judged",
    "accuracy": "share of pairs ordered as judged",
    "loss": "loss",
}


def win_rates(page: Page, evidence: Evidence, report: dict[str, Any]) -> None:
    page.heading("Win rates")
    rows, tones = [], []
    said = {verdict["comparison"]: verdict["tone"] for verdict in report["verdict"]}
    for name, rate in report["win_rate"].items():
        figures, p_holm = report["statistics"][name], report["sign_test"][name]["p_holm"]
        p = "< 0.0001" if p_holm < 1e-4 else number(p_holm)
        counts = [figures["wins"], rate["ties"], figures["losses"]]
        rows.append([title(name), *shares(rate), shares(figures["exact"])[1], *counts, p])
        tones.append(said.get(name, "plain"))
    heads = [
        "comparison",
        "win rate",
        "95% interval",
        "exact interval",
        "answers won",
        "tied",
        "lost",
        "sign test p",
    ]
    page.table(heads, rows, tones=tones)
    for name, over in report["over_seeds"].items():
        rates = ", ".join(percent(rate) for rate in over["rates"].values())
        page.text(
            f"{title(name)}: {percent(over['value'])} over {over['n']} training seeds, 95% interval over "
            f"seeds and prompts {percent(over['low'])} to {percent(over['high'])}; seed by seed {rates}."
        )
    beside = [
        [title(name), _at_equal_length(figures), _power(figures), _peeked(figures)]
        for name, figures in report["statistics"].items()
    ]
    page.table(
        ["comparison", "win rate at equal length", "these prompts can show", "looked at after every prompt"],
        beside,
    )
    marks = [(title(name), r["rate"], r["low"], r["high"]) for name, r in report["win_rate"].items()]
    marks += [
        (f"{title(name)}, all seeds", r["value"], r["low"], r["high"])
        for name, r in report["over_seeds"].items()
    ]
    low = min([0.4, *(m[2] for m in marks)])
    page.figure(
        plots.intervals(
            marks, reference=0.5, bounds=(low, 1.0), x_label="share of comparisons won", title="Win rates"
        ),
        "Win rates, a tie counted as half, with 95% intervals. The dashed line is one half: no difference.",
    )
    lengths = {name: metrics.words(answers) for name, answers in evidence.ordered.items()}
    page.figure(
        plots.histogram(lengths, x_label="words", title="Length of the answers"),
        "Length of the answers. The upright line is the mean; each row has its own height.",
    )
    page.text(
        "The 95% intervals are percentile bootstrap intervals over prompts (10,000 resamples); the exact "
        "ones never hold the truth less often than in 95%, and are wider. The sign test is exact and "
        "two-sided, over prompts, with Holm's correction for several comparisons. At equal length: what a "
        "regression on the difference in length leaves."
    )


def _at_equal_length(figures: dict[str, Any]) -> str:
    """The win rate that a regression on the difference in length leaves."""
    controlled = figures["length_controlled"]
    if controlled is None:
        return "–"
    share, interval = shares(controlled)
    return f"{share} [{interval}]"


def _power(figures: dict[str, Any]) -> str:
    """The least win rate that so many prompts show with 80% chance."""
    least = figures["power"]["smallest_rate_exactly"]
    return "nothing: too few" if least is None else f"a true win rate from {percent(least)} on"


def _peeked(figures: dict[str, Any]) -> str:
    """What an anytime-valid test says, looked at after every prompt."""
    at = figures["sequential"]["decided_at"]
    return "not decided" if at is None else f"decided after {at:,} prompts"


def models(page: Page, evidence: Evidence, report: dict[str, Any]) -> None:
    page.heading("The candidates")
    rows = []
    for name in evidence.config.models:
        f = report["stages"][name]
        kl = "–" if f["kl"] is None else f"{spread(f['kl_interval'])} from {f['parent']}"
        words, score, likely = f["words"], f["score"], f["log_likelihood_under_base"]
        rows.append(
            [
                name,
                kl,
                "–" if words is None else number(words["value"]),
                percent(f["eos_rate"]),
                "–" if score is None else spread(score),
                "–" if likely is None else spread(likely),
                seconds(f["seconds"]),
            ]
        )
    heads = [
        "candidate",
        "KL, nats an answer",
        "words",
        "ended",
        "judge's score",
        "log-likelihood",
        "training",
    ]
    known = [i for i in range(len(heads)) if any(row[i] != "–" for row in rows)]
    page.table([heads[i] for i in known], [[row[i] for i in known] for row in rows])
    base, models = evidence.config.base, evidence.config.models
    limit = evidence.config.generation.max_new_tokens  # of what was sampled here; files have their own
    within = "" if all(is_file(path) for path in models.values()) else f", within {limit} tokens if made here"
    notes = []
    if 3 in known:
        notes.append(f"Ended: the share of answers closed by the model itself{within}.")
    if 1 in known:
        notes.append(
            "KL: how far the model has moved from the one it was trained from, estimated on its own samples "
            "at temperature 1, as far as they go (the mean over answers of the summed log-ratio)."
        )
    if base:
        notes.append(f"Log-likelihood: nats a token of the answers under the frozen {base}.")
    if notes:
        page.text(" ".join(notes))
    moved = [
        (f"{name} from {f['parent']}", f["kl"], f["kl_interval"]["low"], f["kl_interval"]["high"])
        for name, f in report["stages"].items()
        if f["kl"] is not None
    ]
    if moved:
        page.figure(
            plots.intervals(moved, reference=0.0, x_label="nats an answer", title="KL from the parent"),
            "KL from the parent, with 95% intervals.",
        )
    likely_rows = [
        (name, likely["value"], likely["low"], likely["high"])
        for name in evidence.config.models
        if (likely := report["stages"][name]["log_likelihood_under_base"])
    ]
    if likely_rows:
        page.figure(
            plots.intervals(likely_rows, x_label="nats a token", title="Log-likelihood under the base"),
            f"Log-likelihood of the answers under the frozen {base}. A large fall means unusual language.",
        )


def slices(page: Page, report: dict[str, Any]) -> None:
    """Win rates by tag of the prompts, where they have tags."""
    if not report["slices"]:
        return
    page.heading("By kind of prompt")
    for name in report["win_rate"]:
        rates = {tag: rates[name] for tag, rates in report["slices"].items() if name in rates}
        page.figure(
            plots.intervals(
                [(tag, r["rate"], r["low"], r["high"]) for tag, r in rates.items()],
                reference=0.5,
                bounds=(0.0, 1.0),
                x_label="share of comparisons won",
                title=f"{title(name)}, by tag",
            ),
            f"{title(name)}: win rates on the prompts of each tag. One interval in twenty misses by chance.",
        )


def training(page: Page, evidence: Evidence, report: dict[str, Any]) -> None:
    """One curve a run directory, if its log has one to show."""
    folders = dict(evidence.config.models)
    if evidence.config.reward_run:
        folders["reward"] = evidence.config.reward_run
    curves = {name: curve for name, folder in folders.items() if (curve := training_curve(folder))}
    if curves:
        page.heading("Training")
    for name, (label, xs, ys) in curves.items():
        page.figure(
            plots.lines(
                {name: (xs, ys)}, x_label="step", y_label=f"{name}: {label}", title=f"{name}: {label}"
            ),
            f"{name}, {label} over {seconds(report['stages'][name]['seconds'])} of training.",
        )


def training_curve(folder: str) -> tuple[str, list[float], list[float]] | None:
    """(what, steps, values) of the first figure of CURVES that metrics.jsonl has; None without two points."""
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    for key, label in CURVES.items():
        points = [
            (row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float) and "step" in row
        ]
        if len(points) > 1:
            return label, [float(x) for x, _ in points], [float(y) for _, y in points]
    return None
