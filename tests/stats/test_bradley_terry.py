"""Bradley-Terry against a closed form, an independent optimiser and simulated strengths."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.stats import bradley_terry, win_matrix


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
