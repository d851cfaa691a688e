"""Reward against KL: what optimisation bought, its fitted curve, and where it went too far.

With d = √KL from the policy before optimisation, the gold reward gained follows (Gao, Schulman & Hilton
2022, arXiv 2210.10760, section 3)

    best-of-n   R(d) = d (alpha - beta d),       largest at d = alpha / (2 beta)
    RL          R(d) = d (alpha - beta log d),   largest at d = exp(alpha / beta - 1)

where beta is what over-optimisation costs. Both are linear in alpha and beta, so a fit is a 2 × 2 system.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from alignment.stats.intervals import Interval, resampled_sums

Floats = NDArray[np.float64]
Form = Literal["bon", "rl"]


class Band(NamedTuple):
    """A curve and its pointwise interval: (points,) each."""

    value: Floats
    low: Floats
    high: Floats


class RewardCurve(NamedTuple):
    """The fit of one form to checkpoints.

    peak: the √KL at which the curve is highest, None where it rises without end (beta <= 0). at: (points,)
    √KL; curve: the reward gained there, with its band. r_squared: share of the checkpoints' variance fitted.
    """

    form: Form
    alpha: Interval
    beta: Interval
    peak: float | None
    at: Floats
    curve: Band
    r_squared: float


class OverOptimised(NamedTuple):
    """A later checkpoint against an earlier one: changes of proxy and gold, paired, and the flag.

    flagged: the proxy rises and the gold's interval lies below zero. The gold's interval covers all pairs of
    checkpoints together, since the pairs are all looked at.
    """

    earlier: int
    later: int
    proxy: Interval
    gold: Interval
    flagged: bool


def gao_curve(d: ArrayLike, alpha: ArrayLike, beta: ArrayLike, form: Form) -> Floats:
    """R(d) for √KL `d` (...,), alpha and beta that broadcast against it; R(0) = 0."""
    root = np.asarray(d, dtype=np.float64)
    bend = root if form == "bon" else np.log(np.where(root > 0, root, 1.0))
    return root * (np.asarray(alpha) - np.asarray(beta) * bend)


def fit_gao(d: ArrayLike, reward: ArrayLike, form: Form) -> Floats:
    """Least-squares (alpha, beta): d, reward (..., checkpoints) to (..., 2), each leading index a fit.

    reward: gained over the policy at KL 0. Raises ValueError for fewer than two different √KL above zero.
    """
    root = np.asarray(d, dtype=np.float64)
    r = np.broadcast_to(np.asarray(reward, dtype=np.float64), root.shape)
    if len(np.unique(root[root > 0])) < 2:
        raise ValueError("the curve needs checkpoints at two different KLs above zero, or more")
    x = np.stack([root, gao_curve(root, 0.0, 1.0, form)], axis=-1)  # R = x · (alpha, beta)
    # pinv rather than solve: a resample may make two checkpoints one.
    return (np.linalg.pinv(x) @ r[..., None])[..., 0]


def reward_curve(
    kl: ArrayLike,
    gold: ArrayLike,
    form: Form = "rl",
    *,
    points: int = 100,
    resamples: int = 2_000,
    level: float = 0.95,
    seed: int = 0,
) -> RewardCurve:
    """Gao's curve through checkpoints, with bands over prompts.

    kl: (checkpoints, prompts) KL from the first policy, in nats, averaged over a prompt's samples; gold: the
    same shape, reward *gained* over the first policy on the same prompt (0 for that policy itself). A
    checkpoint's KL is the mean over prompts, no less than 0. Raises ValueError as `fit_gao` and for shapes.
    """
    distances, gains = _matrix(kl, "KL"), _matrix(gold, "reward")
    if distances.shape != gains.shape:
        raise ValueError(f"KL of shape {distances.shape} but rewards of shape {gains.shape}")
    count, prompts = gains.shape
    d, r = np.sqrt(np.maximum(distances.mean(1), 0.0)), gains.mean(1)
    found = fit_gao(d, r, form)
    drawn = (
        resampled_sums(np.concatenate([distances, gains]).T, resamples, np.random.default_rng(seed)) / prompts
    )
    fits = fit_gao(np.sqrt(np.maximum(drawn[:, :count], 0.0)), drawn[:, count:], form)
    at = np.linspace(0.0, float(d.max()), points)
    tail = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    low, high = np.quantile(gao_curve(at, fits[:, :1], fits[:, 1:], form), tail, axis=0)
    lows, highs = np.quantile(fits, tail, axis=0)
    alpha, beta = (Interval(float(found[j]), float(lows[j]), float(highs[j]), count) for j in (0, 1))
    peak = None
    if found[1] > 0:
        peak = float(found[0] / (2 * found[1]) if form == "bon" else np.exp(found[0] / found[1] - 1.0))
    spread = float(((r - r.mean()) ** 2).sum())
    rest = float(((r - gao_curve(d, found[0], found[1], form)) ** 2).sum())
    fitted = 1.0 - rest / spread if spread > 0 else float("nan")
    band = Band(gao_curve(at, found[0], found[1], form), low, high)
    return RewardCurve(form, alpha, beta, peak, at, band, fitted)


def over_optimised(
    proxy: ArrayLike, gold: ArrayLike, *, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> list[OverOptimised]:
    """Every pair of checkpoints, earlier and later, in which both rewards are compared on the same prompts.

    proxy, gold: (checkpoints, prompts) mean reward of each prompt's samples, checkpoints in training order.
    The gold's intervals are simultaneous (bootstrap of the largest studentised deviation over all pairs), so
    with two checkpoints it is an ordinary interval and with ten the flag still errs in 5% of evaluations at
    most. Raises ValueError for shapes that differ, or values that are not finite.
    Source: flag of Gao et al. 2022; simultaneous intervals: Davison & Hinkley 1997, section 4.2.4.
    """
    trained, true = _matrix(proxy, "proxy"), _matrix(gold, "gold")
    if trained.shape != true.shape:
        raise ValueError(f"proxy rewards of shape {trained.shape} but gold ones of shape {true.shape}")
    count, prompts = true.shape
    earlier, later = np.triu_indices(count, k=1)
    if not len(earlier):
        return []
    drawn = (
        resampled_sums(np.concatenate([trained, true]).T, resamples, np.random.default_rng(seed)) / prompts
    )
    changes = []
    for means, values in ((drawn[:, :count], trained.mean(1)), (drawn[:, count:], true.mean(1))):
        changes.append((values[later] - values[earlier], means[:, later] - means[:, earlier]))
    (proxy_change, proxy_drawn), (gold_change, gold_drawn) = changes
    tail = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    proxy_low, proxy_high = np.quantile(proxy_drawn, tail, axis=0)
    error = gold_drawn.std(0)
    deviation = np.abs(gold_drawn - gold_change) / np.where(error > 0, error, 1.0)
    reach = np.quantile(deviation.max(1), level) * error
    return [
        OverOptimised(
            int(i),
            int(j),
            Interval(float(proxy_change[k]), float(proxy_low[k]), float(proxy_high[k]), prompts),
            Interval(
                float(gold_change[k]),
                float(gold_change[k] - reach[k]),
                float(gold_change[k] + reach[k]),
                prompts,
            ),
            bool(proxy_change[k] > 0 and gold_change[k] + reach[k] < 0),
        )
        for k, (i, j) in enumerate(zip(earlier, later, strict=True))
    ]


def best_of_n(proxy: ArrayLike, reward: ArrayLike, n: ArrayLike) -> Floats:
    """The expected `reward` of the sample that `proxy` likes best of n: (len(n), prompts).

    proxy, reward: (prompts, samples), give the proxy twice for its own curve; n: numbers from 1 to samples.
    Unbiased, for it is the mean over all choices of n of the samples: sorted by proxy, the i-th is best in
    C(i - 1, n - 1) of C(N, n) of them. Samples that the proxy likes the same share their rewards' mean.
    Raises ValueError for shapes that differ, values that are not finite, or n out of range.
    Source: Nakano et al. 2021, arXiv 2112.09332, appendix I; Gao et al. 2022.
    """
    liked, got = _matrix(proxy, "proxy"), _matrix(reward, "reward")
    sizes = np.atleast_1d(np.asarray(n, dtype=np.int64))
    samples = liked.shape[1]
    if liked.shape != got.shape:
        raise ValueError(f"proxy of shape {liked.shape} but reward of shape {got.shape}")
    if sizes.min() < 1 or sizes.max() > samples:
        raise ValueError(f"n goes from 1 to the {samples} samples of a prompt")
    order = np.argsort(liked, axis=1, kind="stable")
    ranked, sorted_liked = np.take_along_axis(got, order, 1), np.take_along_axis(liked, order, 1)
    tied = np.concatenate([np.zeros((len(liked), 1), dtype=bool), np.diff(sorted_liked, axis=1) == 0], axis=1)
    run = np.cumsum(~tied, axis=1) - 1 + samples * np.arange(len(liked))[:, None]  # one number a run of ties
    sums, counts = np.bincount(run.ravel(), ranked.ravel()), np.bincount(run.ravel())
    ranked = (sums / np.maximum(counts, 1))[run]
    i = np.arange(1, samples + 1, dtype=np.float64)
    k = sizes[:, None].astype(np.float64)
    possible = i >= k
    below = np.where(possible, i - k, 0.0)
    log_weight = gammaln(i) - gammaln(k) - gammaln(below + 1.0)  # log C(i - 1, n - 1)
    log_weight -= gammaln(samples + 1.0) - gammaln(k + 1.0) - gammaln(samples - k + 1.0)
    weights = np.where(possible, np.exp(log_weight), 0.0)
    return weights @ ranked.T


def best_of_n_kl(n: ArrayLike) -> Floats:
    """The most that best-of-n can be away from its policy: log n - (n - 1)/n, in nats.

    Exact for a policy whose samples all differ in proxy reward (Stiennon et al. 2020, arXiv 2009.01325,
    appendix G.3), an upper bound otherwise (Beirami et al. 2024, arXiv 2401.01879).
    """
    sizes = np.asarray(n, dtype=np.float64)
    return np.log(sizes) - (sizes - 1.0) / sizes


def _matrix(values: ArrayLike, what: str) -> Floats:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise ValueError(f"{what}: need finite numbers by rows and columns, not shape {table.shape}")
    return table
