"""What rollouts need besides TRL's generation: unwarped sampling, an order of prompts that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import GenerationConfig
from trl.trainer.utils import RepeatSampler

from alignment.backend.chat import say_once
from alignment.backend.generation.graph import GraphEngine, why_not
from alignment.errors import UserError
from alignment.ppo.critic import critic_apart, unwrap


def check_prompts(count: int, args: Any) -> None:
    """UserError when `count` prompts do not fill one rollout of a PPOConfig."""
    prompts = args.generation_batch_size // args.num_generations
    if count < prompts:
        raise UserError(
            f"{count} prompts do not fill one rollout of {prompts}: give more prompts, or lower "
            "trainer.generation_batch_size (trainer.per_device_train_batch_size, steps_per_generation)"
        )


def graph_engine(policy: Any, sharded: bool) -> GraphEngine | None:
    """The graph engine for a policy, or None, and said once, where it cannot be used."""
    model = unwrap(policy)
    reason = "FSDP and DeepSpeed shard the weights" if sharded else why_not(model, 1.0, 1.0, 0)
    if reason is None:
        return GraphEngine(model)
    say_once(f"trainer.rollout_engine graph is not used: {reason}")
    return None


class PromptSampler(RepeatSampler):
    """RepeatSampler whose order depends on seed and epoch, not on how many epochs this process has seen."""

    def __init__(self, dataset: Dataset, args: Any, step: Callable[[], int]) -> None:
        """args: a PPOConfig; step: the optimiser steps that are done."""
        prompts = args.generation_batch_size // args.num_generations
        super().__init__(
            data_source=dataset,
            mini_repeat_count=args.num_generations,
            batch_size=prompts,
            repeat_count=args.num_iterations * args.steps_per_generation,
            shuffle=args.shuffle_dataset,
            seed=args.seed,
        )
        self.step = step
        self.steps_per_epoch = len(dataset) // prompts * args.updates_per_generation

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(self.seed + self.step() // self.steps_per_epoch)
        return super().__iter__()


@contextmanager
def own_distribution(policy: Any) -> Iterator[None]:
    """Within it, generation takes nothing from the model's own generation_config.json.

    transformers fills what a call leaves unset from there: min_p, typical_p, no_repeat_ngram_size … would
    warp the rollouts unseen.
    """
    holders = {id(model): model for model in (policy, unwrap(policy))}.values()
    kept = [(model, model.generation_config) for model in holders]
    for model in holders:
        model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        for model, config in kept:
            model.generation_config = config


@contextmanager
def safe_sync(policy: Any) -> Iterator[None]:
    """Within it, TRL may send the policy's weights to vLLM: all parameters, adapters merged in place.

    The critic is out of the way, and afterwards the base's weights are what they were, bit for bit: in bf16
    merging and unmerging changes them, and the critic shares them.
    """
    kept = {}
    if isinstance(policy, PeftModel):
        kept = {name: p.detach().clone() for name, p in policy.named_parameters() if ".base_layer." in name}
    with critic_apart(policy):
        yield
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if name in kept:
                parameter.copy_(kept[name])
