"""AlpacaEval's own figures, by its own formulas, so that they equal those it publishes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class HeadToHead(NamedTuple):
    """As in AlpacaEval's leaderboard; the first three are per cent.

    win_rate: mean of preference - 1. standard_error: standard deviation (n - 1) over √n, rows as they are.
    discrete_win_rate: every preference rounded to a win or a loss first, draws as half. n_draws: preferences
    of exactly 1.5 (or 0, the older code for a draw). n_total leaves out `dropped`: null, NaN, out of range.
    """

    win_rate: float
    standard_error: float
    discrete_win_rate: float
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    dropped: int


def head_to_head(preferences: ArrayLike) -> HeadToHead:
    """The figures of (n,) preferences from 1 (baseline, output_1) to 2 (model, output_2); NaN is none.

    The standard error of fewer than two is NaN. Raises ValueError where no preference is left.
    Source: github.com/tatsu-lab/alpaca_eval, src/alpaca_eval/metrics/helpers.py, describe_head2head of
    AbsoluteScoringRule and, for the discrete rate, ZeroOneScoringRule.
    """
    stated = np.asarray(preferences, dtype=np.float64)
    given = np.where(stated == 0.0, 1.5, stated)
    kept = given[(given >= 1.0) & (given <= 2.0)] - 1.0  # false for NaN
    n = len(kept)
    if not n:
        raise ValueError("there is no preference between 1 and 2")
    error = float(kept.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    wins, losses = int((kept > 0.5).sum()), int((kept < 0.5).sum())
    draws = n - wins - losses
    return HeadToHead(
        win_rate=100.0 * float(kept.mean()),
        standard_error=100.0 * error,
        discrete_win_rate=100.0 * (wins + draws / 2.0) / n,
        n_wins=wins,
        n_wins_base=losses,
        n_draws=draws,
        n_total=n,
        dropped=len(stated) - n,
    )
