"""Whether a judge prefers an answer for the place in which it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignment.stats.intervals import group_sums, win_rate
from alignment.stats.tests import sign_test


class PositionBias(NamedTuple):
    """How often a judge chose the answer shown first, a tie as half, with its interval over prompts.

    p: exact sign test over prompts against no preference for a place. biased: the interval leaves out one
    half and p < 0.05. always: "first" or "second" where every verdict but ties fell there, else None.
    """

    value: float
    low: float
    high: float
    n: int
    p: float
    biased: bool
    always: str | None


def position_bias(
    first_won: ArrayLike, groups: Sequence[Any] | NDArray[Any] | None = None, *, seed: int = 0
) -> PositionBias:
    """The bias of verdicts by place: (n,) of 1 where the answer shown first was chosen, 0.5 tie, 0 otherwise.

    groups: (n,) the prompt of each. Ask both orders and give both verdicts of a prompt: a judge that looks at
    the answers alone then chooses the first exactly half the time on every prompt. With one order, drawn at
    random, the same test holds but needs more prompts. Raises ValueError as `win_rate` does.
    """
    values = np.asarray(first_won, dtype=np.float64)
    rate = win_rate(values, groups, seed=seed)
    sums, sizes = group_sums(values, groups)
    balance = sums - 0.5 * sizes
    p = sign_test(int((balance > 1e-9).sum()), int((balance < -1e-9).sum()))
    decided = values[values != 0.5]
    always = None
    if len(decided) > 1 and (decided == decided[0]).all():
        always = "first" if decided[0] == 1.0 else "second"
    biased = p < 0.05 and not rate.low <= 0.5 <= rate.high
    return PositionBias(rate.rate, rate.low, rate.high, rate.n, p, biased, always)
