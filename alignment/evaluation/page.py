"""The evaluation's page: verdict first, then the figures it rests on, the checks, samples, and the origin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from alignment.evaluation import metrics
from alignment.report import plots
from alignment.report.page import Column, Page, Sample
from alignment.report.text import number, percent, seconds

if TYPE_CHECKING:
    from alignment.evaluation.report import Evidence

SAMPLES = 10
# The figure that says most about a stage's training, the first that its log has.
CURVES = {
    "score": "mean score of the reward model",
    "reward": "mean reward",
    "rewards/accuracies": "share of pairs ordered as judged",
    "accuracy": "share of pairs ordered as judged",
    "loss": "loss",
}


def build_page(evidence: Evidence, report: dict[str, Any]) -> Page:
    """The page of `report` (see report.build_report), with samples from the evidence."""
    config = evidence.config
    first = list(dict.fromkeys(a for a, _ in config.comparisons))
    each = "one answer" if config.samples_per_prompt == 1 else f"{config.samples_per_prompt} answers"
    page = Page(
        f"Evaluation of {_listed(first)}",
        f"{len(config.models)} candidates, {len(evidence.prompts):,} prompts, {each} to each prompt; "
        f"judge: {evidence.judge.name}",
    )
    for verdict in report["verdict"]:
        page.verdict(verdict["text"], verdict["tone"], verdict["detail"])
    page.text(f"The judge. {report['judge']['statement']}")
    if report["warnings"]:
        page.heading("Before you rely on it", 3)
        page.points(report["warnings"])
    _win_rates(page, evidence, report)
    _models(page, evidence, report)
    _slices(page, report)
    _judges(page, report)
    _checks(page, evidence, report)
    _training(page, evidence, report)
    page.heading("Side by side")
    shown = min(SAMPLES, len(evidence.prompts))
    page.text(
        f"{shown} prompts drawn at random, not picked, with the first answer of each candidate "
        "as it was. The bar above an answer is green where the judge scores it best."
    )
    page.samples(_samples(evidence))
    _origin(page, report)
    return page


def _win_rates(page: Page, evidence: Evidence, report: dict[str, Any]) -> None:
    page.heading("Win rates")
    rows, tones = [], []
    for verdict in report["verdict"]:
        name = verdict["comparison"]
        judged = evidence.judged[name]
        rate, test = report["win_rate"][name], report["sign_test"][name]
        won, lost = (sum(j.outcome == o for j in judged) for o in (1.0, 0.0))
        p = "< 0.0001" if test["p_holm"] < 1e-4 else number(test["p_holm"])
        rows.append([_title(name), *_shares(rate), won, rate["ties"], lost, p])
        tones.append(verdict["tone"])
    page.table(
        ["comparison", "win rate", "95% interval", "won", "tied", "lost", "sign test p"], rows, tones=tones
    )
    beside = [
        [_title(name), _at_equal_length(figures), _power(figures), _peeked(figures)]
        for name, figures in report["statistics"].items()
    ]
    page.table(["comparison", "at equal length", "could have seen", "had one stopped early"], beside)
    marks = [(_title(name), r["rate"], r["low"], r["high"]) for name, r in report["win_rate"].items()]
    low = min([0.4, *(m[2] for m in marks)])
    page.figure(
        plots.intervals(
            marks, reference=0.5, bounds=(low, 1.0), x_label="share of comparisons won", title="Win rates"
        ),
        "Win rates, a tie counted as half, with 95% intervals. The dashed line is one half: no difference.",
    )
    lengths = {name: metrics.words(answers) for name, answers in _in_order(evidence).items()}
    page.figure(
        plots.histogram(lengths, x_label="words", title="Length of the answers"),
        "Length of the answers. The upright line is the mean; each row has its own height.",
    )
    page.text(
        "Intervals are percentile bootstrap intervals over prompts (10,000 resamples). They say how much the "
        "figures would move with other prompts of this kind, not with another training seed or another "
        "judge. The sign test is exact and two-sided, over prompts, with Holm's correction for several "
        "comparisons."
    )


def _at_equal_length(figures: dict[str, Any]) -> str:
    """The win rate that a regression on the difference in length leaves."""
    controlled = figures["length_controlled"]
    if controlled is None:
        return "–"
    share, interval = _shares(controlled)
    return f"{share} [{interval}]"


def _power(figures: dict[str, Any]) -> str:
    """The least win rate that so many prompts show with 80% chance."""
    least = figures["power"]["smallest_rate_exactly"]
    return "nothing: too few prompts" if least is None else f"a win rate of {percent(least)} or more"


def _peeked(figures: dict[str, Any]) -> str:
    """What an anytime-valid test says, looked at after every prompt."""
    at = figures["sequential"]["decided_at"]
    return "not decided" if at is None else f"decided after {at:,} prompts"


def _models(page: Page, evidence: Evidence, report: dict[str, Any]) -> None:
    page.heading("The candidates")
    rows = []
    for name in evidence.config.models:
        f = report["stages"][name]
        kl = "–" if f["kl"] is None else f"{_spread(f['kl_interval'])} from {f['parent']}"
        words, score, likely = f["words"], f["score"], f["log_likelihood_under_base"]
        rows.append(
            [
                name,
                kl,
                "–" if words is None else number(words["value"]),
                percent(f["eos_rate"]),
                "–" if score is None else _spread(score),
                "–" if likely is None else _spread(likely),
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
    base, limit = evidence.config.base, evidence.config.generation.max_new_tokens
    notes = [
        f"Ended: the share of answers closed by the model itself, within {limit} tokens where it was sampled."
    ]
    if 1 in known:
        notes.append(
            "KL: how far the model has moved from the one it was trained from, estimated on its own samples "
            "at temperature 1, as far as they go (the mean over answers of the summed log-ratio)."
        )
    if base:
        notes.append(f"Log-likelihood: nats a token of the answers under the frozen {base}.")
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


def _slices(page: Page, report: dict[str, Any]) -> None:
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
                title=f"{_title(name)}, by tag",
            ),
            f"{_title(name)}: win rates on the prompts of each tag. One interval in twenty misses by chance.",
        )


def _judges(page: Page, report: dict[str, Any]) -> None:
    """How an LLM judge behaved, how far people agree, and what other judges say."""
    judges = [report["judge"], *report["other_judges"]]
    rows: list[list[str]] = []
    for judge in judges:
        name = judge["name"]
        if "asked" in judge:
            counts = f"{judge['asked']:,} asked, {judge['unread']:,} without a verdict"
            changed = f"{judge['changed_with_order']:,} verdicts changed with the order and count as ties."
            rows.append([f"{name}: replies", counts, changed])
        if judge.get("position"):
            rows.append(
                [
                    f"{name}: chose the answer shown first",
                    _spread(judge["position"]),
                    "One half, if it looks at the answers alone.",
                ]
            )
        if judge.get("agreement"):
            said = judge["agreement"]
            alpha = "–" if said["alpha"] is None else number(said["alpha"])
            rows.append(
                [
                    f"{name}: agreement",
                    _spread(said),
                    f"Share of {said['n']:,} pairs of verdicts that are the same, ties included; "
                    f"Krippendorff's alpha {alpha}, {said['people']} people.",
                ]
            )
        for comparison, agreement in judge.get("agreement_with_judge", {}).items():
            rate = judge["win_rate"][comparison]
            share, interval = _shares(rate)
            same = "–" if agreement is None else f"{_spread(agreement)}, kappa {number(agreement['kappa'])}"
            rows.append(
                [
                    f"{name}: {_title(comparison)}",
                    f"{share} [{interval}]",
                    f"The same verdict as {report['judge']['name']}: {same}.",
                ]
            )
    if rows:
        page.heading("The judges")
        page.table(["judge", "figure", "what it means"], rows)
    for judge in report["other_judges"]:
        page.text(f"Asked besides: {judge['statement']}")


def _checks(page: Page, evidence: Evidence, report: dict[str, Any]) -> None:
    """The honesty controls, each with what it should have shown."""
    page.heading("Checks against a hollow victory")
    controls = report["controls"]
    rows: list[list[str]] = []
    for name, rate in controls["shuffled_prompts"].items():
        share, interval = _shares(rate)
        real = percent(report["win_rate"][name]["rate"])
        rows.append(
            [
                f"{_title(name)}, prompts shuffled",
                f"{share} [{interval}]",
                f"Answers judged against another prompt. With the right prompts it is {real}; the nearer "
                "this is to one half, the more of the win has to do with the request.",
            ]
        )
    for name, length in controls["length"].items():
        longer = percent(length["longer_won"])
        rows.append(
            [
                f"{_title(name)}, change in length",
                f"{_signed(length)} words",
                f"The longer of the two answers won {longer} of the decided comparisons.",
            ]
        )
    for name, fall in controls["log_likelihood"].items():
        verdict = "A large fall: read the samples." if fall["flagged"] else "No large fall."
        rows.append(
            [
                f"{name}, log-likelihood against {fall['against']}",
                f"{_signed(fall)} nats a token",
                f"{verdict} A fall of more than {number(evidence.config.likelihood_fall)} is flagged.",
            ]
        )
    accuracy = report.get("reward_model", {}).get("accuracy")
    if accuracy:
        rows.append(
            [
                "reward model, held-out accuracy",
                _spread(accuracy),
                f"Share of {accuracy['n']:,} held-out pairs ordered as the judges did.",
            ]
        )
    chance = controls["reward_on_shuffled_labels"]
    if chance:
        rows.append(
            ["the same, trained on shuffled labels", _spread(chance), "Nothing to learn: about one half."]
        )
    page.table(["check", "figure", "what it means"], rows)


def _training(page: Page, evidence: Evidence, report: dict[str, Any]) -> None:
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


def _samples(evidence: Evidence) -> list[Sample]:
    """Ten prompts chosen by the run's seed alone."""
    count = min(SAMPLES, len(evidence.prompts))
    order = np.random.default_rng(evidence.config.run.seed).permutation(len(evidence.prompts))
    chosen = sorted(int(i) for i in order[:count])
    score = getattr(evidence.judge, "scores", None)
    samples = []
    for i in chosen:
        prompt = evidence.prompts[i]
        answers = {name: rows[i][0] for name, rows in _in_order(evidence).items()}
        scores = score([prompt] * len(answers), list(answers.values())) if score else [None] * len(answers)
        known = {s for s in scores if s is not None}
        best = max(known) if len(known) > 1 else None  # where all are equal, none stands out
        columns = [
            Column(
                name,
                answer.text,
                _remark(s, answer.finished),
                "good" if s is not None and s == best else "plain",
            )
            for (name, answer), s in zip(answers.items(), scores, strict=True)
        ]
        samples.append(Sample([(m["role"], m["content"]) for m in prompt.messages], columns))
    return samples


