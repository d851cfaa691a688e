"""Strengths of several competitors from their comparisons in pairs."""

from __future__ import annotations

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
