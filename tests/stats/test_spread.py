"""Disagreement of an ensemble: hand-computed."""

from __future__ import annotations

import math

import pytest

from alignment.stats.spread import disagreement


def test_levels_do_not_count_and_orders_do() -> None:
    assert disagreement([[1.0, 5.0], [2.0, 6.0]]) == 0.0  # the same difference, another level
    # Members less their means: (-0.5, 0.5) and (0.5, -0.5); each output's deviation is sqrt(1/2).
    assert disagreement([[1.0, 6.0], [2.0, 5.0]]) == pytest.approx(math.sqrt(0.5))


def test_members_that_lack_a_reward_are_left_out() -> None:
    assert disagreement([[1.0, 6.0, None], [2.0, 5.0, 3.0]]) == pytest.approx(math.sqrt(0.5))
    assert disagreement([[1.0, None], [2.0, 3.0]]) is None
    assert disagreement([[1.0], [2.0]]) is None
    assert disagreement([[1.0, 2.0]]) is None
    assert disagreement([[], []]) is None
    assert disagreement([[1.0, 2.0], [1.0]]) is None
