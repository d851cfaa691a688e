"""The page's samples: prompts drawn by the run's seed, with every candidate's answer beside the others'."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alignment.data.refusals import is_refusal
from alignment.evaluation.answers import Answer, Prompt, Talk, talks
from alignment.evaluation.phrases import title
from alignment.report.page import Column, Filter, Page, Sample
from alignment.report.text import number

if TYPE_CHECKING:
    from alignment.evaluation.report import Evidence

OPEN = 10  # samples shown at once
MOST = 100  # samples that the page holds
CHARACTERS = 2_000_000  # of all their texts: a page that opens at once
WORDS = {1: "won", 0: "tied", -1: "lost"}


def samples(page: Page, evidence: Evidence) -> None:
    """Side by side: prompts drawn at random, filtered by who won, by refusals, and by length."""
    drawn = _drawn(evidence)
    names = list(evidence.judged)
    filters = [
        Filter(title(name), word, f"{i}-{word}") for i, name in enumerate(names) for word in WORDS.values()
    ]
    filters += [
        Filter("refusals", f"{name} refuses", f"refusal-{i}") for i, name in enumerate(evidence.config.models)
    ]
    page.heading("Side by side")
    all_of = "All" if len(drawn) == len(evidence.prompts) else f"{len(drawn)} of"
    scored = "The bar above an answer is green where the judge scores it best. "
    page.text(
        f"{all_of} {len(evidence.prompts):,} prompts, in an order drawn by lot, not picked, with the first "
        f"answer of each candidate as it was. {scored if hasattr(evidence.judge, 'scores') else ''}"
        "Refusals are told by a list of English phrases."
    )
    page.samples(drawn, filters, OPEN)


def _drawn(evidence: Evidence) -> list[Sample]:
    """Up to MOST prompts in an order of the run's seed alone."""
    order = np.random.default_rng(evidence.config.run.seed).permutation(len(evidence.prompts))
    outcomes = _outcomes(evidence)
    drawn: list[Sample] = []
    characters = 0
    for i in map(int, order[:MOST]):
        prompt = evidence.prompts[i]
        last = {name: talks(prompt, rows[i])[0] for name, rows in evidence.ordered.items()}
        characters += sum(len(answer.text) for talk in last.values() for answer in talk)
        if characters > CHARACTERS and drawn:
            break
        drawn.append(_sample(evidence, prompt, last, outcomes[i]))
    return drawn


def _outcomes(evidence: Evidence) -> list[dict[str, int]]:
    """For each prompt whether the first of each comparison won (1), tied (0) or lost (-1) on it."""
    balance: list[dict[str, float]] = [{} for _ in evidence.prompts]
    for name, judged in evidence.judged.items():
        for j in judged:
            balance[j.prompt][name] = balance[j.prompt].get(name, 0.0) + j.outcome - 0.5
    return [{name: (v > 0) - (v < 0) for name, v in row.items()} for row in balance]


def _sample(evidence: Evidence, prompt: Prompt, given: dict[str, Talk], outcomes: dict[str, int]) -> Sample:
    score = getattr(evidence.judge, "scores", None)
    last = [talk[-1] for talk in given.values()]
    scores = score([prompt] * len(last), last) if score else [None] * len(last)
    known = {s for s in scores if s is not None}
    best = max(known) if len(known) > 1 else None  # where all are equal, none stands out
    columns = [
        Column(
            name,
            _text(talk),
            _remark(talk[-1], s),
            "good" if s is not None and s == best else "plain",
        )
        for (name, talk), s in zip(given.items(), scores, strict=True)
    ]
    tags = [f"{list(evidence.judged).index(name)}-{WORDS[sign]}" for name, sign in outcomes.items()]
    tags += [f"refusal-{i}" for i, talk in enumerate(given.values()) if any(is_refusal(a.text) for a in talk)]
    told = "; ".join(f"{title(name)}: {WORDS[sign]}" for name, sign in outcomes.items())
    return Sample(
        [(m["role"], m["content"]) for m in prompt.messages],
        columns,
        note=f"Of the judge's verdicts here, {told}." if told else "",
        title=" · ".join([f"Prompt {prompt.id}", *prompt.tags]),
        tags=tuple(tags) or ("unjudged",),
    )


def _text(talk: Talk) -> str:
    """What a candidate said, and between its turns what it was asked next."""
    said = [talk[0].text]
    said += [f"[asked next] {answer.before[-1][1]}\n\n{answer.text}" for answer in talk[1:]]
    return "\n\n".join(said)


def _remark(answer: Answer, score: float | None) -> str:
    parts = [] if score is None else [f"score {number(score)}"]
    return ", ".join([*parts, *(["cut off"] if answer.finished is False else [])])
