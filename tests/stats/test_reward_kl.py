"""Reward against KL: curves recovered, best-of-n counted out, the flag where it belongs."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import pytest

from alignment.stats import best_of_n, best_of_n_kl, gao_curve, over_optimised, reward_curve
from alignment.stats.reward_kl import fit_gao


@pytest.mark.parametrize("form", ["bon", "rl"])
def test_a_known_curve_comes_back(form: Literal["bon", "rl"]) -> None:
    d = np.linspace(0, 5, 8)
    assert fit_gao(d, gao_curve(d, 1.2, 0.2, form), form) == pytest.approx([1.2, 0.2])
    rng = np.random.default_rng(0)
    moved = (d > 0)[:, None]
    gold = gao_curve(d, 1.2, 0.2, form)[:, None] + moved * rng.normal(0, 1, (8, 400))
    kl = d[:, None] ** 2 + moved * rng.normal(0, 0.5, (8, 400))
    found = reward_curve(kl, gold, form)
    assert found.alpha.low < 1.2 < found.alpha.high
    assert found.beta.low < 0.2 < found.beta.high
    truth = gao_curve(found.at, 1.2, 0.2, form)
    assert ((found.curve.low <= truth) & (truth <= found.curve.high)).mean() > 0.9
    assert found.r_squared > 0.97
    assert found.peak is not None
    grid = np.linspace(0.01, 400, 400_000)
    assert found.peak == pytest.approx(
        grid[gao_curve(grid, found.alpha.value, found.beta.value, form).argmax()], rel=0.01, abs=0.01
    )


def test_a_curve_that_only_rises_has_no_peak() -> None:
    d = np.array([0.0, 1, 2, 3])
    found = reward_curve(np.tile(d[:, None] ** 2, 5), np.tile((d + d**2)[:, None], 5), "bon", resamples=50)
    assert found.peak is None
    with pytest.raises(ValueError, match="two different"):
        fit_gao([0, 1], [0, 1], "rl")
    with pytest.raises(ValueError, match="shape"):
        reward_curve(np.ones((3, 5)), np.ones((3, 4)))


def test_best_of_n_is_the_mean_over_all_choices() -> None:
    rng = np.random.default_rng(0)
    proxy, gold = rng.integers(0, 4, (3, 6)).astype(float), rng.random((3, 6))
    found = best_of_n(proxy, gold, [1, 2, 4, 6])
    for row, n in enumerate((1, 2, 4, 6)):
        for q in range(3):
            means = []
            for chosen in combinations(range(6), n):
                best = max(proxy[q, i] for i in chosen)
                means.append(np.mean([gold[q, i] for i in chosen if proxy[q, i] == best]))
            assert found[row, q] == pytest.approx(np.mean(means))
    assert best_of_n(proxy, proxy, [6])[0] == pytest.approx(proxy.max(1))
    assert best_of_n(proxy, gold, 1)[0] == pytest.approx(gold.mean(1))
    with pytest.raises(ValueError, match="6 samples"):
        best_of_n(proxy, gold, 7)


def test_best_of_n_is_unbiased_and_matches_the_normal_maximum() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(20_000, 8))
    # Expected largest of 1, 2, 4 standard normal values: 0, 1/√π, 1.0294.
    assert best_of_n(scores, scores, [1, 2, 4]).mean(1) == pytest.approx([0, 0.5642, 1.0294], abs=0.01)


def test_the_kl_of_best_of_n() -> None:
    assert best_of_n_kl([1, 2, 4]) == pytest.approx([0, np.log(2) - 0.5, np.log(4) - 0.75])


def test_the_flag() -> None:
    rng = np.random.default_rng(2)
    steps = np.arange(5.0)[:, None]
    prompts = rng.normal(0, 2, 200)
    proxy = steps + prompts + rng.normal(0, 0.5, (5, 200))
    gold = 1.5 * steps - 0.4 * steps**2 + prompts + rng.normal(0, 0.5, (5, 200))  # best at step 2
    found = {(f.earlier, f.later): f for f in over_optimised(proxy, gold)}
    assert len(found) == 10
    assert found[2, 4].flagged
    assert not found[0, 1].flagged
    assert found[0, 1].gold.low > 0
    assert not any(f.flagged for f in over_optimised(-proxy, gold))  # the proxy falls too: no hacking
    assert over_optimised(proxy[:1], gold[:1]) == []


def test_the_flag_rarely_errs_with_many_checkpoints() -> None:
    rng = np.random.default_rng(3)
    false = 0
    for seed in range(100):
        proxy = np.arange(8.0)[:, None] + rng.normal(0, 1, (8, 60))
        false += any(
            f.flagged for f in over_optimised(proxy, rng.normal(0, 1, (8, 60)), resamples=500, seed=seed)
        )
    assert false <= 10  # 5 expected; one pair at a time would flag about half of them


def test_two_checkpoints_have_an_ordinary_paired_interval() -> None:
    from alignment.stats import paired_difference

    rng = np.random.default_rng(4)
    gold = rng.normal(0, 1, 150) + np.stack([np.zeros(150), rng.normal(-0.2, 0.5, 150)])
    (only,) = over_optimised(np.stack([np.zeros(150), np.ones(150)]), gold)
    plain = paired_difference(gold[1], gold[0])
    assert [only.gold.value, only.gold.low, only.gold.high] == pytest.approx(plain[:3], abs=0.01)
    assert only.flagged == (only.gold.high < 0)
