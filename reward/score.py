"""Rewards for the completions of a dataset: `alignkit reward score`.

Each completion gets `rewards`, one a member of an ensemble. How far the members are apart about a prompt's
completions (alignment/stats/spread.py) is what orders the labeling queue, which reads it off the rewards.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from alignment.data.files import read_records, record_writer
from alignment.data.records import Record, message_dict
from alignment.stats.spread import disagreement

TOGETHER = 256  # records whose completions are scored at once, so that batches are of like length


def score_file(
    scorer: Any,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    overwrite: bool = False,
    as_one: bool = False,
) -> dict[str, Any]:
    """Write the records of `source` to `out` with the rewards of their completions, in place of any there.

    scorer: with `members` and `score` as RewardScorer has them; as_one: write its one score a completion, as
    the scorer combines its members. A completion that does not end with an assistant's words
    gets none. Returns {"records", "completions", "scored", "members", "mean", "disagreement" (mean over the
    records where members can differ, else None)}.
    """
    counts = {"records": 0, "completions": 0, "scored": 0}
    members, total, apart = 0, 0.0, []
    with record_writer(out, overwrite) as writer:
        for records in _groups(read_records([source])):
            rewards = _score(scorer, records, as_one)
            for record in records:
                counts["records"] += 1
                found = [next(rewards) for _ in record.completions]
                for completion, values in zip(record.completions, found, strict=True):
                    completion.rewards = None if values is None else [*values]
                scored = [values for values in found if values is not None]
                counts["completions"] += len(found)
                counts["scored"] += len(scored)
                members = max(members, *map(len, scored)) if scored else members
                total += sum(float(np.mean(values)) for values in scored)
                apart_by = disagreement(scored)
                if apart_by is not None:
                    apart.append(apart_by)
                writer.write(record)
    mean = total / counts["scored"] if counts["scored"] else None
    return {
        **counts,
        "members": members,
        "mean": mean,
        "disagreement": float(np.mean(apart)) if apart else None,
    }


def _groups(records: Iterable[Record]) -> Iterator[list[Record]]:
    stream = iter(records)
    while group := list(islice(stream, TOGETHER)):
        yield group


def _score(scorer: Any, records: list[Record], as_one: bool) -> Iterator[list[float] | None]:
    """The rewards, one a member or combined, of each completion in order; None where there is no reply."""
    prompts, texts, there = [], [], []
    for record in records:
        for completion in record.completions:
            turns = completion.turns()
            there.append(bool(turns) and turns[-1].role == "assistant" and not turns[-1].tool_calls)
            if there[-1]:
                prompts.append([message_dict(turn) for turn in [*record.prompt, *turns[:-1]]])
                texts.append(turns[-1].content)
    if as_one:
        rewards = iter([[score] for score in scorer.score(prompts, texts)] if texts else [])
    else:
        rewards = iter(scorer.members(prompts, texts) if texts else [])
    return iter([next(rewards) if scored else None for scored in there])
