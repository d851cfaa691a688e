"""What a trainer that samples needs besides TRL's: unwarped sampling, and a resume that repeats every bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import GenerationConfig
from trl.trainer.utils import RepeatSampler

from alignment.backend.heads import unwrap
from alignment.errors import UserError


def check_prompts(count: int, args: Any) -> None:
    """UserError when `count` prompts do not fill one rollout of an RLOOConfig, GRPOConfig or PPOConfig."""
    prompts = args.generation_batch_size // args.num_generations
    if count < prompts:
        raise UserError(
            f"{count} prompts do not fill one rollout of {prompts}: give more prompts, or lower "
            "trainer.generation_batch_size (trainer.per_device_train_batch_size, steps_per_generation)"
        )


class PromptSampler(RepeatSampler):
    """RepeatSampler whose order depends on seed and epoch, not on how many epochs this process has seen."""

    def __init__(self, dataset: Dataset, args: Any, step: Callable[[], int]) -> None:
        """args: an RLOOConfig, GRPOConfig or PPOConfig; step: the optimiser steps that are done."""
        prompts = args.generation_batch_size // args.num_generations
        repeats = args.num_iterations * args.steps_per_generation
        super().__init__(
            data_source=dataset,
            mini_repeat_count=args.num_generations,
            batch_size=prompts,
            repeat_count=repeats,
            shuffle=args.shuffle_dataset,
            seed=args.seed,
        )
        self.step = step
        self.accumulation = args.gradient_accumulation_steps
        self.batches_per_epoch = len(dataset) // prompts * repeats

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            epoch = self.step() * self.accumulation // self.batches_per_epoch
            self.generator.manual_seed(self.seed + epoch)
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


class Resumable:
    """Over RLOOTrainer or GRPOTrainer: a resumed run goes on inside a rollout, in an unbroken one's order.

    TRL keeps the completions that a rollout's later updates need in memory alone, and shuffles the prompts of
    an epoch by how many epochs the process has begun.
    """

    accelerator: Any
    model: Any
    state: Any
    args: Any
    train_dataset: Any
    _step: int
    _buffered_inputs: Any

    def _get_train_sampler(self, dataset: Dataset | None = None) -> PromptSampler:
        return PromptSampler(dataset or self.train_dataset, self.args, lambda: self.state.global_step)

    def _generate(self, prompts: list[Any]) -> Any:
        with own_distribution(self.accelerator.unwrap_model(self.model)):
            return super()._generate(prompts)  # type: ignore[misc]

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        torch.save({"step": self._step, "batches": self._buffered_inputs}, self._rollout_file(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is not None:
            device = self.accelerator.device
            kept = torch.load(self._rollout_file(checkpoint), map_location=device, weights_only=True)
            self._step, self._buffered_inputs = kept["step"], kept["batches"]

    def _rollout_file(self, folder: str) -> Path:
        return Path(folder, f"rollout_{self.accelerator.process_index}.pt")


def resumable(name: str) -> Any:
    """TRL's trainer of this name as a class that can be resumed."""
    import trl

    return type(name, (Resumable, getattr(trl, name)), {})
