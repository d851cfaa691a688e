"""The sequential test: its stake in closed form, its error under peeking, its bounds."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln, logsumexp

from alignment.stats import decided_at, looks, win_rate
from alignment.stats.sequential import log_stakes


@pytest.mark.parametrize(("wins", "losses", "m"), [(13, 9, 0.5), (0, 12, 0.5), (60, 40, 0.45), (3, 90, 0.1)])
def test_without_ties_the_stake_is_the_beta_mixture(wins: int, losses: int, m: float) -> None:
    mixture = betaln(wins + 0.5, losses + 0.5) - betaln(0.5, 0.5)
    expected = mixture - wins * np.log(m) - losses * np.log(1 - m)
    assert log_stakes([[losses, wins]], [0, 1], m)[0] == pytest.approx(expected, abs=1e-9)
    with_ties = log_stakes([[losses, 30, wins]], [0, 0.5, 1], 0.5)[0]
    assert m != 0.5 or with_ties == pytest.approx(expected, abs=1e-9)  # a tie says nothing of one half


def test_if_the_rate_is_true_the_stake_does_not_grow_on_average() -> None:
    """The expectation over all outcomes of 12 prompts with ties, counted out: exactly 1."""
    from scipy.stats import multinomial

    n, tie, rate = 12, 0.3, 0.55
    cells = np.array([[n - w - t, t, w] for w in range(n + 1) for t in range(n + 1 - w)])
    chance = multinomial.logpmf(cells, n, [1 - rate - tie / 2, tie, rate - tie / 2])
    assert logsumexp(chance + log_stakes(cells, [0, 0.5, 1], rate)) == pytest.approx(0.0, abs=1e-9)


def test_false_positives_under_peeking_at_every_prompt() -> None:
    """No true difference, a look after each of 500 prompts: the sign test errs often, this one rarely."""
    from scipy.stats import binom

    rng = np.random.default_rng(0)
    runs, n = 1_000, 500
    won = rng.random((runs, n)) < 0.5
    untied = rng.random((runs, n)) < 0.8
    wins, losses = np.cumsum(won & untied, 1), np.cumsum(~won & untied, 1)
    pairs, where = np.unique(np.stack([losses.ravel(), wins.ravel()], 1), axis=0, return_inverse=True)
    stakes = log_stakes(pairs, [0, 1], 0.5)[where].reshape(runs, n)
    assert (stakes.max(1) >= np.log(20)).mean() < 0.05
    fixed = 2 * binom.cdf(np.minimum(wins, losses), wins + losses, 0.5)
    assert (fixed.min(1) <= 0.05).mean() > 0.2


def test_the_bounds_hold_at_all_looks_together() -> None:
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(80):
        outcomes = rng.choice([0, 0.5, 1], p=[0.3, 0.2, 0.5], size=300)
        last = looks(outcomes, np.arange(5, 301, 5))[-1]  # bounds are those of all looks so far together
        missed += not last.low <= 0.6 <= last.high
    assert missed <= 8  # 5% of 80 and two standard deviations


def test_a_true_difference_is_found_and_stays_found() -> None:
    outcomes = np.random.default_rng(2).choice([0, 0.5, 1], p=[0.25, 0.15, 0.6], size=600)
    found = looks(outcomes)
    assert len(found) == 600
    assert found[-1].decided
    assert found[-1].low > 0.5
    first = next(i for i, look in enumerate(found) if look.decided)
    assert all(look.decided for look in found[first:])
    widths = [look.high - look.low for look in found]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(widths))
    plain = win_rate(outcomes)
    assert widths[-1] > plain.high - plain.low  # peeking costs something
    assert widths[-1] < 2.2 * (plain.high - plain.low)
    assert decided_at(outcomes) == found[first].n
    assert decided_at([1, 0] * 50) is None
    some = looks(outcomes, [100, 600])
    assert (some[1].n, some[1].rate) == (600, found[-1].rate)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=60), st.randoms())
def test_swapping_the_two_mirrors_it_and_order_does_not_matter(outcomes: list[float], random) -> None:
    (look,) = looks(outcomes, [len(outcomes)])
    (mirrored,) = looks([1 - o for o in outcomes], [len(outcomes)])
    assert [mirrored.low, mirrored.high] == pytest.approx([1 - look.high, 1 - look.low], abs=1e-7)
    assert mirrored.evidence == pytest.approx(look.evidence)
    (again,) = looks(random.sample(outcomes, len(outcomes)), [len(outcomes)])
    assert [again.low, again.high] == pytest.approx([look.low, look.high])
    assert look.low <= look.rate + 1e-9
    assert look.rate <= look.high + 1e-9


def test_bad_outcomes_and_looks_are_refused() -> None:
    for bad in ([], [1.2], [np.nan]):
        with pytest.raises(ValueError, match="outcomes"):
            looks(bad)
    for at in ([0], [3], [2, 1], []):
        with pytest.raises(ValueError, match="looks"):
            looks([0, 1], at)
