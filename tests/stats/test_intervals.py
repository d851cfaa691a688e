"""Bootstrap, win rate and Wilson intervals against scipy and plain loops."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.stats import (
    binomial_interval,
    bootstrap_interval,
    difference_of_means,
    mean_over_seeds,
    paired_difference,
    ratio_interval,
    win_rate,
)
from alignment.stats.intervals import _resampled_means, resampled_sums


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


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=60), st.integers(1, 9), st.randoms())
def test_swapping_the_two_mirrors_the_interval_and_order_does_not_matter(
    outcomes: list[float], prompts: int, random
) -> None:
    groups = [i % prompts for i in range(len(outcomes))]
    rate = win_rate(outcomes, groups, resamples=500)
    mirrored = win_rate([1 - o for o in outcomes], groups, resamples=500)
    assert mirrored.rate == pytest.approx(1 - rate.rate)
    assert mirrored.ties == rate.ties
    loose = (
        0.15 if rate.rate == pytest.approx(0.5) else 1e-12
    )  # neither leads: two draws of the same bootstrap
    assert [mirrored.low, mirrored.high] == pytest.approx([1 - rate.high, 1 - rate.low], abs=loose)
    order = random.sample(range(len(outcomes)), len(outcomes))
    again = win_rate([outcomes[i] for i in order], [groups[i] for i in order], resamples=500)
    assert again == pytest.approx(rate)


def test_a_paired_difference_is_narrower_than_two_means() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1, 300)
    first, second = hard + 0.2 + rng.normal(0, 0.2, 300), hard + rng.normal(0, 0.2, 300)
    paired, alone = paired_difference(first, second), bootstrap_interval(first)
    assert paired.value == pytest.approx((first - second).mean())
    assert paired.low > 0
    assert paired.high - paired.low < 0.4 * (alone.high - alone.low)
    swapped = paired_difference(second, first)
    assert [swapped.low, swapped.high] == pytest.approx([-paired.high, -paired.low], abs=0.005)
    with pytest.raises(ValueError, match="one length"):
        paired_difference([1, 2], [1])


def test_training_seeds_widen_the_interval_as_their_variance_asks() -> None:
    rng = np.random.default_rng(1)
    seeds, prompts, sd_seed, sd_prompt = 8, 400, 0.05, 0.3
    effect = np.clip(rng.normal(0, 1, (seeds, 1)), -2, 2)
    effect = sd_seed * (effect - effect.mean()) / effect.std(ddof=1)
    table = 0.5 + effect + sd_prompt * rng.normal(0, 1, (seeds, prompts))
    found = mean_over_seeds(table)
    expected = 1.96 * np.sqrt(sd_seed**2 / seeds + sd_prompt**2 / (seeds * prompts))
    assert found.value == pytest.approx(table.mean())
    assert found.n == 8
    assert (found.high - found.low) / 2 == pytest.approx(expected, rel=0.15)
    over_prompts_alone = bootstrap_interval(table.mean(0))
    assert found.high - found.low > 1.5 * (over_prompts_alone.high - over_prompts_alone.low)
    with pytest.raises(ValueError, match="two seeds"):
        mean_over_seeds(table[:1])


def test_resampled_sums_are_the_same_by_every_path() -> None:
    """Few kinds are drawn by kind, two columns by index, more by counts: one distribution."""
    rng = np.random.default_rng(2)
    kinds = rng.choice([0.0, 1.0], size=(2_000, 2))
    noisy = kinds + 1e-9 * rng.random((2_000, 2))
    wide = np.concatenate([noisy, noisy, np.full((2_000, 1), 3.0)], axis=1)
    drawn = [resampled_sums(rows, 4_000, rng) for rows in (kinds, noisy, wide)]
    for sums in drawn:
        assert sums[:, :2].mean(0) == pytest.approx(kinds.sum(0), rel=0.01)
        assert np.cov(sums[:, :2].T) == pytest.approx(2_000 * np.cov(kinds.T), abs=60)
    assert drawn[2][:, 4] == pytest.approx(6_000)


def test_the_difference_of_two_means_that_are_not_paired() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(1.0, 2.0, 400), rng.normal(0.0, 1.0, 900)
    found = difference_of_means(first, second)
    assert found.value == pytest.approx(first.mean() - second.mean())
    half = 1.96 * np.sqrt(first.var() / 400 + second.var() / 900)  # Welch's normal approximation
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.03)
    assert found.n == 400
    twice = difference_of_means(np.repeat(first, 2), second, (np.repeat(np.arange(400), 2), None))
    assert twice.high - twice.low == pytest.approx(found.high - found.low, rel=0.03)  # prompts, not rows
    wider = difference_of_means(first, second, level=0.99)
    assert wider.low < found.low
    with pytest.raises(ValueError, match="not finite"):
        difference_of_means([1.0, float("nan")], second)


def test_a_ratio_agrees_with_scipy_and_refuses_a_whole_of_nothing() -> None:
    from scipy.stats import bootstrap

    rng = np.random.default_rng(4)
    wholes = rng.integers(1, 50, 150).astype(float)
    parts = wholes * rng.normal(2.0, 0.5, 150)
    ours = ratio_interval(parts, wholes)
    theirs = bootstrap(
        (parts, wholes),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        method="percentile",
        rng=5,
    ).confidence_interval
    assert ours.value == pytest.approx(parts.sum() / wholes.sum())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)
    with pytest.raises(ValueError, match="above 0"):
        ratio_interval([1.0], [0.0])
