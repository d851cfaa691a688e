"""Length control: what was put into simulated data comes out of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from alignment.stats import explained_by_length, length_controlled, win_rate


def simulated(seed: int, n: int, strength: float, effect: float, longer: float = 0.0, hard: float = 0.0):
    """Outcomes of a model that is `strength` better and `longer` sd longer; the judge likes length."""
    rng = np.random.default_rng(seed)
    b = rng.gamma(4.0, 200.0, n)
    a = np.maximum(b + rng.normal(300.0 * longer, 300.0, n), 1.0)
    change = a - b
    difficulty = rng.normal(size=n)
    logit = strength + effect * np.tanh(change / change.std(ddof=1)) + hard * difficulty
    return (rng.random(n) < expit(logit)).astype(float), a, b, difficulty


@pytest.mark.parametrize(("strength", "effect"), [(0.0, 1.5), (0.4, 1.0), (-0.5, 0.0), (0.3, -0.8)])
def test_known_strength_and_length_effect_are_recovered(strength: float, effect: float) -> None:
    outcomes, a, b, _ = simulated(0, 40_000, strength, effect, longer=0.5)
    found = length_controlled(outcomes, a, b, resamples=100)
    assert found.strength.value == pytest.approx(strength, abs=0.05)
    assert found.length_effect.value == pytest.approx(effect, abs=0.07)
    assert found.rate == pytest.approx(expit(strength), abs=0.012)


def test_intervals_hold_the_truth() -> None:
    held = np.zeros(3)
    for seed in range(100):
        outcomes, a, b, _ = simulated(seed, 300, 0.3, 1.0, longer=0.5)
        found = length_controlled(outcomes, a, b, resamples=300, seed=seed)
        held += [
            found.low <= expit(0.3) <= found.high,
            found.strength.low <= 0.3 <= found.strength.high,
            found.length_effect.low <= 1.0 <= found.length_effect.high,
        ]
    assert (held >= 89).all()  # 95 expected


def test_a_win_by_length_alone_is_named() -> None:
    outcomes, a, b, _ = simulated(1, 800, 0.0, 2.0, longer=0.7)
    raw, controlled = win_rate(outcomes), length_controlled(outcomes, a, b)
    assert raw.low > 0.5
    assert controlled.low < 0.5 < controlled.high
    assert explained_by_length(raw, controlled)
    mirrored = length_controlled(1 - outcomes, b, a)
    assert explained_by_length(win_rate(1 - outcomes), mirrored)
    honest, a, b, _ = simulated(2, 800, 1.0, 0.3, longer=0.7)
    assert not explained_by_length(win_rate(honest), length_controlled(honest, a, b))


def test_the_fit_is_the_penalised_maximum() -> None:
    from scipy.optimize import minimize

    outcomes, a, b, hard = simulated(3, 200, 0.4, 1.0, hard=-0.7)
    found = length_controlled(outcomes, a, b, difficulty=hard)
    change = a - b
    x = np.stack([np.ones(200), np.tanh(change / change.std(ddof=1)), hard], 1)

    def loss(beta: np.ndarray) -> float:
        logit = x @ beta
        return float((np.logaddexp(0, logit) - outcomes * logit).sum() + 0.005 * beta @ beta)

    best = minimize(loss, np.zeros(3), tol=1e-10).x
    fitted = [found.strength.value, found.length_effect.value, found.difficulty_effect]
    assert fitted == pytest.approx(best, abs=1e-4)
    x[:, 1] = 0.0
    assert found.rate == pytest.approx(expit(x @ best).mean(), abs=1e-4)
    assert found.low < found.rate < found.high


def test_one_step_resamples_are_near_whole_refits() -> None:
    outcomes, a, b, _ = simulated(4, 250, 0.3, 1.2, longer=0.5)
    found = length_controlled(outcomes, a, b)
    rng, rates = np.random.default_rng(0), []
    sd = (a - b).std(ddof=1)
    for _ in range(400):
        rows = rng.integers(0, 250, 250)
        x = np.stack([np.ones(250), np.tanh((a - b)[rows] / sd)], 1)
        beta = np.zeros(2)
        for _ in range(12):
            chance = expit(x @ beta)
            beta += np.linalg.solve(
                (x * (chance * (1 - chance))[:, None]).T @ x, x.T @ (outcomes[rows] - chance)
            )
        rates.append(expit(beta[0]))
    assert [found.low, found.high] == pytest.approx(np.quantile(rates, [0.025, 0.975]), abs=0.012)


def test_swapping_mirrors_and_order_does_not_matter() -> None:
    outcomes, a, b, _ = simulated(5, 120, 0.3, 1.0)
    found, mirrored = length_controlled(outcomes, a, b), length_controlled(1 - outcomes, b, a)
    assert mirrored.rate == pytest.approx(1 - found.rate)
    assert mirrored.length_effect.value == pytest.approx(found.length_effect.value)
    assert [mirrored.low, mirrored.high] == pytest.approx([1 - found.high, 1 - found.low], abs=0.01)
    order = np.random.default_rng(0).permutation(120)
    groups = np.arange(120)
    again = length_controlled(outcomes[order], a[order], b[order], groups[order])
    assert again.rate == pytest.approx(found.rate)
    assert [again.low, again.high] == pytest.approx([found.low, found.high], abs=1e-9)


def test_extreme_data_stay_finite_and_bad_data_are_refused() -> None:
    won = length_controlled([1.0] * 20, range(20), [5] * 20)
    assert 0.9 < won.rate <= 1
    same = length_controlled([1, 0, 1, 1], [7] * 4, [7] * 4)
    assert same.length_effect.value == 0
    assert same.rate == pytest.approx(0.75, abs=0.01)
    for bad in (([], [], []), ([1], [1, 2], [1]), ([2], [1], [1]), ([1], [np.nan], [1])):
        with pytest.raises(ValueError):
            length_controlled(*bad)
