"""From judged comparisons to win rates, and from win rates to sentences. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from alignment.evaluation.answers import Answers, Prompt
from alignment.evaluation.judges import Judge
from alignment.stats import WinRate, holm, sign_test, win_rate


class Judged(NamedTuple):
    """One verdict on answers `sample` of a and b to prompt number `prompt`, judged against prompt `on`.

    sample: the place in the row of `Answers`, where the turns of a conversation count one by one.
    """

    a: str
    b: str
    prompt: int
    sample: int
    on: int
    outcome: Any  # 1, 0.5, 0; None where no verdict could be read, before those are set apart
    score_a: float | None
    score_b: float | None
    turn: int = 1  # of the conversation; people judge the whole of one, and are given its last


class Claim(NamedTuple):
    """What may be concluded from a comparison, in words."""

    text: str
    detail: str
    tone: Literal["good", "bad", "unsure"]


def compare(
    judge: Judge,
    prompts: Sequence[Prompt],
    names: tuple[str, str],
    answers: dict[str, Answers],
    on: Sequence[int] | None = None,
) -> list[Judged]:
    """Every answer of the first model against the same sample of the second.

    on: for each prompt the number of the prompt that its answers are judged against; by default its own.
    Against another prompt only first answers are judged: a later one has its own request before it.
    """
    a, b = names
    where = [
        (i, k)
        for i, row in enumerate(answers[a])
        for k, answer in enumerate(row)
        if on is None or answer.turn == 1
    ]
    against = list(range(len(prompts))) if on is None else list(on)
    verdicts = judge(
        [prompts[against[i]] for i, _ in where],
        [answers[a][i][k] for i, k in where],
        [answers[b][i][k] for i, k in where],
    )
    return [
        Judged(a, b, i, k, against[i], *v, turn=answers[a][i][k].turn)
        for (i, k), v in zip(where, verdicts, strict=True)
    ]


def shuffled(size: int, seed: int) -> list[int]:
    """A random permutation of 0 … size-1 in which nothing stays in its place. size must be at least 2."""
    order = np.random.default_rng(seed).permutation(size)
    moved = np.empty(size, dtype=np.int64)
    moved[order] = np.roll(order, 1)  # one cycle through all: each takes its predecessor's place
    return [int(i) for i in moved]


def rate_of(judged: Sequence[Judged], seed: int = 0) -> WinRate:
    """The first model's win rate with a bootstrap interval over prompts."""
    return win_rate([j.outcome for j in judged], [j.prompt for j in judged], seed=seed)


def signs_of(judged: Sequence[Judged]) -> tuple[int, int]:
    """Prompts on which the first model won more answers than it lost, and the reverse, for a sign test."""
    balance: dict[int, float] = {}
    for j in judged:
        balance[j.prompt] = balance.get(j.prompt, 0.0) + j.outcome - 0.5
    return sum(v > 0 for v in balance.values()), sum(v < 0 for v in balance.values())


def sign_tests(comparisons: Mapping[str, Sequence[Judged]]) -> dict[str, dict[str, Any]]:
    """For each comparison {wins, losses (prompts), p (exact sign test), p_holm (over all comparisons)}."""
    counts = {name: signs_of(judged) for name, judged in comparisons.items()}
    p = [sign_test(*pair) for pair in counts.values()]
    adjusted = holm(p)
    return {
        name: {"wins": wins, "losses": losses, "p": p[i], "p_holm": float(adjusted[i])}
        for i, (name, (wins, losses)) in enumerate(counts.items())
    }


def claim(a: str, b: str, rate: WinRate, p_holm: float, prompts: int, comparisons: int) -> Claim:
    """The sentence for a comparison: better, worse, or not to be told, by whether the interval holds 1/2."""
    share, low, high = (f"{100 * v:.0f}%" for v in (rate.rate, rate.low, rate.high))
    answers = "" if rate.n == prompts else f" with {rate.n:,} comparisons"
    ties = {0: "no ties", 1: "1 tie, counted as half"}.get(rate.ties, f"{rate.ties:,} ties, counted as half")
    corrected = f" (corrected for {comparisons} comparisons)" if comparisons > 1 else ""
    p = "p < 0.0001" if p_holm < 1e-4 else f"p = {p_holm:.2g}"
    detail = f"{prompts:,} prompts{answers}, {ties}; exact sign test {p}{corrected}."
    interval = f"(95% interval {low} to {high})"
    if rate.low > 0.5:
        text = f"{a} is better than {b}: the judge prefers it in {share} of comparisons {interval}."
        return Claim(text, detail, "good")
    if rate.high < 0.5:
        text = f"{a} is worse than {b}: the judge prefers it in only {share} of comparisons {interval}."
        return Claim(text, detail, "bad")
    text = (
        f"Whether {a} is better than {b} cannot be told: the judge prefers it in {share} of comparisons, "
        f"and the 95% interval, {low} to {high}, holds one half."
    )
    return Claim(text, detail, "unsure")
