"""Comparisons needed: the design's table, and the exact power against a plain sum."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.stats import (
    comparisons_needed,
    comparisons_needed_exactly,
    sign_test,
    smallest_change,
    smallest_rate,
    smallest_share_change,
)
from alignment.stats.power import approximate_power, sign_test_power


@pytest.mark.parametrize(("rate", "normal", "exact"), [(0.55, 783, 820), (0.60, 194, 210), (0.65, 85, 97)])
def test_the_table(rate: float, normal: int, exact: int) -> None:
    assert comparisons_needed(rate) == comparisons_needed(1 - rate) == normal
    assert comparisons_needed_exactly(rate) == comparisons_needed_exactly(1 - rate) == exact


def test_exact_power_is_the_sum_over_all_outcomes() -> None:
    from scipy.stats import binom, multinomial

    for n, rate in ((30, 0.7), (97, 0.65), (12, 0.9)):
        by_hand = sum(binom.pmf(w, n, rate) for w in range(n + 1) if sign_test(w, n - w) <= 0.05)
        assert sign_test_power(n, rate) == pytest.approx(by_hand, abs=1e-10)
    n, w, t = 25, 0.6, 0.2
    by_hand = sum(
        multinomial.pmf([i, j, n - i - j], n, [w, t, 1 - w - t])
        for i in range(n + 1)
        for j in range(n + 1 - i)
        if sign_test(i, n - i - j) <= 0.05
    )
    assert sign_test_power(n, w + t / 2, ties=t) == pytest.approx(by_hand, abs=1e-10)


@pytest.mark.parametrize(("rate", "ties"), [(0.6, 0.0), (0.6, 0.3), (0.75, 0.5)])
def test_from_the_exact_number_on_the_power_holds(rate: float, ties: float) -> None:
    n = comparisons_needed_exactly(rate, ties=ties)
    assert sign_test_power(n - 1, rate, ties=ties) < 0.8
    assert all(sign_test_power(m, rate, ties=ties) >= 0.8 for m in range(n, n + 200))


def test_power_by_simulation_with_ties() -> None:
    rng = np.random.default_rng(0)
    n, rate, ties = 160, 0.6, 0.2
    won, lost, _ = rng.multinomial(n, [rate - ties / 2, 1 - rate - ties / 2, ties], size=20_000).T
    hits = np.mean([sign_test(int(w), int(x)) <= 0.05 for w, x in zip(won, lost, strict=True)])
    assert sign_test_power(n, rate, ties=ties) == pytest.approx(hits, abs=0.01)
    assert approximate_power(n, rate, ties=ties) == pytest.approx(hits, abs=0.04)


def test_the_smallest_rate_undoes_the_number() -> None:
    assert smallest_rate(783) == pytest.approx(0.55, abs=1e-4)
    assert smallest_rate(194) == pytest.approx(0.60, abs=1e-4)
    assert smallest_rate(820, exact=True) == pytest.approx(0.55, abs=1e-3)
    assert smallest_rate(625, ties=0.2) == pytest.approx(0.55, abs=1e-4)
    assert smallest_rate(5, exact=True) is None  # five wins of five: p = 0.0625
    found = smallest_rate(100, ties=0.3, exact=True)
    assert found is not None
    assert sign_test_power(100, found, ties=0.3) >= 0.8


def test_what_cannot_be_answered() -> None:
    with pytest.raises(ValueError, match="one half"):
        comparisons_needed(0.5)
    with pytest.raises(ValueError, match="ties"):
        comparisons_needed(0.95, ties=0.2)
    with pytest.raises(ValueError, match="ties"):
        comparisons_needed(0.55, ties=1.0)
    assert comparisons_needed(0.501) > 1_000_000
    assert comparisons_needed_exactly(0.501) is None


def test_the_smallest_change_of_a_mean_is_seen_four_times_in_five() -> None:
    rng = np.random.default_rng(1)
    n, sizes = 200, rng.integers(5, 60, 200).astype(float)
    noise = rng.normal(0.0, 1.0, (4_000, n)) * np.sqrt(sizes)
    for wholes in (None, sizes):
        weights = np.ones(n) if wholes is None else wholes
        change = np.mean([smallest_change(row, wholes) for row in noise[:50]])
        seen = 0
        for row in noise:
            moved = row + change * weights
            rest = moved - moved.sum() / weights.sum() * weights
            seen += abs(moved.sum()) > 1.96 * np.sqrt((rest**2).sum())
        assert seen / len(noise) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("n", "discordant"), [(500, 0.1), (1_000, 0.3), (300, 0.02), (40, 0.0)])
def test_the_smallest_change_of_a_share_is_seen_four_times_in_five(n: int, discordant: float) -> None:
    change = smallest_share_change(n, discordant)
    assert change is not None
    differ = max(discordant, change)
    shares = [(differ + change) / 2, (differ - change) / 2, 1 - differ]
    gained, lost, _ = np.random.default_rng(0).multinomial(n, shares, size=20_000).T
    seen = np.mean([sign_test(int(g), int(x)) <= 0.05 for g, x in zip(gained, lost, strict=True)])
    assert seen == pytest.approx(0.8, abs=0.05)


def test_six_items_are_needed_to_show_any_change() -> None:
    assert smallest_share_change(5, 0.5) is None
    assert smallest_share_change(6, 0.0) == pytest.approx(0.8 ** (1 / 6))
