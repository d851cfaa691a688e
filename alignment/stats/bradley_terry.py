"""Strengths of several competitors from their comparisons in pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit


def win_matrix(a: ArrayLike, b: ArrayLike, outcomes: ArrayLike, size: int) -> NDArray[np.float64]:
    """W[i, j] = how often i beat j, a tie as half a win for each: (size, size).

    a, b: (n,) indices of the two compared; outcomes: (n,) 1 if `a` won, 0.5 for a tie, 0 if `b` won.
    """
    first, second = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    won = np.asarray(outcomes, dtype=np.float64)
    wins = np.zeros((size, size))
    np.add.at(wins, (first, second), won)
    np.add.at(wins, (second, first), 1.0 - won)
    return wins


def bradley_terry(wins: ArrayLike, *, prior: float = 0.0, tolerance: float = 1e-10) -> NDArray[np.float64]:
    """Maximum-likelihood log-strengths with mean 0, where P(i beats j) = σ(s_i - s_j): (..., k).

    wins: (..., k, k) from `win_matrix`; leading dimensions are independent fits, such as resamples.
    prior: half-wins added both ways to every pair that was compared, which keeps strengths finite.
    Raises ValueError where the maximum does not exist: some competitors never lost to, or never met, the
    others (Ford 1957). Source: Bradley & Terry 1952; fitted by Newton's method.
    """
    from scipy.sparse.csgraph import connected_components  # slow to import, and rarely needed

    w = np.array(wins, dtype=np.float64)
    k = w.shape[-1]
    games = w + np.swapaxes(w, -1, -2)
    w += 0.5 * prior * (games > 0)
    w[..., np.arange(k), np.arange(k)] = 0.0
    games = w + np.swapaxes(w, -1, -2)
    for fit in w.reshape(-1, k, k):
        if connected_components(fit > 0, directed=True, connection="strong")[0] > 1:
            raise ValueError("no finite strengths: some competitors never lost to, or never met, the others")
    strengths = np.zeros(w.shape[:-1])
    for _ in range(100):
        chance = expit(strengths[..., :, None] - strengths[..., None, :])
        gradient = (w - games * chance).sum(-1)
        curvature = games * chance * (1.0 - chance)
        hessian = -curvature
        hessian[..., np.arange(k), np.arange(k)] = curvature.sum(-1)
        # The Hessian is singular along the all-ones direction, where the strengths are fixed to mean 0.
        step = np.linalg.solve(hessian + 1.0 / k, gradient[..., None])[..., 0]
        # Far from the maximum a full step overshoots; a unit cap costs a few iterations and never diverges.
        step /= np.maximum(1.0, np.abs(step).max(-1, keepdims=True))
        strengths += step
        if np.abs(step).max(initial=0.0) < tolerance:
            return strengths - strengths.mean(-1, keepdims=True)
    raise ValueError("the Bradley-Terry fit did not converge; add a prior")


class Crowd(NamedTuple):
    """Strengths and judges, fitted together.

    strengths: (items,) log-strengths; only differences between items that comparisons connect mean something.
    reliability: (judges,) the chance that a judge's vote is the model's own and not its opposite: 1 a perfect
    judge, 0.5 a coin, below that one who answers the other way round; with two or three votes a pair it tells
    who is worse, but lies nearer to 0 or 1 than the truth. objective: (iterations,) the log
    posterior, never falling.
    """

    strengths: NDArray[np.float64]
    reliability: NDArray[np.float64]
    objective: NDArray[np.float64]


def crowd_bradley_terry(
    first: ArrayLike,
    second: ArrayLike,
    pairs: ArrayLike,
    judges: ArrayLike,
    outcomes: ArrayLike,
    *,
    prior: float = 1.0,
    trust: tuple[float, float] = (2.0, 0.5),
    tolerance: float = 1e-5,
    iterations: int = 500,
) -> Crowd:
    """Bradley-Terry with a reliability r for every judge, who says of a and b that a is better with
    probability r σ(s_a - s_b) + (1 - r) σ(s_b - s_a).

    first, second: (pairs,) the two items of each pair that was compared. pairs, judges, outcomes: (votes,)
    which pair, by whom, and the stated probability that the first is better: 1, 0, 0.5 for a tie, or between.
    prior: half-wins added both ways to every pair, which keeps strengths finite. trust: votes added to each
    judge, (model's own, opposite), which keep a judge of few votes near what judges are expected to be.
    Stops when no pair's probability and no reliability moves by more than `tolerance`. Cost and memory are
    linear in the votes. Raises ValueError without a vote.
    Source: Chen, Bennett, Collins-Thompson & Horvitz 2013 (CrowdBT), fitted by EM; strengths take one step of
    Hunter 2004 (Annals of Statistics 32:384) in each iteration, which can only raise the objective.
    """
    a, b = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    pair, judge = np.asarray(pairs, dtype=np.int64), np.asarray(judges, dtype=np.int64)
    said = np.asarray(outcomes, dtype=np.float64)
    if not len(pair):
        raise ValueError("need at least one vote")
    items, people = int(max(a.max(), b.max())) + 1, int(judge.max()) + 1
    games = np.bincount(pair, minlength=len(a)) + prior
    votes = np.bincount(judge, minlength=people)
    strengths = np.zeros(items)
    reliability = np.full(people, (1.0 + trust[0]) / (1.0 + sum(trust)))
    objective: list[float] = []
    chance = np.full(len(a), 0.5)
    # From equal strengths no vote tells anything of a judge: start from the shares of the votes.
    wins = np.bincount(pair, weights=said, minlength=len(a)) + 0.5 * prior
    while True:
        won = np.bincount(a, wins, items) + np.bincount(b, games - wins, items)
        expected = np.bincount(a, games * chance, items) + np.bincount(b, games * (1.0 - chance), items)
        strengths += np.log(np.where(expected > 0, won, 1.0) / np.where(expected > 0, expected, 1.0))
        before, chance = chance, expit(strengths[a] - strengths[b])

        true, trusted = chance[pair], reliability[judge]
        says_first = trusted * true + (1.0 - trusted) * (1.0 - true)
        objective.append(
            float(
                (said * np.log(says_first) + (1.0 - said) * np.log1p(-says_first)).sum()
                + 0.5 * prior * (np.log(chance) + np.log1p(-chance)).sum()
                + trust[0] * np.log(reliability).sum()
                + trust[1] * np.log1p(-reliability).sum()
            )
        )
        # How far each vote is the model's own: for what was said of the first, and of the second.
        own_first = said * trusted * true / says_first
        own_second = (1.0 - said) * trusted * (1.0 - true) / (1.0 - says_first)
        wins = np.bincount(pair, own_first + (1.0 - said - own_second), len(a)) + 0.5 * prior
        own = np.bincount(judge, own_first + own_second, people)
        held, reliability = reliability, (own + trust[0]) / (votes + sum(trust))
        moved = max(np.abs(chance - before).max(), np.abs(reliability - held).max())
        if moved < tolerance or len(objective) == iterations:
            return Crowd(strengths, held, np.array(objective))
