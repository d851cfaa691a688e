"""The win rate if both answers were of one length, from a logistic regression on their difference in length.

    logit P(a wins) = strength + length_effect · tanh(Δlength / sd) + difficulty_effect · difficulty

and the controlled rate is the mean prediction at Δlength = 0. This is the form of AlpacaEval 2. There the
difficulty of each instruction is estimated beforehand from many models' annotations; with one comparison's
prompts it cannot be, so it is used only where it is supplied. AlpacaEval also penalises the fit (L1, chosen
by cross-validation, and towards two annotations of its baseline); here only the ridge of a normal prior with
standard deviation 10 holds the coefficients of separable data finite, so figures may differ a little.

Source: Dubois, Galambosi, Liang & Hashimoto 2024, arXiv 2404.04475;
github.com/tatsu-lab/alpaca_eval, src/alpaca_eval/metrics/glm_winrate.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from alignment.stats.intervals import Interval, WinRate, resampled_sums

Floats = NDArray[np.float64]
_PRECISION = 0.01


class LengthControlled(NamedTuple):
    """The controlled win rate with its interval, and the coefficients behind it, on the scale of log-odds.

    length_effect: per unit of tanh(Δlength / sd), above 0 where longer answers win. strength: what remains.
    sd: the standard deviation of Δlength, in the lengths' own unit.
    """

    rate: float
    low: float
    high: float
    n: int
    length_effect: Interval
    strength: Interval
    difficulty_effect: float | None
    sd: float


def length_controlled(
    outcomes: ArrayLike,
    lengths_a: ArrayLike,
    lengths_b: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    *,
    difficulty: ArrayLike | None = None,
    resamples: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> LengthControlled:
    """The length-controlled win rate of a, with percentile bootstrap intervals over prompts.

    outcomes: (n,) the chance that a is better, 0 to 1; lengths_a, lengths_b: (n,) lengths of the answers, in
    any one unit; groups: (n,) the prompt of each; difficulty: (n,) a number for each prompt, if it is known.
    A resample is refitted by one step of Newton's method from the fit to all (Moulton & Zeger 1991,
    Computational Statistics & Data Analysis 11:53). Raises ValueError for values that are not finite,
    outcomes outside [0, 1], or lists of different lengths.
    """
    y = np.asarray(outcomes, dtype=np.float64)
    change = np.asarray(lengths_a, dtype=np.float64) - np.asarray(lengths_b, dtype=np.float64)
    hard = None if difficulty is None else np.asarray(difficulty, dtype=np.float64)
    if y.ndim != 1 or not y.size or change.shape != y.shape or (hard is not None and hard.shape != y.shape):
        raise ValueError("outcomes, lengths and difficulties are lists of one length, with a value at least")
    if not (np.isfinite(y).all() and np.isfinite(change).all() and (hard is None or np.isfinite(hard).all())):
        raise ValueError("outcomes, lengths and difficulties must be finite")
    if y.min() < 0.0 or y.max() > 1.0:
        raise ValueError("an outcome is a chance between 0 and 1")
    sd = float(change.std(ddof=1)) if len(y) > 1 else 0.0
    columns = [np.ones_like(y), np.tanh(change / sd) if sd > 0.0 else np.zeros_like(y)]
    x = np.stack(columns if hard is None else [*columns, hard], axis=1)
    fit = _fit(x, y)

    even = x.copy()
    even[:, 1] = 0.0
    chance = expit(x @ fit)
    parts = [
        (y - chance)[:, None] * x,  # the score of each row: (n, p)
        ((chance * (1.0 - chance))[:, None, None] * x[:, :, None] * x[:, None, :]).reshape(len(y), -1),
        expit(even @ fit)[:, None],
        np.ones((len(y), 1)),
    ]
    sums = resampled_sums(
        _by_group(np.concatenate(parts, axis=1), groups), resamples, np.random.default_rng(seed)
    )
    p = x.shape[1]
    hessian = sums[:, p : p + p * p].reshape(-1, p, p) + _PRECISION * np.eye(p)
    refits = fit + np.linalg.solve(hessian, (sums[:, :p] - _PRECISION * fit)[..., None])[..., 0]
    value = float(expit(even @ fit).mean())
    if hard is None:
        rates = expit(refits[:, 0])
    else:  # the drawn prompts at the fit to all, and the refit at all prompts
        shift = sums[:, -2] / sums[:, -1] - value
        rates = np.array([expit(even @ one).mean() for one in refits]) + shift
    tail = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]

    def interval(of: float, draws: Floats) -> Interval:
        low, high = np.quantile(draws, tail)
        return Interval(of, float(low), float(high), len(y))

    rate = interval(value, np.clip(rates, 0.0, 1.0))
    effect, strength = (interval(float(fit[j]), refits[:, j]) for j in (1, 0))
    return LengthControlled(*rate, effect, strength, None if hard is None else float(fit[2]), sd)


def explained_by_length(raw: WinRate | Interval, controlled: LengthControlled) -> bool:
    """Whether the raw rate is on one side of one half beyond doubt, and the controlled one is not on it."""
    if raw.low > 0.5:
        return controlled.low <= 0.5
    return raw.high < 0.5 and controlled.high >= 0.5


def _fit(x: Floats, y: Floats) -> Floats:
    """The penalised maximum-likelihood coefficients of chances y (n,) on x (n, p): (p,). By Newton."""
    beta = np.zeros(x.shape[1])
    for _ in range(200):
        chance = expit(x @ beta)
        gradient = x.T @ (y - chance) - _PRECISION * beta
        hessian = (x * (chance * (1.0 - chance))[:, None]).T @ x + _PRECISION * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        step /= max(1.0, float(np.abs(step).max()))  # far from the maximum a full step overshoots
        beta += step
        if np.abs(step).max() < 1e-10:
            break
    return beta


def _by_group(rows: Floats, groups: Sequence[Any] | NDArray[Any] | None) -> Floats:
    """The sum of the rows of each group: (n, p) to (groups, p)."""
    if groups is None:
        return rows
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    if index.shape != (len(rows),):
        raise ValueError(f"{len(rows)} outcomes but groups of shape {index.shape}")
    return np.stack([np.bincount(index, column) for column in rows.T], axis=1)
