"""Bootstrap, win rate and Wilson intervals against scipy and plain loops."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.stats import binomial_interval, bootstrap_interval, win_rate
from alignment.stats.intervals import _resampled_means


def test_bootstrap_agrees_with_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).exponential(size=120)
    ours = bootstrap_interval(values, seed=3)
    theirs = bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=5).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert ours.n == 120
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_groups_agree_with_a_plain_cluster_bootstrap() -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 60, size=400)
    values = (rng.random(60)[groups] + 0.1 * rng.random(400)).round(3)
    members = [values[groups == g] for g in np.unique(groups)]
    means = []
    for _ in range(4_000):
        drawn = [members[i] for i in rng.integers(0, len(members), len(members))]
        means.append(np.concatenate(drawn).mean())
    ours = bootstrap_interval(values, groups)
    assert [ours.low, ours.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.006)
    alone = bootstrap_interval(values)
    assert ours.high - ours.low > 1.5 * (alone.high - alone.low)  # rows of one prompt are not independent


def test_few_kinds_and_direct_draws_are_the_same_bootstrap() -> None:
    """Win rates take the multinomial path; a hair of noise forces the direct one. Same interval."""
    rng = np.random.default_rng(4)
    outcomes = rng.choice([0, 0.5, 1], p=[0.3, 0.1, 0.6], size=2_000)
    fast = bootstrap_interval(outcomes)
    direct = bootstrap_interval(outcomes + 1e-9 * rng.random(2_000))
    assert [fast.low, fast.high] == pytest.approx([direct.low, direct.high], abs=0.003)


def test_unequal_groups_weigh_by_rows() -> None:
    rng = np.random.default_rng(0)
    means = _resampled_means(np.array([3.0, 0.0]), np.array([3, 1]), 5_000, rng)
    assert set(means) == {0.0, 0.75, 1.0}


def test_win_rate_counts_ties_and_is_seeded() -> None:
    outcomes = [1, 1, 1, 0.5, 0.5, 0]
    rate = win_rate(outcomes)
    assert rate.rate == pytest.approx(4 / 6)
    assert (rate.n, rate.ties) == (6, 2)
    assert rate.low < rate.rate < rate.high
    assert rate == win_rate(outcomes)
    assert rate._asdict().keys() == {"rate", "low", "high", "n", "ties"}


def test_global_random_state_is_left_alone() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    win_rate([1, 0, 1])
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize("bad", [[], [1, np.nan], [[1, 0]], [np.inf]])
def test_bad_values_are_refused(bad: list) -> None:
    with pytest.raises(ValueError):
        bootstrap_interval(bad)


def test_bad_outcomes_and_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="outcome"):
        win_rate([0.7])
    with pytest.raises(ValueError, match="groups"):
        bootstrap_interval([1, 2], ["a"])


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (3, 10), (140, 200), (12, 40)])
def test_wilson_against_scipy(k: int, n: int) -> None:
    from scipy.stats import binomtest

    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert [*binomial_interval(k, n)] == pytest.approx([k / n, theirs.low, theirs.high, n], abs=1e-9)


def test_wilson_by_hand() -> None:
    # Wikipedia-style check at z = 1.96, 8 of 10: (0.4902, 0.9433).
    assert binomial_interval(8, 10)[1:3] == pytest.approx((0.4902, 0.9433), abs=1e-4)
    with pytest.raises(ValueError):
        binomial_interval(1, 0)
    with pytest.raises(ValueError):
        binomial_interval(6, 5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=60), st.integers(0, 3))
def test_win_rate_properties(outcomes: list[float], seed: int) -> None:
    rate = win_rate(outcomes, seed=seed, resamples=500)
    mirrored = win_rate([1 - o for o in outcomes], seed=seed, resamples=500)
    assert 0 <= rate.low <= rate.high <= 1
    assert mirrored.rate == pytest.approx(1 - rate.rate)
    assert rate.low <= rate.rate + 1e-12
    assert rate.rate <= rate.high + 1e-12
    one_each = win_rate(outcomes, groups=[f"p{i:03}" for i in range(len(outcomes))], seed=seed, resamples=500)
    assert one_each == rate


def test_one_hundred_thousand_rows_are_fast() -> None:
    rng = np.random.default_rng(0)
    outcomes = rng.choice([0, 0.5, 1], size=100_000)
    groups = np.array([f"prompt {i}" for i in rng.integers(0, 20_000, 100_000)])
    start = time.perf_counter()
    win_rate(outcomes, groups)
    assert time.perf_counter() - start < 5.0  # 0.4 s alone on two cores; this machine may be busy
