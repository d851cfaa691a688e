"""How far two collections of texts are apart in what they speak of, and whether that is more than chance.

A text is the set of its features (words, runs of words) as numbers; a feature counts once a text, so that one
long or looping text weighs no more than it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy

_AT_ONCE = 1 << 20  # numbers in a block of permuted counts


class Divergence(NamedTuple):
    """value: Jensen-Shannon divergence in bits, from 0 (the same) to 1 (nothing in common).

    expected: its mean where texts are dealt out to the two sides by lot; p: how often lots give as much.
    """

    value: float
    expected: float
    p: float


def jensen_shannon(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """The Jensen-Shannon divergence in bits of counts (…, k) from counts (…, k), each taken as shares.

    ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q) / 2. Where one side counts nothing it is NaN.
    Source: Lin 1991, IEEE Transactions on Information Theory 37:145.
    """
    counts = [np.asarray(side, dtype=np.float64) for side in (first, second)]
    with np.errstate(invalid="ignore"):
        p, q = (side / side.sum(-1, keepdims=True) for side in counts)
    middle = (p + q) / 2
    entropies = [-xlogy(share, share).sum(-1) for share in (p, q, middle)]
    return np.maximum((entropies[2] - (entropies[0] + entropies[1]) / 2) / np.log(2), 0.0)


def divergence_test(
    first: Sequence[Sequence[int]],
    second: Sequence[Sequence[int]],
    *,
    least: int = 5,
    permutations: int = 1_000,
    seed: int = 0,
) -> Divergence:
    """The divergence of two collections of texts, and a permutation test that deals whole texts out by lot.

    first, second: for each text the numbers of its features, each once; those in fewer than `least` of all
    texts tell nothing but who wrote them and are left out. p is (1 + how many of the permutations are as far
    apart or further) / (1 + permutations), so it is never 0. Two samples of one population are some way apart
    too, the more so the smaller they are: `expected` says how far. Costs permutations times the features of
    the smaller side. Raises ValueError where a side has no feature left.
    Source: Phipson & Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39.
    """
    from scipy.sparse import csr_array

    texts = [*first, *second]
    flat = np.concatenate([np.asarray(text, dtype=np.int64) for text in texts])
    kinds, features, counts = np.unique(flat, return_inverse=True, return_counts=True)
    ends = np.concatenate([[0], np.cumsum([len(text) for text in texts])])
    rows = csr_array((np.ones(len(flat)), features, ends), shape=(len(texts), len(kinds)))
    rows = rows[:, np.flatnonzero(counts >= least)]
    total = np.asarray(rows.sum(axis=0))
    here = np.asarray(rows[: len(first)].sum(axis=0))
    if not here.sum() or here.sum() == total.sum():
        raise ValueError(f"a side has no feature that {least} texts have")
    value = float(jensen_shannon(here, total - here))

    rng = np.random.default_rng(seed)
    few = min(len(first), len(second))
    found = np.empty(permutations)
    step = max(1, _AT_ONCE // len(total))
    for start in range(0, permutations, step):
        many = min(step, permutations - start)
        drawn = np.concatenate([rng.choice(len(texts), few, replace=False) for _ in range(many)])
        lots = csr_array((np.ones(len(drawn)), drawn, np.arange(many + 1) * few), shape=(many, len(texts)))
        side = (lots @ rows).toarray()
        found[start : start + many] = jensen_shannon(side, total - side)
    p = (1 + int((found >= value - 1e-12).sum())) / (1 + permutations)
    return Divergence(value, float(np.nanmean(found)), p)
