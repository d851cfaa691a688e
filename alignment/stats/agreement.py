"""How often two judges say the same of the same comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignment.stats.intervals import bootstrap_interval


class Agreement(NamedTuple):
    """The share of comparisons with the same verdict, its interval, the count, and Cohen's kappa."""

    value: float
    low: float
    high: float
    n: int
    kappa: float


def outcomes_from_ranks(ranks: Sequence[float]) -> NDArray[np.float64]:
    """Every pair i < j of a ranking as an outcome for i: 1 better, 0.5 tied, 0 worse. (K,) to (K·(K-1)/2,).

    Rank 1 is best; equal ranks are ties. The order of pairs is (0,1), (0,2), …, (1,2), …
    """
    r = np.asarray(ranks, dtype=np.float64)
    first, second = np.triu_indices(len(r), k=1)
    return 0.5 + 0.5 * np.sign(r[second] - r[first])


def pairwise_agreement(
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    *,
    ties: bool = True,
    seed: int = 0,
) -> Agreement:
    """The share of comparisons on which two judges give the same outcome, with a bootstrap interval.

    first, second: (n,) outcomes 1/0.5/0 of the same comparisons in the same order; groups: (n,) the prompt
    of each. With `ties` a tie agrees only with a tie; without, comparisons that either judge called a tie
    are left out. Cohen's kappa (1960) corrects for agreement by chance; it is 1 where both judges always
    give one and the same outcome. Raises ValueError if the lengths differ or nothing is left to compare.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"the judges gave {a.shape} and {b.shape} outcomes")
    names = None if groups is None else np.asarray(groups)
    if not ties:
        kept = (a != 0.5) & (b != 0.5)
        a, b, names = a[kept], b[kept], None if names is None else names[kept]
    interval = bootstrap_interval((a == b).astype(np.float64), names, seed=seed)
    chance = sum(float((a == v).mean() * (b == v).mean()) for v in (0.0, 0.5, 1.0))
    kappa = 1.0 if chance == 1.0 else (interval.value - chance) / (1.0 - chance)
    return Agreement(*interval, kappa)
