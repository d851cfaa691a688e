"""Rows of safety probes: what a model answers to risky and harmless prompts, and how likely it finds texts.

    xstest       its answer, decoded greedily; whether it refuses is told later, by alignment.data.refusals
    bbq          log p(answer | context and question) of the three answers
    crows_pairs  log p(sentence) of both sentences as whole texts
    truthfulqa   log p(answer | question) of all answers

Nangia et al. score the tokens that both sentences of a pair share, each masked in turn. A causal model has no
masks: here both sentences are scored as they stand, so the figures are not those of their paper.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from alignment.evaluation.answers import Answers
from alignment.evaluation.config import ProbeSection
from alignment.evaluation.likelihood import Context, asked_with, choice_logps
from alignment.evaluation.safety_items import SafetyItem

PLAIN = "{question}\nA:"


def score_items(
    model: Any,
    tokenizer: Any,
    items: Sequence[SafetyItem],
    section: ProbeSection,
    count: Callable[[int], Any],
) -> list[dict[str, Any]]:
    """A row an item with the log-likelihood of each choice; `count` gets the choices of each batch.

    Asked is "CONTEXT\n\nQ: QUESTION\nA:" as plain text, or CONTEXT and QUESTION in the chat template.
    """
    asked: list[tuple[Context, Sequence[str]]] = []
    for item in items:
        template = section.template or ("{question}" if section.chat else PLAIN)
        question = item.text if section.chat else f"Q: {item.text}"
        told = f"{item.context}\n\n{question}" if item.context else question
        text = template.replace("{question}", told)
        plain = section.kind == "crows_pairs"  # whole sentences, after nothing
        asked.append(("", item.choices) if plain else asked_with(text, item.choices, section.chat))
    found = choice_logps(model, tokenizer, asked, progress=count)
    return [
        {"item": item.id, **item.facts, "log_probs": [one.total for one in row]}
        for item, row in zip(items, found, strict=True)
    ]


def answered(items: Sequence[SafetyItem], answers: Answers) -> list[dict[str, Any]]:
    """A row a prompt with the answer to it."""
    return [
        {"item": item.id, **item.facts, "text": row[0].text, "finished": row[0].finished}
        for item, row in zip(items, answers, strict=True)
    ]
