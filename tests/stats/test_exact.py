"""Exact intervals against scipy, and their coverage counted out, not sampled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from alignment.stats import (
    Interval,
    bootstrap_interval,
    clopper_pearson,
    exact_win_rate,
    wider_for_few,
    win_rate,
)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (3, 10), (140, 200), (1, 1_000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_clopper_pearson_against_scipy(k: int, n: int, level: float) -> None:
    theirs = binomtest(k, n).proportion_ci(confidence_level=level, method="exact")
    assert [*clopper_pearson(k, n, level=level)] == pytest.approx(
        [k / n, theirs.low, theirs.high, n], abs=1e-9
    )


def test_without_ties_it_is_clopper_pearson() -> None:
    exact = exact_win_rate([1] * 140 + [0] * 60)
    assert (exact.low, exact.high) == clopper_pearson(140, 200)[1:3]
    assert (exact.n, exact.ties) == (200, 0)


def test_coverage_with_ties_is_never_below_the_level() -> None:
    """All outcomes of 20 prompts, each with its exact chance: no simulation."""
    from scipy.stats import multinomial

    n = 20
    cells = [(w, t) for w in range(n + 1) for t in range(n + 1 - w)]
    found = [exact_win_rate([1.0] * w + [0.5] * t + [0.0] * (n - w - t)) for w, t in cells]
    counts = np.array([[w, t, n - w - t] for w, t in cells])
    covered = []
    for tie in (0.0, 0.01, 0.05, 0.3, 0.6):
        for rate in np.linspace(tie / 2, 1 - tie / 2, 25)[1:-1]:
            chance = multinomial.pmf(counts, n, [rate - tie / 2, tie, 1 - rate - tie / 2])
            inside = [i.low <= rate <= i.high for i in found]
            covered.append(float(chance[inside].sum()))
    assert min(covered) >= 0.95
    assert np.mean(covered) < 0.995  # and it is not simply everything


def test_several_answers_a_prompt_count_prompts() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(300), 3)
    outcomes = (rng.random(900) < 0.6).astype(float)
    exact, plain = exact_win_rate(outcomes, groups), win_rate(outcomes, groups)
    assert exact.rate == pytest.approx(plain.rate)
    assert exact.n == 300
    assert exact.low < plain.low < plain.high < exact.high


def test_it_is_little_wider_than_the_bootstrap() -> None:
    rng = np.random.default_rng(1)
    outcomes = rng.choice([0, 0.5, 1], p=[0.3, 0.3, 0.4], size=2_000)
    exact, plain = exact_win_rate(outcomes), win_rate(outcomes)
    assert 1.0 < (exact.high - exact.low) / (plain.high - plain.low) < 1.08


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40), st.randoms())
def test_swapping_the_two_mirrors_it_and_order_does_not_matter(outcomes: list[float], random) -> None:
    exact, mirrored = exact_win_rate(outcomes), exact_win_rate([1 - o for o in outcomes])
    assert [mirrored.rate, mirrored.low, mirrored.high] == pytest.approx(
        [1 - exact.rate, 1 - exact.high, 1 - exact.low], abs=1e-6
    )
    assert 0 <= exact.low <= exact.rate <= exact.high <= 1
    shuffled = random.sample(outcomes, len(outcomes))
    assert exact_win_rate(shuffled) == exact


def test_bad_outcomes_are_refused() -> None:
    for bad in ([], [0.7], [np.nan]):
        with pytest.raises(ValueError, match="outcome"):
            exact_win_rate(bad)
    with pytest.raises(ValueError, match="need"):
        clopper_pearson(3, 2)


@pytest.mark.parametrize(
    ("falls", "rises", "holds_zero"), [(4, 0, True), (6, 0, False), (0, 6, False), (7, 2, True)]
)
def test_few_changes_are_told_as_the_exact_test_tells_them(falls: int, rises: int, holds_zero: bool) -> None:
    changes = np.array([-1.0] * falls + [1.0] * rises + [0.0] * (60 - falls - rises))
    found = wider_for_few(bootstrap_interval(changes), falls, rises)
    assert (found.low <= 0.0 <= found.high) == holds_zero == (binomtest(falls, falls + rises).pvalue > 0.05)
    many = bootstrap_interval(np.repeat(changes, 10))
    assert wider_for_few(many, 10 * falls, 10 * rises) == many


def test_a_change_of_few_items_is_covered() -> None:
    """60 items, each falling with 6%: the bootstrap alone misses that too often."""
    rng = np.random.default_rng(0)
    held = plain = 0
    for _ in range(200):
        changes = rng.choice([-1.0, 0.0, 1.0], 60, p=[0.06, 0.94, 0.0])
        low, high = bootstrap_interval(changes, resamples=2_000)[1:3]
        plain += low <= -0.06 <= high
        change = Interval(float(changes.mean()), low, high, 60)
        found = wider_for_few(change, int((changes < 0).sum()), int((changes > 0).sum()))
        held += found.low <= -0.06 <= found.high
    assert held >= 190 > plain
