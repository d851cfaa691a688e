"""Krippendorff's alpha against the published example."""

from __future__ import annotations

from collections import Counter

import pytest

from alignment.stats.krippendorff import krippendorff_alpha


def test_the_nominal_example_of_krippendorff_2011() -> None:
    # Four observers, twelve units, missing data; section C gives 0.743.
    observers = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    units = Counter(
        tuple(column.count(value) for value in "12345")
        for column in zip(*map(str.split, observers), strict=True)
    )
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=0.0005)


def test_full_agreement_chance_and_nothing_to_compare() -> None:
    assert krippendorff_alpha({(2, 0): 5, (0, 2): 5}) == 1.0
    assert krippendorff_alpha({(1, 1): 10}) == pytest.approx(1 - 19 / 10)
    assert krippendorff_alpha({(2, 0): 5}) is None
    assert krippendorff_alpha({(1, 0): 5}) is None
    assert krippendorff_alpha({}) is None
