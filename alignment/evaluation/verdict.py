"""From judged comparisons to win rates, and from win rates to sentences. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from alignment.evaluation.answers import Answers, Prompt
from alignment.evaluation.judges import Judge
from alignment.report.text import number
from alignment.stats import Interval, WinRate, holm, sign_test, win_rate

Tone = Literal["good", "bad", "unsure"]
ERROR = 0.05  # a verdict may be wrong so often
ENOUGH_SEEDS = 10


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
    tone: Tone


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


def claim(
    a: str,
    b: str,
    rate: WinRate,
    p_holm: float,
    prompts: int,
    comparisons: int,
    enough: str | None = None,
    signs: tuple[int, int] = (0, 0),
    doubt: str | None = None,
) -> Claim:
    """The sentences for a comparison: better, worse, or not to be told, how sure, and on what that rests.

    Better or worse needs both: an interval on one side of 1/2, and p (corrected for all comparisons) below
    5%.
    enough: what the prompts could have shown, where they show nothing. signs: the prompts that a won and
    lost, of which p is; of several answers a prompt they may lead the other way than the win rate. doubt: why
    no side is called better, though the interval and p say so (see `statistics.doubted`).
    """
    share, low, high = (f"{100 * v:.0f}%" for v in (rate.rate, rate.low, rate.high))
    interval = f"(95% interval {low} to {high})"
    better = "better" if rate.rate > 0.5 else "worse"
    only = "" if rate.rate > 0.5 else "only "
    rests = _rests_on(rate, prompts)
    decided = not rate.low <= 0.5 <= rate.high
    if decided and (signs[0] - signs[1]) * (rate.rate - 0.5) < 0:
        text = (
            f"Whether {a} is better than {b} depends on how one counts: the judge prefers it in {share} of "
            f"comparisons {interval}, but it won {signs[0]:,} prompts and lost {signs[1]:,}."
        )
        tone: Tone = "unsure"
        enough = f"{rests} do not tell, for one side wins more prompts and the other wins them more clearly."
    elif decided and p_holm < ERROR and not doubt:
        text = f"{a} is {better} than {b}: the judge prefers it in {only}{share} of comparisons {interval}."
        tone = "good" if rate.rate > 0.5 else "bad"
        enough = f"{rests} were enough to tell."
    elif decided:
        text = (
            f"{a} looks {better} than {b}, but that may be chance: the judge prefers it in {only}{share} of "
            f"comparisons {interval}."
        )
        tone, enough = "unsure", f"{rests} were not enough to be sure{f': {doubt}' if doubt else ''}."
    else:
        text = (
            f"Whether {a} is better than {b} cannot be told: the judge prefers it in {share} of comparisons, "
            f"and the 95% interval, {low} to {high}, holds one half."
        )
        tone, enough = "unsure", f"{rests} were not enough to tell.{f' {enough}' if enough else ''}"
    return Claim(text, f"{_how_sure(p_holm, comparisons)} {enough}", tone)


def claim_over_seeds(
    a: str, b: str, over: Interval, rates: Sequence[float], prompts: int, p_holm: float, comparisons: int
) -> Claim:
    """The sentences for a recipe that was trained with several seeds; rates: of each seed.

    Better or worse needs both: the interval over seeds and prompts on one side of 1/2, and p of the seeds
    alone (see seeds.py, corrected for all comparisons of recipes) below 5%.
    """
    share, low, high = (f"{100 * v:.0f}%" for v in (over.value, over.low, over.high))
    measured = (
        f"over {over.n} training seeds the judge prefers it in {share} of comparisons (95% interval over "
        f"seeds and prompts {low} to {high})."
    )
    seeds = ", ".join(f"{100 * rate:.0f}%" for rate in rates)
    corrected = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    p = "< 0.0001" if p_holm < 1e-4 else f"= {p_holm:.2g}"
    detail = f"Seed by seed: {seeds}; {prompts:,} prompts. t test of the seeds: p {p}{corrected}."
    if over.n < ENOUGH_SEEDS:
        detail += (
            " An interval from so few seeds is somewhat too narrow where seeds differ clearly: it holds the "
            "truth in about 77% of cases with three seeds, in 90% with five."
        )
    if not over.low <= 0.5 <= over.high and p_holm >= ERROR:
        better = "better" if over.low > 0.5 else "worse"
        text = f"{a} looks {better} than {b}, but the next seed may not be: {measured}"
        return Claim(text, detail, "unsure")
    if over.low > 0.5:
        return Claim(f"{a} is better than {b}: {measured}", detail, "good")
    if over.high < 0.5:
        return Claim(f"{a} is worse than {b}: {measured}", detail, "bad")
    return Claim(f"Whether {a} is better than {b} cannot be told: {measured}", detail, "unsure")


def _how_sure(p_holm: float, comparisons: int) -> str:
    corrected = f", corrected for {comparisons} comparisons" if comparisons > 1 else ""
    odds = "fewer than 1 of 10,000" if p_holm < 1e-4 else f"{number(100 * p_holm, 2)} of 100"
    return (
        f"How sure: two equally good models would differ so much or more by chance in {odds} evaluations "
        f"(exact sign test{corrected})."
    )


def _rests_on(rate: WinRate, prompts: int) -> str:
    ties = {0: "no ties", 1: "1 tie, counted as half"}.get(rate.ties, f"{rate.ties:,} ties, counted as half")
    answers = "" if rate.n == prompts else f"{rate.n:,} comparisons, "
    return f"The {prompts:,} prompts ({answers}{ties})"
