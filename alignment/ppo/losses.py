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


def clipped_scores(
    scores: Tensor, finished: Tensor, scale: float, clip: float | None, missing_eos_penalty: float
) -> Tensor:
    """s = clip(score / scale, ±clip) − penalty·1[no EOS]  (2403.17031 §3, 2307.04964 §4.3).

    scores (B,) float, finished (B,) bool -> (B,). The penalty is in the unit of the scaled score.
    """
    scaled = scores / scale
    if clip is not None:
        scaled = scaled.clamp(-clip, clip)
    return scaled - missing_eos_penalty * (~finished).to(scaled.dtype)


def shaped_rewards(
    logps: Tensor, ref_logps: Tensor, scores: Tensor, lengths: Tensor, kl_coef: float
) -> Tensor:
    """r_t = −β·(log π_old − log π_ref) + 1[t = T]·s, with T the last real token  (1909.08593 eq. 2).

    logps, ref_logps (B, T), scores (B,), lengths (B,) ≥ 1 -> (B, T), 0 past the last token.
    """
    rewards = -kl_coef * (logps - ref_logps) * completion_mask(lengths, logps.shape[1])
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


def policy_loss(logps: Tensor, old_logps: Tensor, advantages: Tensor, low: float, high: float) -> PolicyLoss:
    """Σ max(−Â·ρ, −Â·clip(ρ, 1−low, 1+high)), ρ = π/π_old  (1707.06347 eq. 7), log ρ clamped to ±20.

    All three (N,). Sums, for the mean is taken over the tokens of the whole optimiser batch, whatever the
    micro-batches. approx_kl is ½·(log ρ)², an estimate of KL(π_old ‖ π)  (2403.17031).
    """
    log_ratio = (logps - old_logps).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - low, 1 + high)
    return PolicyLoss(
        torch.maximum(plain, clipped).sum(),
        ratio.detach().sum(),
        (clipped > plain).sum(),
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
