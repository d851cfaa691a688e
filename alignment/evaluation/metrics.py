"""Figures of one model, and of one model beside another: KL, length, endings, likelihood. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alignment.evaluation.answers import Answers
from alignment.evaluation.likelihood import LogProb
from alignment.evaluation.verdict import Judged
from alignment.stats import Interval, bootstrap_interval


def groups_of(answers: Answers) -> list[int]:
    """The number of the prompt of every answer, answers in reading order."""
    return [i for i, row in enumerate(answers) for _ in row]


def words(answers: Answers) -> list[int]:
    """Words of every answer, in reading order: runs of anything but white space."""
    return [len(answer.text.split()) for row in answers for answer in row]


def tokens(answers: Answers) -> list[int] | None:
    """Sampled tokens of every answer, the closing EOS included; None where they are not known."""
    counts = [None if a.token_ids is None else len(a.token_ids) for row in answers for a in row]
    return None if None in counts else [c for c in counts if c is not None]


def eos_rate(answers: Answers) -> float | None:
    """The share of answers that ended by themselves; None where that is not known of all."""
    ended = [a.finished for row in answers for a in row]
    return None if None in ended else sum(map(bool, ended)) / len(ended)


def empty_rate(answers: Answers) -> float:
    """The share of answers without a single word."""
    counts = words(answers)
    return sum(c == 0 for c in counts) / len(counts)


def kl(own: Sequence[LogProb], parent: Sequence[LogProb], groups: Sequence[int], seed: int = 0) -> Interval:
    """KL(π ‖ π_parent) in nats a completion, estimated from π's own samples, with its interval over prompts.

    The mean over completions of Σ_t log π(y_t|x, y_<t) − log π_parent(y_t|x, y_<t). The samples must come
    from π itself, neither warped nor at another temperature. Single terms may be negative; the mean is
    unbiased.
    """
    ratios = [mine.total - theirs.total for mine, theirs in zip(own, parent, strict=True)]
    return bootstrap_interval(ratios, groups, seed=seed)


def per_token(log_probs: Sequence[LogProb]) -> list[float]:
    """Mean log-probability a token of each completion; 0 for one without tokens."""
    return [lp.total / max(1, lp.tokens) for lp in log_probs]


def length_change(judged: Sequence[Judged], answers: dict[str, Answers], seed: int = 0) -> dict[str, Any]:
    """How much longer the first model's answers are, in words, and how often the longer answer won.

    {value, low, high, n: the mean paired difference and its interval; longer_won: the share of comparisons
    between answers of different length, ties left out, that the longer one won (None if there are none)}.
    """
    rows = [(answers[j.a][j.prompt][j.sample], answers[j.b][j.prompt][j.sample]) for j in judged]
    change = np.array([len(a.text.split()) - len(b.text.split()) for a, b in rows], dtype=np.float64)
    outcome = np.array([j.outcome for j in judged])
    decided = (change != 0) & (outcome != 0.5)
    longer = ((outcome > 0.5) == (change > 0))[decided]
    interval = bootstrap_interval(change, [j.prompt for j in judged], seed=seed)
    return {**interval._asdict(), "longer_won": float(longer.mean()) if decided.any() else None}
