"""The reward on prompts that PPO does not train on: what the best checkpoint is chosen by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from alignment.data.completions import repeated_share
from alignment.ppo.losses import moments
from alignment.ppo.rollout import measure

if TYPE_CHECKING:
    from alignment.ppo.trainer import PPOTrainer


def held_out_metrics(trainer: PPOTrainer, prompts: list[Any]) -> dict[str, float]:
    """{"score", "score_std", "kl", "mean_length", "eos_rate", "repetition"} of one sample for each prompt.

    The score is the scorer's number as given: neither scaled, clipped nor reduced. Samples are drawn with the
    run's seed at every evaluation, and the random state that training goes on with is as it was. Ranks share
    the prompts out; KL is the mean of sequences, in nats.
    """
    accelerator, args = trainer.accelerator, trainer.args
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    rank, ranks = accelerator.process_index, accelerator.num_processes
    mine = prompts[rank::ranks]
    real = len(mine)
    mine += prompts[: -(-len(prompts) // ranks) - real]  # sharded weights: every rank generates as often
    trainer.model.eval()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(args.seed + rank)
        rollout, texts = trainer._roll_out(mine)
    scores, _ = trainer._score(mine, texts, rollout["finished"].tolist())
    size = args.per_device_eval_batch_size
    rollout |= measure(rollout, size, trainer._measure)
    trainer.model.train()
    columns = {
        "score": scores.double(),
        "kl": (rollout["old_logps"] - rollout["ref_logps"]).sum(1).double(),
        "mean_length": rollout["lengths"].double(),
        "eos_rate": rollout["finished"].double(),
        "repetition": torch.tensor([repeated_share(text) for text in texts]).double(),
    }
    totals = trainer._sum(torch.stack([moments(column[:real]) for column in columns.values()]))
    n = totals[:, 0]
    means = dict(zip(columns, (totals[:, 1] / n).tolist(), strict=True))
    variance = float(totals[0, 2] / n[0]) - means["score"] ** 2
    return {**means, "score_std": max(variance, 0.0) ** 0.5}
