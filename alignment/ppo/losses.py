"""The arithmetic of PPO on language models, as pure functions.

B completions, T the longest of them in tokens, N tokens in any shape. Sources: Schulman et al. 2016
(arXiv 1506.02438) and 2017 (1707.06347), Ziegler et al. 2019 (1909.08593), Huang et al. 2024 (2403.17031),
Zheng et al. 2023 (2307.04964).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0  # exp(20) is finite in every dtype that losses are computed in


def completion_mask(lengths: Tensor, width: int) -> Tensor:
    """lengths (B,) of completions in tokens -> (B, width) bool, True on real tokens, EOS included."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def clipped_scores(scores: Tensor, scale: float, clip: float | None) -> Tensor:
    """clip(score / scale, ±clip)  (2403.17031 §3, 2307.04964 §4.3). (B,) float -> (B,)."""
    scaled = scores / scale
    return scaled if clip is None else scaled.clamp(-clip, clip)


def kl_terms(logps: Tensor, ref_logps: Tensor, estimator: str = "k1") -> Tensor:
    """Estimates of KL(π ‖ π_ref) from samples of π, one a token, in nats (Schulman 2020, joschu.net/blog).

    k1: log π − log π_ref, whose mean is the KL, each of either sign. k3: π_ref/π − 1 − log(π_ref/π), with the
    same mean, never negative, less spread where the two are close.
    """
    log_ratio = logps - ref_logps
    if estimator == "k1":
        return log_ratio
    return torch.expm1((-log_ratio).clamp(max=LOG_RATIO_LIMIT)) + log_ratio


def shaped_rewards(kl: Tensor, scores: Tensor, lengths: Tensor, kl_coef: float) -> Tensor:
    """r_t = −β·k_t + 1[t = T]·s, with T the last real token  (1909.08593 eq. 2).

    kl (B, T) from `kl_terms`, scores (B,), lengths (B,) ≥ 1 -> (B, T), 0 past the last token.
    """
    rewards = -kl_coef * kl * completion_mask(lengths, kl.shape[1])
    rows = torch.arange(len(scores), device=scores.device)
    rewards[rows, lengths - 1] += scores
    return rewards


def gae(rewards: Tensor, values: Tensor, lengths: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns  (1506.02438 eq. 16).

    δ_t = r_t + γ·V_{t+1} − V_t;  Â_t = δ_t + γλ·Â_{t+1};  R_t = Â_t + V_t;  V and Â are 0 past the last.
    rewards, values (B, T), lengths (B,) -> two (B, T), 0 past the last token.
    """
    mask = completion_mask(lengths, rewards.shape[1])
    values = values * mask
    rewards = rewards * mask
    advantages = torch.zeros_like(rewards)
    next_advantage = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(next_advantage)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = (delta + gamma * lam * next_advantage) * mask[:, t]
        next_value = values[:, t]
        advantages[:, t] = next_advantage
    return advantages, advantages + values


def moments(x: Tensor) -> Tensor:
    """(N,) -> [n, Σx, Σx²] in float64: what ranks add up to know mean and variance over all of them."""
    x = x.double()
    return torch.stack([torch.full_like(x.sum(), x.numel()), x.sum(), (x * x).sum()])


def mean_variance(totals: Tensor) -> tuple[float, float]:
    """[n, Σx, Σx²] -> mean and population variance."""
    n, total, squares = totals.tolist()
    mean = total / max(n, 1)
    return mean, max(squares / max(n, 1) - mean * mean, 0.0)


def whiten(x: Tensor, totals: Tensor) -> Tensor:
    """(x − mean) / √(variance + 1e-8), mean and variance from the `moments` of all ranks."""
    mean, variance = mean_variance(totals)
    return (x - mean) / math.sqrt(variance + 1e-8)


class PolicyLoss(NamedTuple):
    """Sums over tokens, each a 0-d tensor."""

    loss: Tensor
    ratio: Tensor
    clipped: Tensor
    approx_kl: Tensor


def policy_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    low: float,
    high: float,
    dual_clip: float | None = None,
) -> PolicyLoss:
    """Σ max(−Â·ρ, −Â·clip(ρ, 1−low, 1+high)), ρ = π/π_old  (1707.06347 eq. 7), log ρ clamped to ±20.

    The first three (N,). With `dual_clip` c > 1 the loss of a token with Â < 0 is at most −c·Â: a ratio gone
    wild then has no gradient (Ye et al. 2020, 1912.09729 eq. 4). Sums, for the mean is taken over the tokens
    of the whole optimiser batch, whatever the micro-batches; `clipped` counts those of either clip. approx_kl
    is ½·(log ρ)², an estimate of KL(π_old ‖ π)  (2403.17031).
    """
    log_ratio = (logps - old_logps).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - low, 1 + high)
    loss = torch.maximum(plain, clipped)
    cut = clipped > plain
    if dual_clip is not None:
        ceiling = torch.where(advantages < 0, -dual_clip * advantages, torch.inf)
        cut = cut | (loss > ceiling)
        loss = torch.minimum(loss, ceiling)
    return PolicyLoss(
        loss.sum(),
        ratio.detach().sum(),
        cut.sum(),
        0.5 * log_ratio.detach().square().sum(),
    )


class ValueLoss(NamedTuple):
    """Sums over tokens, each a 0-d tensor."""

    loss: Tensor
    clipped: Tensor


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> ValueLoss:
    """½·Σ max((V−R)², (V_old + clip(V−V_old, ±clip) − R)²)  (2403.17031 §3). All three (N,)."""
    near = old_values + (values - old_values).clamp(-clip, clip)
    plain = (values - returns).square()
    clipped = (near - returns).square()
    return ValueLoss(0.5 * torch.maximum(plain, clipped).sum(), (clipped > plain).sum())


def next_kl_coef(kl_coef: float, kl: float, target: float, episodes: float, horizon: int) -> float:
    """β·(1 + clip(KL/target − 1, ±0.2)·episodes/horizon)  (1909.08593 §2.2); kl: mean of sequences, nats."""
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * episodes / horizon)


@dataclass
class RunningScale:
    """Standard deviation of all scores so far, merged batch by batch  (Chan, Golub and LeVeque 1979)."""

    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0  # Σ(x − mean)²

    def update(self, totals: Tensor) -> None:
        """Take in a batch by its `moments` over all ranks."""
        n = float(totals[0])
        mean, variance = mean_variance(totals)
        shift, together = mean - self.mean, self.count + n
        self.squares += variance * n + shift * shift * self.count * n / together
        self.mean += shift * n / together
        self.count = together

    @property
    def scale(self) -> float:
        """σ; 1 while all scores are the same."""
        deviation = math.sqrt(self.squares / self.count) if self.count else 0.0
        return deviation if deviation > 1e-8 else 1.0