def _in_order(evidence: Evidence) -> dict[str, Any]:
    return {name: evidence.collected.answers[name] for name in evidence.config.models}


def _remark(score: float | None, finished: bool | None) -> str:
    parts = [] if score is None else [f"score {number(score)}"]
    return ", ".join([*parts, *(["cut off"] if finished is False else [])])


def _origin(page: Page, report: dict[str, Any]) -> None:
    page.heading("How this was made")
    page.text(
        f"Prompts from {', '.join(report['prompts']['files'])}. Every answer is kept in completions.jsonl, "
        "every verdict in verdicts.jsonl and every log-probability in likelihoods.jsonl of the run, so "
        "each figure can be computed again without a model."
    )
    if report["judge"]["kind"] == "program":
        from alignment.evaluation import program

        page.code((program.__doc__ or "").strip(), "The judge's rule")
    page.code(_yaml(report["config"]), "The whole configuration")
    page.code(
        _yaml(report["lineage"]), "Where the models come from: stages, data with fingerprints, versions"
    )


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def _title(name: str) -> str:
    return name.replace("_vs_", " against ")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _shares(rate: dict[str, Any]) -> tuple[str, str]:
    return percent(rate["rate"]), f"{percent(rate['low'])} to {percent(rate['high'])}"


def _spread(interval: dict[str, Any]) -> str:
    return f"{number(interval['value'])} [{number(interval['low'])}, {number(interval['high'])}]"


def _signed(interval: dict[str, Any]) -> str:
    return f"{'+' if interval['value'] > 0 else ''}{_spread(interval)}"
