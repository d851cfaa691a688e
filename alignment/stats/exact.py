"""Intervals that hold at any sample size, over independent prompts: Clopper-Pearson's, and with ties.

The bootstrap is an approximation that gets too narrow with few prompts or with rates near 0 and 1. These are
never below their level, and somewhat wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc, betaincinv, gammaln, xlog1py, xlogy

from alignment.stats.intervals import Interval, WinRate, group_sums
from alignment.stats.tests import sign_test

FEW_CHANGED = 10  # items that changed, below which the bootstrap has too little to draw from

# The chance given to the share of ties lying outside its own interval, taken from the 5%.
_NUISANCE = 0.001
_TIE_SHARES = 9


def clopper_pearson(k: int, n: int, *, level: float = 0.95) -> Interval:
    """The exact interval for `k` successes in `n` independent trials; never covers less than `level`.

    Raises ValueError if n < 1 or k is outside [0, n]. Source: Clopper & Pearson 1934, Biometrika 26:404.
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"need 0 <= k <= n and n >= 1, not k={k}, n={n}")
    tail = (1.0 - level) / 2.0
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1.0 - tail)) if k < n else 1.0
    return Interval(k / n, low, high, int(n))


def wider_for_few(
    change: Interval, falls: int, rises: int, *, level: float = 0.95, span: float = 1.0
) -> Interval:
    """The bootstrap interval of a paired change over its n items, wider where few of them changed.

    falls, rises: the items that changed down and up, each by `span` at most. The bootstrap can only draw what
    it has seen: with no item that fell it ends at 0, with twenty items as with a thousand, and with four that
    fell it leaves 0 out, which the exact test does not. Below FEW_CHANGED the interval reaches at least as
    far as if all items that may fall, by Clopper-Pearson's bound on their share, fell by `span`, and likewise
    for those that may rise; but an end stays where the exact sign test rules out a change that way.
    """
    if falls + rises >= FEW_CHANGED:
        return change
    decided = sign_test(rises, falls) <= 1.0 - level
    low, high = change.low, change.high
    if not (decided and rises > falls):
        low = min(low, -span * clopper_pearson(falls, change.n, level=level).high)
    if not (decided and falls > rises):
        high = max(high, span * clopper_pearson(rises, change.n, level=level).high)
    return change._replace(low=low, high=high)


def exact_win_rate(
    outcomes: ArrayLike, groups: Sequence[Any] | NDArray[Any] | None = None, *, level: float = 0.95
) -> WinRate:
    """The mean over prompts of the share won, a tie as half, and an interval that never covers less than
    `level`; `n` prompts, of which `ties` came out even.

    outcomes: (n,) 1 (won), 0.5 (tie), 0 (lost); groups: (n,) the prompt of each. A prompt's value is its mean
    outcome. Independent prompts are all it supposes. By what values the prompts have:

    - won and lost only: Clopper-Pearson.
    - ties too: the worst chance over all shares of ties that a 99.9% interval for that share allows, with
      the other 0.1% added to the error (Berger & Boos 1994, JASA 89:1012).
    - other values, from several answers a prompt: e times the binomial tail bounds the tail of a sum of
      independent values in [0, 1] (Bentkus 2004, Annals of Probability 32:1650, in the form of Bates et al.
      2021, arXiv 2101.02703), so it is Clopper-Pearson's at a level higher by e; the widest of the three.

    Raises ValueError for any other outcome or none.
    """
    numbers = np.asarray(outcomes, dtype=np.float64)
    if not numbers.size or not np.isin(numbers, (0.0, 0.5, 1.0)).all():
        raise ValueError("an outcome is 1 (won), 0.5 (tie) or 0 (lost), and there is at least one")
    sums, sizes = group_sums(numbers, groups)
    values = sums / sizes
    n, total, ties = len(values), float(values.sum()), int((values == 0.5).sum())
    if np.isin(values, (0.0, 1.0)).all():
        low, high = clopper_pearson(round(total), n, level=level)[1:3]
    elif np.isin(values, (0.0, 0.5, 1.0)).all():
        halves = round(2 * total)
        low = _lower_with_ties(halves, ties, n, level)
        high = 1.0 - _lower_with_ties(2 * n - halves, ties, n, level)
    else:
        tight = 1.0 - (1.0 - level) / np.e
        # Rounded against float sums such as 2.9999999996, then away from the mean.
        low = clopper_pearson(int(np.floor(round(total, 6))), n, level=tight).low
        high = clopper_pearson(int(np.ceil(round(total, 6))), n, level=tight).high
    return WinRate(total / n, low, high, n, ties)


def _lower_with_ties(halves: int, ties: int, n: int, level: float) -> float:
    """The smallest win rate under which `halves` half-wins or more of n prompts is likely enough.

    Within 1e-7, on the safe side. Cost about √n.
    """
    from scipy.optimize import brentq  # slow to import, and only needed where there are ties

    if halves == 0:
        return 0.0
    share = clopper_pearson(ties, n, level=1.0 - _NUISANCE)
    tail = (1.0 - level - _NUISANCE) / 2.0
    found = brentq(
        lambda rate: _tail_with_ties(rate, halves, n, share) - tail, 0.0, halves / (2.0 * n), xtol=1e-7
    )
    return max(0.0, float(found) - 1e-7)


def _tail_with_ties(rate: float, halves: int, n: int, share: Interval) -> float:
    """The largest P(2 W + T >= halves) for win rate P(W) + P(T)/2 = rate, over shares of ties in `share`."""
    most = min(share.high, 2.0 * min(rate, 1.0 - rate))
    if most < share.low:
        return 0.0
    worst = 0.0
    for tie in np.linspace(share.low, most, _TIE_SHARES):
        spread = 8.0 * np.sqrt(n * tie * (1.0 - tie)) + 8.0
        t = np.arange(max(0, int(n * tie - spread)), min(n, int(n * tie + spread) + 1) + 1)
        log_chance = gammaln(n + 1) - gammaln(t + 1) - gammaln(n - t + 1)
        chance = np.exp(log_chance + xlogy(t, tie) + xlog1py(n - t, -tie))
        wins = np.ceil((halves - t) / 2.0)  # needed among the n - t prompts that were decided
        decided = 1.0 if tie == 1.0 else min(1.0, max(0.0, (rate - tie / 2.0) / (1.0 - tie)))
        reached = np.where(wins <= 0, 1.0, 0.0)
        possible = (wins > 0) & (wins <= n - t)
        reached[possible] = bdtrc(wins[possible] - 1, n - t[possible], decided)
        worst = max(worst, float((chance * reached).sum()))
    return worst
