"""From the evidence (answers, likelihoods, verdicts) to the figures of report.json, and both to disk.

report.json: win_rate.{a_vs_b} {rate, low, high, n, ties}; sign_test.{a_vs_b} {wins, losses, p, p_holm};
stages.{model} {seconds, kl, kl_interval, …}; reward_model.accuracy {value, low, high, n}; controls; probes;
diversity; text_metrics; verdict; warnings; judge; config; lineage. Seconds are wall-clock, KL and
log-likelihoods in nats, lengths in words and tokens. Intervals are 95% percentile bootstraps over prompts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment.backend.runs import read_run
from alignment.data.files import atomic_output, write_records
from alignment.errors import UserError
from alignment.evaluation import metrics
from alignment.evaluation.answers import Answers, Prompt, answer_records, is_file
from alignment.evaluation.cautions import cautions
from alignment.evaluation.collect import ANSWERS, KL_SAMPLES, Collected, is_warped
from alignment.evaluation.cost import cost_figures, write_costs
from alignment.evaluation.diversity import diversity_report
from alignment.evaluation.findings import contamination_of, slices_of, statistics_of
from alignment.evaluation.panel import Opinion, agreement_of, conduct
from alignment.evaluation.probe_figures import probe_report
from alignment.evaluation.probe_rows import Measured, probe_pairs
from alignment.evaluation.safety_figures import safety_report
from alignment.evaluation.safety_items import SAFETY
from alignment.evaluation.seeds import seeds_report
from alignment.evaluation.statistics import doubted, undecided
from alignment.evaluation.verdict import Judged, claim, claim_over_seeds, rate_of, sign_tests
from alignment.stats import Interval, WinRate, bootstrap_interval

if TYPE_CHECKING:
    from alignment.evaluation.stage import Config

FORMAT = 1
PROMPTS = "the prompts"  # beside the names of probes, which have no blanks


@dataclass
class Evidence:
    """All that the figures are computed from."""

    config: Config
    prompts: list[Prompt]
    repeated: int
    collected: Collected
    opinions: list[Opinion]  # the first is the judge's whose verdict counts
    control: dict[str, list[Judged]]
    measured: dict[str, Measured] = field(default_factory=dict)  # by probe
    probe_texts: dict[str, list[Prompt]] = field(default_factory=dict)  # what each probe asks
    costs: dict[str, Any] = field(default_factory=dict)  # by candidate, see cost.py

    @property
    def capability(self) -> dict[str, Measured]:
        """The probes of what was kept and forgotten, without those on safety."""
        return {name: m for name, m in self.measured.items() if m.settings["kind"] not in SAFETY}

    @property
    def judge(self) -> Any:
        return self.opinions[0].judge

    @property
    def judged(self) -> dict[str, list[Judged]]:
        return self.opinions[0].judged

    @property
    def ordered(self) -> dict[str, Answers]:
        """The answers in the order in which the config names the candidates."""
        return {name: self.collected.answers[name] for name in self.config.models}


def build_report(evidence: Evidence, seconds: float) -> dict[str, Any]:
    """The content of report.json; `seconds`: how long the evaluation took so far."""
    config, seed = evidence.config, evidence.config.run.seed
    rates = {name: rate_of(judged, seed) for name, judged in evidence.judged.items()}
    tests = sign_tests(evidence.judged)
    statistics = {
        name: statistics_of(judged, evidence.collected.answers, seed)
        for name, judged in evidence.judged.items()
    }
    seeds = seeds_report(config, evidence.judged, seed)
    contaminated = contamination_of(config.models, {PROMPTS: evidence.prompts, **evidence.probe_texts})
    lost = probe_pairs(config.models, config.base, config.pairs())
    report: dict[str, Any] = {
        "format": FORMAT,
        "verdict": _verdicts(config, len(evidence.prompts), rates, tests, statistics, seeds),
        "warnings": [],
        "win_rate": {name: rate._asdict() for name, rate in rates.items()},
        "sign_test": tests,
        "statistics": statistics,
        "over_seeds": seeds,
        "slices": slices_of(evidence.judged, evidence.prompts, seed),
        "contamination": contaminated.pop(PROMPTS),
        "probe_contamination": contaminated,
        "diversity": diversity_report(evidence.ordered, seed),
        "text_metrics": _text_metrics(evidence, seed),
        "probes": probe_report(evidence.capability, lost, seed),
        "safety": safety_report(evidence.measured, lost, seed),
        "stages": {name: _model_figures(evidence, name) for name in config.models},
        "cost": {name: cost_figures(cost) for name, cost in evidence.costs.items()},
        "controls": _controls(evidence),
        "judge": {
            "kind": config.judge.kind,
            "name": evidence.judge.name,
            "statement": evidence.judge.statement,
            **conduct(evidence.judge, seed),
        },
        "other_judges": [_other(evidence, opinion, seed) for opinion in evidence.opinions[1:]],
        "prompts": {"n": len(evidence.prompts), "repeated": evidence.repeated, "files": config.prompts},
        "samples_per_prompt": config.samples_per_prompt,
    }
    if config.reward_run:
        report["reward_model"] = {"accuracy": read_accuracy(config.reward_run)}
        report["stages"]["reward"] = {"seconds": read_run(config.reward_run)["seconds"], "kl": None}
    report["stages"]["evaluate"] = {"seconds": round(seconds, 3), "kl": None}
    report["config"] = config.model_dump(mode="json")
    report["lineage"] = {name: lineage(path) for name, path in config.models.items()}
    report["warnings"] = cautions(report, config)
    return report


def _text_metrics(evidence: Evidence, seed: int) -> dict[str, Any] | None:
    """The answers beside the prompts' references; None where there is no reference."""
    if not any(prompt.reference for prompt in evidence.prompts):
        return None
    from alignment.evaluation.text_metrics import text_report

    return text_report(evidence.prompts, evidence.ordered, evidence.config.pairs(), seed)


