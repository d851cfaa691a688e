"""AlpacaEval's figures: the formulas of its source in pandas, and hand numbers."""

from __future__ import annotations

import numpy as np
import pytest

from alignment.stats import head_to_head


def test_by_hand() -> None:
    figures = head_to_head([2, 2, 1, 1.5, 0, None, float("nan"), 1.8])
    assert figures.win_rate == pytest.approx(100 * (1 + 1 + 0 + 0.5 + 0.5 + 0.8) / 6)
    assert (figures.n_wins, figures.n_wins_base, figures.n_draws) == (3, 1, 2)
    assert (figures.n_total, figures.dropped) == (6, 2)
    assert figures.discrete_win_rate == pytest.approx(100 * 4 / 6)
    with pytest.raises(ValueError, match="preference"):
        head_to_head([None, 3])
    assert np.isnan(head_to_head([2]).standard_error)


def test_against_the_formulas_of_alpaca_eval() -> None:
    """What describe_head2head of its two scoring rules does, in its own words of pandas."""
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    stated = np.where(rng.random(805) < 0.3, rng.choice([1.0, 1.5, 2.0, 0.0], 805), 1 + rng.random(805))
    stated[rng.random(805) < 0.02] = np.nan
    absolute = pd.Series(stated).replace({0: 1.5}).astype(float)
    kept = absolute[(absolute >= 1) & (absolute <= 2)] - 1
    rounded = pd.Series(stated).replace({0: 1.5}).replace({1.5: 0}).round().dropna()
    figures = head_to_head(stated)
    assert figures.win_rate == pytest.approx(kept.mean() * 100, abs=1e-9)
    assert figures.standard_error == pytest.approx(kept.sem() * 100, abs=1e-9)
    assert figures.discrete_win_rate == pytest.approx((rounded.replace({0: 1.5}) - 1).mean() * 100, abs=1e-9)
    assert figures.n_draws == int((absolute == 1.5).sum())
