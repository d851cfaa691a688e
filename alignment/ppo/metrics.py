"""What PPO reports: sums that ranks add up, the metrics made of them under the field's names, and samples.

Names with a slash are those of TRL's former PPOTrainer, so that old plots go on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from alignment.backend.online_trainer import append_samples
from alignment.data.completions import repeated_share
from alignment.ppo.losses import completion_mask, mean_variance, moments


def rollout_sums(
    rollout: Mapping[str, Tensor], texts: Sequence[str], parts: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Sums over this rank's episodes and tokens, 0-d float64 each, in a fixed order."""
    mask = completion_mask(rollout["lengths"], rollout["old_logps"].shape[1])
    returns, values = rollout["returns"][mask], rollout["old_values"][mask]
    _, score, score_squares = moments(rollout["scores"])
    tokens, total_return, return_squares = moments(returns)
    _, error, error_squares = moments(returns - values)
    sums = {
        "episodes": torch.tensor(len(mask)),
        "tokens": tokens,
        "score": score,
        "score_squares": score_squares,
        "reward": rollout["rewards"].sum(),
        "kl": (rollout["old_logps"] - rollout["ref_logps"]).sum(),
        "surprise": -rollout["old_logps"].sum(),
        "entropy": rollout["entropy"].sum(),
        "finished": rollout["finished"].sum(),
        "repetition": torch.tensor(sum(repeated_share(text) for text in texts)),
        "value": values.sum(),
        "return": total_return,
        "return_squares": return_squares,
        "error": error,
        "error_squares": error_squares,
        **{name: values.sum() for name, values in parts.items()},
    }
    return {name: value.double() for name, value in sums.items()}


def rollout_metrics(sums: Mapping[str, float], kl_coef: float, scale: float) -> dict[str, float]:
    """From the sums of all ranks. Rewards and KL are means over episodes; KL and entropies are in nats."""
    n, tokens = sums["episodes"], sums["tokens"]

    def variance(count: float, name: str) -> float:
        return mean_variance(torch.tensor([count, sums[name], sums[f"{name}_squares"]]).double())[1]

    return_variance = variance(tokens, "return")
    explained = 1 - variance(tokens, "error") / return_variance if return_variance > 0 else 0.0
    reward, score, kl = sums["reward"] / n, sums["score"] / n, sums["kl"] / n
    return {
        "reward": reward,
        "score": score,
        "score_std": variance(n, "score") ** 0.5,
        "kl": kl,
        "kl_per_token": sums["kl"] / tokens,
        "kl_coef": kl_coef,
        "entropy": sums["entropy"] / tokens,
        "eos_rate": sums["finished"] / n,
        "repetition": sums["repetition"] / n,
        "reward_scale": scale,
        "value/mean": sums["value"] / tokens,
        "value/explained_variance": explained,
        "objective/kl": kl,
        "objective/entropy": sums["surprise"] / n,
        "objective/non_score_reward": -kl_coef * kl,
        "objective/rlhf_reward": reward,
        "objective/scores": score,
        "val/num_eos_tokens": sums["finished"],
    }


def update_metrics(sums: Sequence[float], tokens: float, actor: bool) -> dict[str, float]:
    """From an optimiser batch's sums, ordered as PolicyLoss and ValueLoss; without `actor` critic only."""
    loss, ratio, clipped, approx_kl, value_loss, value_clipped = (value / tokens for value in sums)
    found = {"loss/value_avg": value_loss, "val/clipfrac_avg": value_clipped}
    if actor:
        found |= {
            "loss/policy_avg": loss,
            "val/ratio": ratio,
            "policy/clipfrac_avg": clipped,
            "policy/approxkl_avg": approx_kl,
        }
    return found


class Clock:
    """Seconds by phase. `with clock("score"):` counts what is inside, less what inner phases take."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("rollout", "score", "measure", "update"), 0.0)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        started, before = time.perf_counter(), sum(self.seconds.values())
        yield
        inner = sum(self.seconds.values()) - before
        self.seconds[phase] += time.perf_counter() - started - inner

    def metrics(self, tokens: float) -> dict[str, float]:
        """The seconds, and `tokens` completion tokens of all ranks a second; starts anew."""
        found = {f"time/{phase}": seconds for phase, seconds in self.seconds.items()}
        found["tokens_per_second"] = tokens / sum(self.seconds.values())
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        return found


def write_samples(
    path: Path, step: int, count: int, prompts: list[Any], texts: list[str], rollout: Mapping[str, Tensor]
) -> None:
    """Append the first `count` completions of a rollout, one JSON object a line."""
    kl = (rollout["old_logps"] - rollout["ref_logps"]).sum(1)
    reward = rollout["rewards"].sum(1)
    samples = [
        {
            "step": step,
            "prompt": prompts[row],
            "completion": texts[row],
            "score": float(rollout["scores"][row]),
            "reward": float(reward[row]),
            "kl": float(kl[row]),
            "tokens": int(rollout["lengths"][row]),
            "finished": bool(rollout["finished"][row]),
        }
        for row in range(min(count, len(texts)))
    ]
    append_samples(path, samples)


def fill_table(logs: Any, prompts: list[Any], texts: list[str], rollout: Mapping[str, Tensor]) -> None:
    """Fill TRL's table of completions, which it prints and sends to trackers, with those of all ranks."""
    advantages = (rollout["advantages"].sum(1) / rollout["lengths"]).tolist()
    rows = zip(prompts, texts, rollout["scores"].tolist(), advantages, strict=True)
    for prompt, text, score, advantage in gather_object(list(rows)):
        logs["prompt"].append(prompt)
        logs["completion"].append(text)
        logs["rewards"]["score"].append(score)
        logs["advantages"].append(advantage)