def _verdicts(
    config: Config,
    prompts: int,
    rates: dict[str, WinRate],
    tests: dict[str, Any],
    statistics: dict[str, Any],
    seeds: dict[str, Any],
) -> list[dict[str, Any]]:
    """What may be concluded of each comparison of the config, in words."""
    found = []
    for a, b in config.comparisons:
        name = f"{a}_vs_{b}"
        if name in seeds:
            over = Interval(*(seeds[name][key] for key in ("value", "low", "high", "n")))
            rated = list(seeds[name]["rates"].values())
            said = claim_over_seeds(a, b, over, rated, prompts, seeds[name]["p_holm"], len(seeds))
        else:
            enough = undecided(a, b, {**statistics[name], "win_rate": rates[name]._asdict()})
            test = tests[name]
            signs = test["wins"], test["losses"]
            doubt = doubted(statistics[name])
            said = claim(a, b, rates[name], test["p_holm"], prompts, len(rates), enough, signs, doubt)
        found.append({"comparison": name, **said._asdict()})
    return found


def _other(evidence: Evidence, opinion: Opinion, seed: int) -> dict[str, Any]:
    """What another judge says of the same answers, and how far it agrees with the one that counts."""
    names = evidence.judged
    return {
        "name": opinion.judge.name,
        "statement": opinion.judge.statement,
        **conduct(opinion.judge, seed),
        "win_rate": {name: rate_of(opinion.judged[name], seed)._asdict() for name in names},
        "agreement_with_judge": {
            name: agreement_of(evidence.judged[name], opinion.judged[name], seed) for name in names
        },
    }


def read_accuracy(folder: str) -> dict[str, Any]:
    """{value, low, high, n} of a reward run's held-out accuracy, from its run.json."""
    accuracy = read_run(folder)["metrics"].get("accuracy")
    if not isinstance(accuracy, dict) or not {"value", "low", "high", "n"} <= accuracy.keys():
        raise UserError(
            f"{folder}/run.json has no held-out accuracy with an interval: train the reward model with "
            "validation data, and to its end"
        )
    return {key: accuracy[key] for key in ("value", "low", "high", "n")}


def write_evidence(folder: Path, evidence: Evidence, report: dict[str, Any]) -> None:
    """completions.jsonl, verdicts.jsonl, likelihoods.jsonl and report.json in `folder`."""
    config, collected = evidence.config, evidence.collected
    settings = config.generation.model_dump(exclude={"token_budget"})
    settings["seed"] += config.run.seed
    params = {name: settings for name, path in config.models.items() if not is_file(path)}
    names = {name: collected.answers[name] for name in config.models}
    write_records(
        folder / "completions.jsonl", answer_records(evidence.prompts, names, params), overwrite=True
    )
    groups: list[tuple[dict[str, Any], dict[str, list[Judged]]]] = [
        ({"control": None}, evidence.judged),
        ({"control": None}, evidence.opinions[0].unread),
        ({"control": "shuffled_prompts"}, evidence.control),
    ]
    for opinion in evidence.opinions[1:]:
        name = {"control": "other_judge", "judge": opinion.judge.name}
        groups += [(name, opinion.judged), (name, opinion.unread)]
    verdicts = [
        {
            **j._asdict(),
            "prompt": evidence.prompts[j.prompt].id,
            "on": evidence.prompts[j.on].id,
            **origin,
        }
        for origin, group in groups
        for rows in group.values()
        for j in rows
    ]
    _write_lines(folder / "verdicts.jsonl", verdicts)
    first = collected.answers[next(iter(config.models))]
    places = [(evidence.prompts[i].id, k) for i, row in enumerate(first) for k in range(len(row))]
    likelihoods = [
        {
            "model": author,
            "under": under,
            "of": kind,
            "prompt": prompt,
            "sample": sample,
            "log_prob": lp.total,
            "tokens": lp.tokens,
        }
        for (author, under, kind), rows in collected.log_probs.items()
        for (prompt, sample), lp in zip(places, rows, strict=True)
    ]
    _write_lines(folder / "likelihoods.jsonl", likelihoods)
    write_costs(folder, evidence.costs)
    with atomic_output(folder / "report.json", overwrite=True) as temporary:
        temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with atomic_output(path, overwrite=True) as temporary, temporary.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _names(judged: Sequence[Judged]) -> tuple[str, str]:
    return judged[0].a, judged[0].b


