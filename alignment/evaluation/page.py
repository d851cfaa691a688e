"""The evaluation's page: verdict first, then the figures it rests on, the checks, samples, and the origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from alignment.evaluation.page_capability import capability
from alignment.evaluation.page_checks import checks, judges
from alignment.evaluation.page_cost import cost
from alignment.evaluation.page_figures import models, slices, training, win_rates
from alignment.evaluation.page_safety import safety
from alignment.evaluation.page_samples import samples
from alignment.evaluation.phrases import covers, listed
from alignment.report.page import Page

if TYPE_CHECKING:
    from alignment.evaluation.report import Evidence


def build_page(evidence: Evidence, report: dict[str, Any]) -> Page:
    """The page of `report` (see report.build_report), with samples from the evidence."""
    config = evidence.config
    first = list(dict.fromkeys(a for a, _ in config.comparisons))
    question = "Is {} better than {}?".format(*config.comparisons[0])
    each = "one answer" if config.samples_per_prompt == 1 else f"{config.samples_per_prompt} answers"
    what = "turn of each prompt" if any(prompt.follow_ups for prompt in evidence.prompts) else "prompt"
    page = Page(
        question if len(config.comparisons) == 1 else f"Evaluation of {listed(first)}",
        f"{len(config.models)} candidates, {len(evidence.prompts):,} prompts, {each} to each {what}; "
        f"judge: {evidence.judge.name}",
    )
    for verdict in report["verdict"]:
        page.verdict(verdict["text"], verdict["tone"], verdict["detail"])
    page.text(f"The judge. {report['judge']['statement']}\n\nWhat the intervals cover. {covers(report)}")
    if report["warnings"]:
        page.heading("Before you rely on it")
        page.points(report["warnings"])
    win_rates(page, evidence, report)
    models(page, evidence, report)
    slices(page, report)
    judges(page, report)
    capability(page, report)
    safety(page, report)
    cost(page, report)
    checks(page, evidence, report)
    training(page, evidence, report)
    samples(page, evidence)
    _origin(page, report)
    return page


def _origin(page: Page, report: dict[str, Any]) -> None:
    page.heading("How this was made")
    page.text(
        f"Prompts from {', '.join(report['prompts']['files'])}. Every answer is kept in completions.jsonl, "
        "every verdict in verdicts.jsonl, every log-probability in likelihoods.jsonl and every item of a "
        "probe in probes/ of the run, so each figure can be computed again without a model."
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
