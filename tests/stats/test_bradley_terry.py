"""Bradley-Terry against a closed form, an independent optimiser and simulated strengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit, logit

from alignment.stats import bradley_terry, crowd_bradley_terry, win_matrix

Votes = list[tuple[int, int, float]]


def random_wins(seed: int, k: int = 5) -> np.ndarray:
    wins = np.random.default_rng(seed).integers(1, 20, size=(k, k)).astype(float)
    np.fill_diagonal(wins, 0)
    return wins


def test_two_competitors_in_closed_form() -> None:
    wins = win_matrix([0] * 10, [1] * 10, [1] * 7 + [0.5] + [0] * 2, 2)
    assert wins.tolist() == [[0, 7.5], [2.5, 0]]
    strengths = bradley_terry(wins)
    assert strengths[0] - strengths[1] == pytest.approx(np.log(3))
    assert strengths.sum() == pytest.approx(0, abs=1e-12)


def test_against_an_independent_optimiser() -> None:
    from scipy.optimize import minimize

    wins = random_wins(0)

    def loss(s: np.ndarray) -> float:
        return float((wins * np.logaddexp(0, s[None, :] - s[:, None])).sum())

    found = minimize(loss, np.zeros(5), tol=1e-12).x
    assert bradley_terry(wins) == pytest.approx(found - found.mean(), abs=1e-4)


def test_against_evalica() -> None:
    evalica = pytest.importorskip("evalica")
    rng = np.random.default_rng(3)
    a = rng.integers(0, 4, 600)
    b = (a + rng.integers(1, 4, 600)) % 4
    won = rng.random(600) < 1 / (1 + np.exp(-(a - b) * 0.5))
    winners = [evalica.Winner.X if w else evalica.Winner.Y for w in won]
    theirs = evalica.bradley_terry([str(i) for i in a], [str(i) for i in b], winners, tolerance=1e-12).scores
    logs = np.log(np.array([theirs[str(i)] for i in range(4)]))
    assert bradley_terry(win_matrix(a, b, won, 4)) == pytest.approx(logs - logs.mean(), abs=1e-3)


def test_many_fits_at_once_equal_one_at_a_time() -> None:
    stack = np.stack([random_wins(s) for s in range(6)])
    assert bradley_terry(stack) == pytest.approx(np.stack([bradley_terry(w) for w in stack]), abs=1e-9)


def test_extreme_records_converge() -> None:
    strengths = bradley_terry([[0, 9_999, 1], [1, 0, 9_999], [1, 1, 0]])
    assert np.isfinite(strengths).all()


def test_one_who_never_lost_needs_a_prior() -> None:
    wins = [[0, 3, 4], [0, 0, 2], [0, 2, 0]]
    with pytest.raises(ValueError, match="never lost"):
        bradley_terry(wins)
    strengths = bradley_terry(wins, prior=1.0)
    assert strengths[0] > strengths[1]
    with pytest.raises(ValueError, match="never met"):
        bradley_terry([[0, 1, 0], [1, 0, 0], [0, 0, 0]])


def penalised(numbers: np.ndarray, votes: Votes, pairs: list[tuple[int, int]], people: int) -> float:
    """The log posterior of strengths and log-odds of reliabilities, a vote at a time."""
    items = len(numbers) - people
    strength, reliability = numbers[:items], expit(numbers[items:])
    total = 0.0
    for pair, judge, said in votes:
        true = expit(strength[pairs[pair][0]] - strength[pairs[pair][1]])
        first = reliability[judge] * true + (1 - reliability[judge]) * (1 - true)
        total += said * math.log(first) + (1 - said) * math.log(1 - first)
    for a, b in pairs:
        total += 0.5 * (
            math.log(expit(strength[a] - strength[b])) + math.log(expit(strength[b] - strength[a]))
        )
    return total + float((2.0 * np.log(reliability) + 0.5 * np.log(1 - reliability)).sum())


def some_votes(seed: int) -> tuple[Votes, list[tuple[int, int]]]:
    dice = np.random.default_rng(seed)
    pairs = [(0, 1), (1, 2), (0, 2), (3, 4)]
    return [
        (int(dice.integers(4)), int(dice.integers(3)), float(dice.choice([0, 1, 1, 0.5, 0.8])))
        for _ in range(40)
    ], pairs


@pytest.mark.parametrize("seed", range(4))
def test_the_crowd_fit_is_a_maximum_and_its_objective_never_falls(seed: int) -> None:
    from scipy.optimize import minimize

    votes, pairs = some_votes(seed)
    pair, judge, said = zip(*votes, strict=True)
    fit = crowd_bradley_terry(*zip(*pairs, strict=True), pair, judge, said, tolerance=1e-9, iterations=20000)
    assert np.diff(fit.objective).min() > -1e-9
    here = np.concatenate([fit.strengths, logit(fit.reliability)])
    assert fit.objective[-1] == pytest.approx(penalised(here, votes, pairs, 3), abs=1e-6)
    best = minimize(lambda x: -penalised(x, votes, pairs, 3), here, method="BFGS")
    assert -best.fun == pytest.approx(fit.objective[-1], abs=1e-5)
    assert fit.reliability == pytest.approx(expit(best.x[5:]), abs=1e-2)


def test_one_vote_by_hand() -> None:
    # One pair, one vote for a. At the maximum the strengths obey p = (o + 0.5) / 2, where o, the chance that
    # the vote is the judge's own, obeys o = r p / (r p + (1 - r)(1 - p)) and r = (o + 2) / 3.5.
    own = 0.5
    for _ in range(1000):
        p, r = (own + 0.5) / 2, (own + 2) / 3.5
        own = r * p / (r * p + (1 - r) * (1 - p))
    fit = crowd_bradley_terry([0], [1], [0], [0], [1.0], tolerance=1e-10)
    assert expit(fit.strengths[0] - fit.strengths[1]) == pytest.approx(p, abs=1e-6)
    assert fit.reliability == pytest.approx([r], abs=1e-6)


def test_a_planted_bad_judge_is_found_and_the_order_is_better_than_the_votes() -> None:
    dice = np.random.default_rng(1)
    strength = dice.normal(0, 1.5, (2000, 4))
    a, b = np.triu_indices(4, 1)
    gap = (strength[:, a] - strength[:, b]).ravel()
    first, second = ((np.arange(2000)[:, None] * 4 + side).ravel() for side in (a, b))
    judge = np.repeat(np.stack([dice.permutation(6)[:3] for _ in range(2000)]), len(a), axis=0)
    chance = np.where(judge == 0, expit(-gap)[:, None], expit(gap)[:, None])  # judge 0 says the opposite
    said = (dice.random(chance.shape) < chance).astype(float)
    pair = np.repeat(np.arange(len(gap)), 3)
    fit = crowd_bradley_terry(first, second, pair, judge.ravel(), said.ravel())
    assert fit.reliability[0] < 0.1
    assert fit.reliability[1:].min() > 0.9
    found = ((fit.strengths[first] > fit.strengths[second]) == (gap > 0)).mean()
    assert found > ((said.mean(1) > 0.5) == (gap > 0)).mean() + 0.05


def test_without_a_vote_there_is_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match="at least one vote"):
        crowd_bradley_terry([], [], [], [], [])
