"""How many comparisons a difference needs, and how small a difference a number of comparisons can show.

Throughout, `rate` is the true win rate with a tie as half, `ties` the share of ties, and the test is the
two-sided sign test of wins against losses at `alpha`, which leaves ties out: among the decided the rate is
1/2 + (rate - 1/2) / (1 - ties), so ties cost comparisons and make those that remain clearer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, bdtrc, bdtri, gammaln, ndtr, ndtri, xlog1py, xlogy

MOST = 20_000  # comparisons; beyond, the approximation is as good, and counting takes long


def decided_rate(rate: float, ties: float = 0.0) -> float:
    """The win rate among the comparisons that are no ties. Raises ValueError where there is none such."""
    if not 0.0 <= ties < 1.0:
        raise ValueError(f"the share of ties is from 0 to below 1, not {ties}")
    if not ties / 2.0 <= rate <= 1.0 - ties / 2.0:
        raise ValueError(
            f"where a share of {ties:g} are ties, the win rate lies from {ties / 2:g} to {1 - ties / 2:g}, "
            f"it is not {rate:g}"
        )
    return 0.5 + (rate - 0.5) / (1.0 - ties)


def comparisons_needed(rate: float, *, ties: float = 0.0, power: float = 0.8, alpha: float = 0.05) -> int:
    """Comparisons, ties included, for the power, by the normal approximation.

    ((z_alpha/2 · 1/2 + z_power · √(p (1 - p))) / (p - 1/2))² decided ones, divided by 1 - ties.
    Raises ValueError for a rate of one half, which no number can tell from itself, and as `decided_rate`.
    Source: Fleiss, Levin & Paik 2003, section 2.2 (no continuity correction).
    """
    p = decided_rate(rate, ties)
    if p == 0.5:
        raise ValueError("a win rate of exactly one half cannot be told from one half, by any number")
    z_alpha, z_power = float(ndtri(1.0 - alpha / 2.0)), float(ndtri(power))
    decided = ((0.5 * z_alpha + z_power * np.sqrt(p * (1.0 - p))) / (p - 0.5)) ** 2
    return max(1, int(np.ceil(round(decided / (1.0 - ties), 9))))


def comparisons_needed_exactly(
    rate: float, *, ties: float = 0.0, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """The smallest number of comparisons from which on the exact sign test's power never falls below `power`.

    The exact power goes up in a sawtooth: a few smaller numbers reach it too, and their neighbours do not.
    None where that is more than about `MOST`. Raises ValueError as `comparisons_needed`.
    """
    about = comparisons_needed(rate, ties=ties, power=power, alpha=alpha)
    if about > MOST:
        return None
    # What being exact costs is about 2 / (p - 1/2) comparisons, and the teeth reach half as far.
    tooth = 1.0 / (1.0 - ties) / abs(decided_rate(rate, ties) - 0.5)
    low, most = max(1, int(about - 3.0 * tooth)), int(about + 5.0 * tooth + 20.0)
    reached = np.array([sign_test_power(n, rate, ties=ties, alpha=alpha) for n in range(low, most + 1)])
    return low + int(np.flatnonzero(reached < power)[-1]) + 1


def approximate_power(n: int, rate: float, *, ties: float = 0.0, alpha: float = 0.05) -> float:
    """The chance that `n` comparisons, ties included, show the difference, by the normal approximation."""
    p, decided = decided_rate(rate, ties), n * (1.0 - ties)
    spread = np.sqrt(p * (1.0 - p))
    if spread == 0.0:
        return 1.0
    return float(ndtr((np.sqrt(decided) * abs(p - 0.5) - 0.5 * float(ndtri(1.0 - alpha / 2.0))) / spread))


def sign_test_power(n: int, rate: float, *, ties: float = 0.0, alpha: float = 0.05) -> float:
    """The chance that the exact sign test of `n` comparisons, ties included, gives p <= alpha.

    The number of ties being chance too, this is the mean over it.
    """
    p = decided_rate(rate, ties)
    if ties == 0.0:
        decided, chance = np.array([n]), np.ones(1)
    else:
        spread = 8.0 * np.sqrt(n * ties * (1.0 - ties)) + 8.0
        middle = n * (1.0 - ties)
        decided = np.arange(max(0, int(middle - spread)), min(n, int(middle + spread)) + 1)
        log_chance = gammaln(n + 1) - gammaln(decided + 1) - gammaln(n - decided + 1)
        chance = np.exp(log_chance + xlogy(n - decided, ties) + xlog1py(decided, -ties))
    most = _most_losses(int(decided[0]), int(decided[-1]), alpha)
    possible = most >= 0
    d, k = decided[possible], most[possible]
    return float((chance[possible] * (bdtr(k, d, p) + bdtrc(d - k - 1, d, p))).sum())


def smallest_rate(
    n: int, *, ties: float = 0.0, power: float = 0.8, alpha: float = 0.05, exact: bool = False
) -> float | None:
    """The smallest true win rate above 1/2 that `n` comparisons show with the power; None if none does.

    Its mirror below 1/2 is seen as well. Within 1e-6.
    """
    reach: Callable[[float], float]
    if exact:
        reach = lambda rate: sign_test_power(n, rate, ties=ties, alpha=alpha)  # noqa: E731
    else:
        reach = lambda rate: approximate_power(n, rate, ties=ties, alpha=alpha)  # noqa: E731
    low, high = 0.5, 1.0 - ties / 2.0
    if n < 1 or reach(high) < power:
        return None
    while high - low > 1e-6:
        middle = (low + high) / 2.0
        if reach(middle) < power:
            low = middle
        else:
            high = middle
    return high


def smallest_change(
    parts: ArrayLike, wholes: ArrayLike | None = None, *, power: float = 0.8, alpha: float = 0.05
) -> float:
    """The smallest true mean of paired differences that rows like these show with the power.

    (z_alpha/2 + z_power) · standard error, by the normal approximation. parts: (n,) differences, n >= 2;
    wholes: (n,) where the mean is sum(parts) / sum(wholes), whose standard error is the linearised one.
    """
    x = np.asarray(parts, dtype=np.float64)
    y = np.ones_like(x) if wholes is None else np.asarray(wholes, dtype=np.float64)
    rest = x - x.sum() / y.sum() * y
    error = np.sqrt(len(x) / (len(x) - 1) * (rest**2).sum()) / y.sum()
    return float((ndtri(1.0 - alpha / 2.0) + ndtri(power)) * error)


def smallest_share_change(
    n: int, discordant: float, *, power: float = 0.8, alpha: float = 0.05
) -> float | None:
    """The smallest true change of a share that `n` paired yes-or-no items show with the power.

    discordant: the share of items on which the two differ. McNemar's test by the normal approximation, but
    never less than what the exact sign test needs if every item that changes goes one way (at 5% six).
    None: so few items show no change.
    Source: Connor 1987, Biometrics 43:207, d √n = z_alpha/2 √ψ + z_power √(ψ - d²), solved for d.
    """
    needed = int(np.ceil(np.log2(2.0 / alpha)))
    if n < needed:
        return None
    z, b = float(ndtri(1.0 - alpha / 2.0)), float(ndtri(power))
    a = z * np.sqrt(discordant)
    inside = a * a * n - (n + b * b) * (a * a - b * b * discordant)
    by_mcnemar = (a * np.sqrt(n) + np.sqrt(max(0.0, inside))) / (n + b * b)
    return float(max(by_mcnemar, bdtri(needed - 1, n, 1.0 - power)))


@lru_cache(maxsize=64)
def _most_losses(first: int, last: int, alpha: float) -> NDArray[np.int64]:
    """For each number of decided comparisons first … last, the most losses with p <= alpha; -1: none."""
    n = np.arange(first, last + 1, dtype=np.float64)
    # The normal quantile is within two of the truth; then step to the largest k with 2 P(X <= k) <= alpha.
    k = np.floor(n / 2.0 + float(ndtri(alpha / 2.0)) * np.sqrt(n) / 2.0) + 2.0
    k = np.minimum(k, np.floor((n - 1.0) / 2.0))
    for _ in range(6):
        too_many = (k >= 0) & (2.0 * bdtr(np.maximum(k, 0.0), n, 0.5) > alpha)
        k = np.where(too_many, k - 1.0, k)
    return np.maximum(k, -1.0).astype(np.int64)
