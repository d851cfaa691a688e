"""Several models in one order: evalica's strengths, simulated ones, intervals of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from alignment.stats import rank_models


def arena(seed: int, strengths: list[float], n: int, ties: float = 0.1, prompts: int = 200):
    rng = np.random.default_rng(seed)
    k = len(strengths)
    i = rng.integers(0, k, n)
    j = (i + rng.integers(1, k, n)) % k
    s = np.array(strengths)
    won = (rng.random(n) < expit(s[i] - s[j])).astype(float)
    won[rng.random(n) < ties] = 0.5
    names = np.array([f"m{x}" for x in range(k)])
    return names[i], names[j], won, rng.integers(0, prompts, n)


def test_against_evalica_with_ties() -> None:
    evalica = pytest.importorskip("evalica")
    a, b, won, prompts = arena(0, [0.0, 0.4, 0.8, -0.3], 3_000)
    ranking = rank_models(a, b, won, prompts, resamples=200)
    winner = {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}
    theirs = evalica.bradley_terry(list(a), list(b), [winner[w] for w in won], tolerance=1e-12).scores
    logs = np.log(theirs) - np.log(theirs).mean()
    assert {s.name: s.strength for s in ranking.standings} == pytest.approx(logs.to_dict(), abs=1e-3)
    assert [s.name for s in ranking.standings] == ["m2", "m1", "m0", "m3"]
    assert [s.rank for s in ranking.standings] == [1, 2, 3, 4]
    chance = ranking.chances
    assert chance[0, 3] == pytest.approx(expit(logs["m2"] - logs["m3"]), abs=1e-3)
    assert chance + chance.T == pytest.approx(np.ones((4, 4)))


def test_intervals_hold_the_truth_and_equals_share_ranks() -> None:
    truth = np.array([0.5, 0.5, -1.0])
    held, first = 0, 0
    for seed in range(40):
        ranking = rank_models(*arena(seed, list(truth), 600), resamples=300, seed=seed)
        by_name = {s.name: s for s in ranking.standings}
        # Ties are drawn apart from strengths here and pull them together by a tenth or so.
        held += all(
            by_name[f"m{i}"].rank_low <= r <= by_name[f"m{i}"].rank_high for i, r in enumerate((1, 1, 3))
        )
        first += by_name["m0"].rank_low == by_name["m1"].rank_low == 1
    assert held >= 36
    assert first >= 33


def test_all_comparisons_of_a_prompt_are_drawn_together() -> None:
    a, b, won, _ = arena(1, [0.0, 0.6], 400, prompts=400)
    apart = rank_models(a, b, won, np.arange(400)).standings[0]
    twice = rank_models(np.tile(a, 2), np.tile(b, 2), np.tile(won, 2), np.tile(np.arange(400), 2)).standings[
        0
    ]
    assert twice.strength == pytest.approx(apart.strength)
    assert twice.high - twice.low == pytest.approx(apart.high - apart.low, rel=0.1)  # twice the rows, no news
    assert twice.n == 2 * apart.n


def test_swapping_sides_changes_nothing() -> None:
    a, b, won, prompts = arena(2, [0.0, 0.6, 0.2], 300)
    swapped = rank_models(b, a, 1 - won, prompts, resamples=50).standings
    for one, other in zip(rank_models(a, b, won, prompts, resamples=50).standings, swapped, strict=True):
        assert one.name == other.name
        assert one[1:] == pytest.approx(other[1:])


def test_a_model_that_never_lost_is_shrunk_and_strangers_are_refused() -> None:
    ranking = rank_models(["a"] * 5, ["b"] * 5, [1] * 5, range(5))
    assert ranking.shrunk
    assert np.isfinite([s.strength for s in ranking.standings]).all()
    assert not rank_models(["a"] * 5, ["b"] * 5, [1, 1, 0, 1, 0.5], range(5)).shrunk
    with pytest.raises(ValueError, match="never compared"):
        rank_models(["a", "c"], ["b", "d"], [1, 0], [0, 1])
