"""A judge that looks at the place instead of the answer is found out; one that does not, is not."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.stats import position_bias


def both_orders(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A judge that chooses answer A in both orders: the first in one of them, the second in the other."""
    return np.concatenate([chosen, 1 - chosen]), np.tile(np.arange(len(chosen)), 2)


def test_a_judge_that_always_says_the_first() -> None:
    found = position_bias(np.ones(40), np.tile(np.arange(20), 2))
    assert found.biased
    assert found.always == "first"
    assert (found.value, found.n) == (1.0, 40)
    assert found.p == pytest.approx(2 / 2**20)
    assert position_bias([0.0] * 30).always == "second"


def test_a_judge_of_answers_is_not_biased_however_one_sided_they_are() -> None:
    first, prompts = both_orders(np.ones(60))
    found = position_bias(first, prompts)
    assert (found.value, found.low, found.high, found.p) == (0.5, 0.5, 0.5, 1.0)
    assert not found.biased
    assert found.always is None


def test_a_leaning_judge() -> None:
    rng = np.random.default_rng(0)
    better = (rng.random(200) < 0.5).astype(float)
    first, prompts = both_orders(better)
    swayed = rng.random(400) < 0.25
    found = position_bias(np.where(swayed, 1.0, first), prompts)
    assert found.biased
    assert found.value == pytest.approx(0.625, abs=0.04)
    assert found.low > 0.5
