"""Calibration against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.stats.calibration import Bin, calibration


def test_by_hand() -> None:
    # bins of [0.5, 1] in two: {0.6, 0.7} right once, {0.9, 1.0} right twice
    found = calibration([0.6, 0.7, 0.9, 1.0], [1, 0, 1, 1], bins=2)
    assert found.bins == [Bin(pytest.approx(0.65), 0.5, 2), Bin(pytest.approx(0.95), 1.0, 2)]
    assert found.error == pytest.approx(0.5 * 0.15 + 0.5 * 0.05)
    whole = calibration([0.1, 0.2, 0.9], [0, 0.5, 1], bins=2)  # from 0, for not all are over one half
    assert whole.error == pytest.approx(2 / 3 * 0.1 + 1 / 3 * 0.1)


def test_what_is_drawn_from_its_own_probabilities_is_calibrated() -> None:
    dice = np.random.default_rng(0)
    p = dice.uniform(0, 1, 20_000)
    assert calibration(p, dice.random(20_000) < p).error < 0.01
    assert calibration(p, dice.random(20_000) < p**2).error > 0.1


def test_refusals() -> None:
    for stated, seen in (([], []), ([0.5], [1, 0]), ([1.5], [1])):
        with pytest.raises(ValueError, match="as many probabilities"):
            calibration(stated, seen)
