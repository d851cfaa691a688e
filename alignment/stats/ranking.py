"""Several models in one order, from their comparisons in pairs: strengths and ranks with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignment.stats.bradley_terry import bradley_terry, win_matrix
from alignment.stats.intervals import resampled_sums

# Half-wins each way that a resample gets on every pair that was compared: finite where a model lost nothing.
_RESAMPLE_PRIOR = 0.1
ELO = 400.0 / np.log(10.0)


class Standing(NamedTuple):
    """One competitor. strength: its log-strength with interval; differences mean P(i beats j) = σ(s_i - s_j).

    rank: 1 is best, with the interval of its rank over resamples. win_rate: over all its comparisons, a tie
    as half, whoever they were against. n: its comparisons; ties: those that were ties.
    """

    name: str
    rank: int
    rank_low: int
    rank_high: int
    strength: float
    low: float
    high: float
    win_rate: float
    n: int
    ties: int


class Ranking(NamedTuple):
    """Standings, best first, and P(row beats column), (k, k), in the same order.

    shrunk: whether no finite strengths fit (a model that never lost, or never won) and half-wins were added.
    """

    standings: list[Standing]
    chances: NDArray[np.float64]
    shrunk: bool


def rank_models(
    a: Sequence[str],
    b: Sequence[str],
    outcomes: ArrayLike,
    groups: Sequence[Any] | NDArray[Any],
    *,
    resamples: int = 1_000,
    level: float = 0.95,
    seed: int = 0,
) -> Ranking:
    """Bradley-Terry strengths of all that were compared, with percentile bootstrap intervals over prompts.

    a, b: (n,) the two names compared; outcomes: (n,) 1 if `a` won, 0.5 for a tie, 0 if `b` won; groups: (n,)
    the prompt of each, all comparisons on one prompt being drawn together. Strengths have mean 0. Raises
    ValueError where some were never compared with the others, directly or through others.
    Source: Bradley & Terry 1952; ranks by the bootstrap: Chiang et al. 2024, arXiv 2403.04132.
    """
    from scipy.sparse.csgraph import connected_components

    names, index = np.unique(np.concatenate([np.asarray(a), np.asarray(b)]), return_inverse=True)
    k = len(names)
    first, second = index[: len(a)], index[len(a) :]
    won = np.asarray(outcomes, dtype=np.float64)
    wins = win_matrix(first, second, won, k)
    met = (wins + wins.T) > 0
    if connected_components(met, directed=False)[0] > 1:
        raise ValueError("some models were never compared with the others, not even through a third")
    shrunk = connected_components(wins > 0, directed=True, connection="strong")[0] > 1
    strengths = bradley_terry(wins, prior=1.0 if shrunk else 0.0)

    drawn = _resampled_wins(first, second, won, groups, k, resamples, np.random.default_rng(seed))
    drawn += 0.5 * (1.0 if shrunk else _RESAMPLE_PRIOR) * met
    fits = bradley_terry(drawn)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(fits, [tail, 1.0 - tail], axis=0)
    ranks = 1 + (fits[:, None, :] > fits[:, :, None] + 1e-9).sum(-1)
    rank_low, rank_high = np.quantile(ranks, [tail, 1.0 - tail], axis=0, method="inverted_cdf")
    best = 1 + (strengths[None, :] > strengths[:, None] + 1e-9).sum(-1)

    games = wins.sum(1) + wins.sum(0)
    tied = np.bincount(first, won == 0.5, k) + np.bincount(second, won == 0.5, k)
    order = np.lexsort((names, best))
    standings = [
        Standing(
            str(names[i]),
            int(best[i]),
            int(rank_low[i]),
            int(rank_high[i]),
            float(strengths[i]),
            float(low[i]),
            float(high[i]),
            float(wins[i].sum() / games[i]),
            int(games[i]),
            int(tied[i]),
        )
        for i in order
    ]
    sorted_strengths = strengths[order]
    chances = 1.0 / (1.0 + np.exp(sorted_strengths[None, :] - sorted_strengths[:, None]))
    return Ranking(standings, chances, bool(shrunk))


def _resampled_wins(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    won: NDArray[np.float64],
    groups: Sequence[Any] | NDArray[Any],
    k: int,
    resamples: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """The win matrix of each resample of prompts: (resamples, k, k)."""
    _, prompt = np.unique(np.asarray(groups), return_inverse=True)
    cells, cell = np.unique(np.concatenate([first * k + second, second * k + first]), return_inverse=True)
    rows = np.zeros((int(prompt.max()) + 1, len(cells)))
    np.add.at(rows, (np.concatenate([prompt, prompt]), cell), np.concatenate([won, 1.0 - won]))
    drawn = np.zeros((resamples, k * k))
    drawn[:, cells] = resampled_sums(rows, resamples, rng)
    return drawn.reshape(resamples, k, k)
