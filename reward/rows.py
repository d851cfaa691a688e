"""From views of the records to the trainer's rows: all completions of a prompt together, tokenized once.

A row is {"texts": token ids of each completion with its prompt; "length": of the longest; "id", "prompt"} and
what is known of their order, as places among the texts:
  pairs      "better", "worse", "weight"[, "margin"]: one entry a pair
  rankings   "places", "ranks": one list a judge
and for an ensemble or a debiased reward "draws", one number a member, and "offset", one a text.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alignment.backend.chat import completion_messages, encode, render_prompt, render_text
from reward.length import length_coefficient

Row = dict[str, Any]


def conversation_ids(row: Row, completion: Sequence[Any], tokenizer: Any) -> list[int]:
    """Token ids of a row's prompt and a completion's turns, rendered whole, as a scorer renders them."""
    turns = [*row["prompt"], *completion]
    return encode(tokenizer, render_text(tokenizer, turns, open_turn=False, tools=row.get("tools")))


def pair_ids(row: Row, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids of a row's chosen and rejected conversation."""
    chosen, rejected = (
        conversation_ids(row, completion_messages(row, side), tokenizer) for side in ("chosen", "rejected")
    )
    return chosen, rejected


def comparisons(
    rows: list[Row], tokenizer: Any, max_length: int | None, keys: Sequence[str] = ("weight", "margin")
) -> list[Row]:
    """Rows of the pairs view, gathered by prompt; pairs with a text over `max_length` are left out."""
    gathered: dict[str, Row] = {}
    for row in rows:
        pair = [tuple(ids) for ids in pair_ids(row, tokenizer)]
        if max_length is not None and max(map(len, pair)) > max_length:
            continue
        held = [key for key in keys if key in row]
        new: Row = {"better": [], "worse": [], **{key: [] for key in held}}
        one = _of_prompt(gathered, row, new)
        for side, text in zip(("better", "worse"), pair, strict=True):
            one[side].append(_place(one, text))
        for key in held:
            one[key].append(row[key])
    return list(gathered.values())


def rankings(rows: list[Row], tokenizer: Any, max_length: int | None) -> list[Row]:
    """Rows of the rankings view, gathered by prompt; a text over `max_length` is left out of its ranking.

    So is a ranking in which fewer than two different ranks are left.
    """
    gathered: dict[str, Row] = {}
    for row in rows:
        texts = [tuple(conversation_ids(row, turns, tokenizer)) for turns in row["completions"]]
        kept = [
            (text, rank)
            for text, rank in zip(texts, row["ranks"], strict=True)
            if max_length is None or len(text) <= max_length
        ]
        if len({rank for _, rank in kept}) < 2:
            continue
        one = _of_prompt(gathered, row, {"places": [], "ranks": []})
        one["places"].append([_place(one, text) for text, _ in kept])
        one["ranks"].append([rank for _, rank in kept])
    return list(gathered.values())


def _of_prompt(gathered: dict[str, Row], row: Row, new: Row) -> Row:
    return gathered.setdefault(
        json.dumps([row["id"], row["prompt"]]),
        {"texts": [], **new, "length": 0, "id": row["id"], "prompt": row["prompt"]},
    )


def _place(one: Row, text: tuple[int, ...]) -> int:
    """Where a text is among those of its prompt; it is added if it is not."""
    if text not in one["texts"]:
        one["texts"].append(text)
        one["length"] = max(one["length"], len(text))
    return one["texts"].index(text)


def orders(row: Row) -> Iterator[tuple[int, int, float]]:
    """(better, worse, weight) of each pair of texts that a row of either kind orders."""
    if "better" in row:
        yield from zip(row["better"], row["worse"], row["weight"], strict=True)
        return
    for places, ranks in zip(row["places"], row["ranks"], strict=True):
        ranked = list(zip(places, ranks, strict=True))
        yield from ((a, b, 1.0) for a, first in ranked for b, second in ranked if first < second)


def add_offsets(rows: list[Row], tokenizer: Any) -> float:
    """Give each row "offset", γ·log n of each text's completion of n tokens; returns γ (see length.py)."""
    logs = []
    for row in rows:
        start = len(render_prompt(tokenizer, row["prompt"]))
        logs.append([float(np.log(max(1, len(text) - start))) for text in row["texts"]])
    found = [(log[a] - log[b], w) for row, log in zip(rows, logs, strict=True) for a, b, w in orders(row)]
    gamma = length_coefficient([d for d, _ in found], [w for _, w in found])
    for row, log in zip(rows, logs, strict=True):
        row["offset"] = [gamma * value for value in log]
    return gamma


def add_draws(rows: list[Row], members: int, seed: int) -> None:
    """Give each row "draws", how often each member sees it: a bootstrap sample of the prompts a member.

    A prompt's number of draws is Poisson(1), the bootstrap's for many rows, and depends on nothing but the
    prompt's place and the seed.
    """
    draws = np.random.default_rng(seed).poisson(1.0, size=(len(rows), members))
    for row, counts in zip(rows, draws.tolist(), strict=True):
        row["draws"] = counts


def shuffled(rows: list[Row], seed: int) -> list[Row]:
    """Rows of the pairs view with chosen and rejected exchanged in a random half of them."""
    turned = set(random.Random(seed).sample(range(len(rows)), len(rows) // 2))  # noqa: S311
    return [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]} if number in turned else row
        for number, row in enumerate(rows)
    ]