def _model_figures(evidence: Evidence, name: str) -> dict[str, Any]:
    """The figures of one model, for `stages.{name}`."""
    config, collected = evidence.config, evidence.collected
    answers, seed = collected.answers[name], evidence.config.run.seed
    groups = metrics.groups_of(answers)
    kind = KL_SAMPLES if is_warped(config.generation) else ANSWERS
    parent = config.parents.get(name)
    kl = None
    if parent is not None and name not in collected.unlike:
        own, its = (collected.log_probs[name, under, kind] for under in (name, parent))
        kl = metrics.kl(own, its, groups, seed)
    tokens = metrics.tokens(answers)
    under_base = collected.log_probs.get((name, config.base or "", ANSWERS))
    scores = evidence.judge.scores if hasattr(evidence.judge, "scores") else None
    rows = [(p, a) for p, row in zip(evidence.prompts, answers, strict=True) for a in row]
    score = scores([p for p, _ in rows], [a for _, a in rows]) if scores else None

    def interval(values: Sequence[float] | None) -> dict[str, Any] | None:
        return None if values is None else bootstrap_interval(values, groups, seed=seed)._asdict()

    return {
        "seconds": _seconds(config.models[name]),
        "kl": None if kl is None else kl.value,
        "kl_interval": None if kl is None else kl._asdict(),
        "parent": parent,
        "why_no_kl": collected.unlike.get(name, None if kl else "it is a file of completions"),
        "words": interval(metrics.words(answers)),
        "tokens": interval(tokens),
        "eos_rate": metrics.eos_rate(answers),
        "empty_rate": metrics.empty_rate(answers),
        "score": interval(score),
        "log_likelihood_under_base": interval(metrics.per_token(under_base) if under_base else None),
    }


def _controls(evidence: Evidence) -> dict[str, Any]:
    """What would give a hollow victory away."""
    config, collected, seed = evidence.config, evidence.collected, evidence.config.run.seed
    falls: dict[str, Any] = {}
    for name in config.models:
        other = config.parents.get(name, config.base)
        pair = [collected.log_probs.get((n or "", config.base or "", ANSWERS)) for n in (name, other)]
        if name == other or None in pair:
            continue
        mine, others = (metrics.per_token(rows) for rows in pair if rows is not None)
        change = bootstrap_interval(
            [x - y for x, y in zip(mine, others, strict=True)],
            metrics.groups_of(collected.answers[name]),
            seed=seed,
        )
        flagged = change.value < -config.likelihood_fall
        falls[name] = {**change._asdict(), "against": other, "flagged": flagged}
    return {
        "shuffled_prompts": {k: rate_of(judged, seed)._asdict() for k, judged in evidence.control.items()},
        "length": {
            name: metrics.length_change(judged, collected.answers, seed)
            for name, judged in evidence.judged.items()
        },
        "log_likelihood": falls,
        "reward_on_shuffled_labels": read_accuracy(config.reward_control) if config.reward_control else None,
    }


def _seconds(path: str) -> float | None:
    """How long the training run at `path` took; None where it is no run directory."""
    return read_run(path)["seconds"] if (Path(path) / "run.json").is_file() else None


def lineage(path: str, depth: int = 8) -> dict[str, Any]:
    """Where a model comes from: its run's stage, data, code and versions, and the same of its parents."""
    if not (Path(path) / "run.json").is_file():
        return {"path": path}
    state = read_run(path)
    kept = {key: state.get(key) for key in ("stage", "started", "seconds", "git", "versions", "data")}
    parents = (
        {name: lineage(name, depth - 1) | value for name, value in state["parents"].items()} if depth else {}
    )
    return {"path": path, **kept, "parents": parents}
