"""Looking as often as one likes: a test and a confidence sequence that stay valid at every look.

A gambler bets on each next prompt that the win rate is not `m`. If it is `m` the stake does not grow on
average, whatever the bets and whenever one stops, and by Ville's inequality it reaches 1/alpha with a chance
of at most alpha. Where it has, `m` is refuted. Here the stake is spread evenly over `_BETS` fixed bets, each
kept to the end: bet b pays b x/m + (1 - b)(1 - x)/(1 - m) for an outcome x in [0, 1], a tie being 1/2 and any
prompt's mean outcome allowed. For outcomes 0 and 1 this is the Beta(1/2, 1/2) mixture of likelihood ratios.

The stake depends on how often each value has come so far, not on its order. The prompts are to come in an
order that has nothing to do with the outcomes, such as a random one.

Source: Waudby-Smith & Ramdas 2024, JRSS B 86:1 (arXiv 2010.09686); the bets are Cover's universal portfolio
as in Orabona & Jun 2024, IEEE Trans. Inf. Theory 70:436 (arXiv 2110.14099); ties at m = 1/2 pay nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_BETS = 256
_AT_ONCE = 1 << 21


class Look(NamedTuple):
    """What is known after the first `n` prompts: their mean outcome, its bounds, and the stake against 1/2.

    low, high: hold the true win rate at all looks together with the stated confidence. evidence: the stake
    that 1 has become by betting against a win rate of one half. decided: it has reached 1/alpha by now.
    """

    n: int
    rate: float
    low: float
    high: float
    evidence: float
    decided: bool


def log_stakes(counts: ArrayLike, values: ArrayLike, means: ArrayLike) -> Floats:
    """The logarithm of the stake against each win rate: (looks,).

    counts: (looks, v) how often each of `values` (v,), in [0, 1], has come by then; means: (looks,) or a
    number, each inside (0, 1): the win rate that is bet against.
    """
    seen = np.atleast_2d(np.asarray(counts, dtype=np.float64))
    x = np.asarray(values, dtype=np.float64)
    m = np.asarray(means, dtype=np.float64)
    # Chebyshev's nodes: equal weights on them are the Beta(1/2, 1/2) distribution.
    b = (1.0 + np.cos((2.0 * np.arange(_BETS) + 1.0) * np.pi / (2.0 * _BETS))) / 2.0
    out = np.empty(len(seen))
    step = max(1, _AT_ONCE // (_BETS * len(x)))
    for start in range(0, len(seen), step):
        here = slice(start, start + step)
        pays = _log_pays(x, m if m.ndim == 0 else m[here, None], b)  # (v, bets), or one a look
        log_stake = seen[here] @ pays if m.ndim == 0 else (seen[here, None, :] @ pays)[:, 0, :]
        most = log_stake.max(1)
        out[here] = most + np.log(np.exp(log_stake - most[:, None]).mean(1))
    return out


def _log_pays(x: Floats, m: Floats, b: Floats) -> Floats:
    """The logarithm of what bet b pays against m for outcome x: (…, v) by (bets,) to (…, v, bets)."""
    up, down = x / m, (1.0 - x) / (1.0 - m)
    return np.log(down[..., None] + b * (up - down)[..., None])


def looks(outcomes: ArrayLike, at: ArrayLike | None = None, *, alpha: float = 0.05) -> list[Look]:
    """What each look tells: after every prompt, or after the numbers of prompts in `at` (ascending).

    outcomes: (n,) mean outcome of each prompt, in [0, 1], in the order they came. The bounds are those of all
    looks so far together, so they never widen. Raises ValueError for other outcomes, none, or other looks.
    """
    x = _checked(outcomes)
    places = np.arange(1, len(x) + 1) if at is None else np.asarray(at, dtype=np.int64)
    if not places.size or places[0] < 1 or places[-1] > len(x) or (np.diff(places) <= 0).any():
        raise ValueError(f"looks are ascending numbers of prompts from 1 to {len(x)}")
    values, counts = _counts(x, places)
    rate = counts @ values / places
    high = np.minimum.accumulate(_bound(counts, values, rate, alpha))
    low = 1.0 - np.minimum.accumulate(_bound(counts[:, ::-1], 1.0 - values[::-1], 1.0 - rate, alpha))
    evidence = np.exp(np.minimum(log_stakes(counts, values, 0.5), 700.0))
    decided = np.maximum.accumulate(evidence) >= 1.0 / alpha
    return [
        Look(int(n), float(r), float(lo), float(hi), float(e), bool(d))
        for n, r, lo, hi, e, d in zip(places, rate, low, high, evidence, decided, strict=True)
    ]


def decided_at(outcomes: ArrayLike, *, alpha: float = 0.05) -> int | None:
    """The first number of prompts at which the stake against one half reaches 1/alpha, or None.

    outcomes: as for `looks`, which a look after every prompt is; this leaves the bounds out.
    """
    x = _checked(outcomes)
    values, counts = _counts(x, np.arange(1, len(x) + 1))
    reached = np.flatnonzero(log_stakes(counts, values, 0.5) >= -np.log(alpha))
    return int(reached[0]) + 1 if len(reached) else None


def _checked(outcomes: ArrayLike) -> Floats:
    x = np.asarray(outcomes, dtype=np.float64)
    if x.ndim != 1 or not x.size or not np.isfinite(x).all() or x.min() < 0.0 or x.max() > 1.0:
        raise ValueError("need outcomes between 0 and 1, one a prompt, and at least one")
    return x


def _counts(x: Floats, places: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The different values (v,), and how often each has come by each place: (looks, v)."""
    values, index = np.unique(x, return_inverse=True)
    seen = [np.concatenate([[0], np.cumsum(index == v)])[places] for v in range(len(values))]
    return values, np.stack(seen, axis=1).astype(np.float64)


def _bound(counts: Floats, values: Floats, rate: Floats, alpha: float) -> Floats:
    """The largest win rate that the stake does not refute, for each look: (looks,).

    The stake against m is at most 1 at m = the mean so far and is log-convex in m: one crossing lies above.
    """
    low, high = np.clip(rate, 1e-9, 1.0 - 1e-9), np.full(len(rate), 1.0 - 1e-9)
    limit = -np.log(alpha)
    open_ended = log_stakes(counts, values, high) < limit
    for _ in range(20):  # to 1e-6; the outer end is what is returned
        middle = (low + high) / 2.0
        refuted = log_stakes(counts, values, middle) >= limit
        low, high = np.where(refuted, low, middle), np.where(refuted, middle, high)
    return np.where(open_ended, 1.0, high)
