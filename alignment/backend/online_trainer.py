"""What a trainer that samples needs besides TRL's.

Unwarped sampling, the graph engine, samples that are kept, and a resume that repeats every bit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from datasets import Dataset
from transformers import GenerationConfig
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from alignment.backend.chat import say_once
from alignment.backend.generation.graph import GraphEngine, why_not
from alignment.backend.heads import unwrap
from alignment.backend.launch import sharded
from alignment.backend.online import SCORE, completion_text
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


@contextmanager
def same_base(policy: Any) -> Iterator[None]:
    """Within it, TRL may merge adapters in place, as it does to send a policy's weights to vLLM.

    Afterwards the base's weights are what they were, bit for bit: in bf16 merging and unmerging changes them.
    """
    kept = {}
    if hasattr(policy, "peft_config"):
        kept = {name: p.detach().clone() for name, p in policy.named_parameters() if ".base_layer." in name}
    yield
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if name in kept:
                parameter.copy_(kept[name])


def graph_engine(policy: Any, args: Any, compiled: bool) -> GraphEngine | None:
    """The graph engine if `args.rollout_engine` asks for it, or None, and said once, where it cannot be used.

    args: an RLOOConfig, GRPOConfig or PPOConfig. Where float32 weights are trained under autocast the engine
    decodes with a copy in autocast's dtype.
    """
    if args.rollout_engine != "graph":
        return None
    model = unwrap(policy)
    half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    whole = model is policy and model.dtype == torch.float32
    # Probes of a few tokens are not worth compiling for, and must see through layers that are compiled.
    with torch.compiler.set_stance("force_eager"):
        reason = "FSDP and DeepSpeed shard the weights" if sharded(args) else why_not(model, 1.0, 1.0, 0)
        if args.use_vllm:
            reason = "use_vllm is on"
        if reason is None:
            return GraphEngine(model, half if whole else None, compiled)
    say_once(f"trainer.rollout_engine graph is not used: {reason}")
    return None


def graph_completions(trainer: Any, prompt_ids: list[list[int]]) -> list[list[int]]:
    """Completion ids for prompt ids, as TRL's generation gives them, by `trainer.engine`."""
    args, training = trainer.args, trainer.model.training
    wanted = (args.max_completion_length, trainer.eos_token_ids, trainer._tokenizer.pad_token_id)
    trainer.model.eval()  # layers that checkpoint activations keep no cache
    # Weights cast once and remembered would be those of the step that was captured.
    with trainer.accelerator.autocast(AutocastKwargs(cache_enabled=False)):
        found = trainer.engine.decode(prompt_ids, *wanted, args.temperature)
    trainer.model.train(training)
    return [got.token_ids for got in found]


def append_samples(path: Path, samples: list[dict[str, Any]]) -> None:
    """Add completions of a rollout to `path`, one JSON object a line; each has the "step" it was made at."""
    with path.open("a", encoding="utf-8") as out:
        for sample in samples:
            out.write(json.dumps(sample, ensure_ascii=False) + "\n")


def drop_samples_from(path: Path, step: int) -> None:
    """Forget the samples of rollouts that a run resumed at `step` is about to make again."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step]
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)


class Resumable:
    """Over RLOOTrainer or GRPOTrainer: a resumed run goes on inside a rollout, in an unbroken one's order.

    TRL keeps the completions that a rollout's later updates need in memory alone, and shuffles the prompts of
    an epoch by how many epochs the process has begun. Besides: rollouts by the graph engine, and some of
    their completions in the file `samples_path`.
    """

    accelerator: Any
    model: Any
    state: Any
    args: Any
    train_dataset: Any
    eos_token_ids: list[int]
    _step: int
    _buffered_inputs: Any
    _pending_extra_logs: Any

    def __init__(self, *given: Any, samples_path: Path, **named: Any) -> None:
        super().__init__(*given, **named)
        self.samples_path = samples_path
        with self.accelerator.autocast():  # as it will run
            self.engine = graph_engine(self.model, self.args, bool(self.args.torch_compile))

    def _get_train_sampler(self, dataset: Dataset | None = None) -> PromptSampler:
        return PromptSampler(dataset or self.train_dataset, self.args, lambda: self.state.global_step)

    def _generate(self, prompts: list[Any]) -> Any:
        policy = self.accelerator.unwrap_model(self.model)
        with own_distribution(policy), same_base(policy) if self.args.use_vllm else nullcontext():
            return super()._generate(prompts)  # type: ignore[misc]

    def _generate_single_turn(self, prompt_ids: Any, *more: Any) -> Any:
        """Completion ids for prompt ids: TRL's, or the graph engine's."""
        if self.engine is None:
            return super()._generate_single_turn(prompt_ids, *more)  # type: ignore[misc]
        completion_ids = graph_completions(self, prompt_ids)
        # GRPO corrects vLLM's samples by their log-probabilities, and takes none from other engines.
        return (completion_ids, None) if isinstance(self, GRPOTrainer) else completion_ids

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids: Any) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids)  # type: ignore[misc]
        if self.model.training and self.accelerator.is_main_process:
            scores = self._pending_extra_logs[SCORE]
            samples = [
                {
                    "step": self.state.global_step,
                    "prompt": prompts[row],
                    "completion": completion_text(completions[row]),
                    "score": scores[row],
                    "reward": float(rewards[row].sum()),
                    "tokens": len(completion_ids[row]),
                    "finished": completion_ids[row][-1] in self.eos_token_ids,
                }
                for row in range(min(self.args.samples_per_rollout, len(prompts)))
            ]
            append_samples(self.samples_path, samples)
        return rewards

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
        if self.accelerator.is_main_process:
            drop_samples_from(self.samples_path, self.state.global_step)

    def _rollout_file(self, folder: str) -> Path:
        return Path(folder, f"rollout_{self.accelerator.process_index}.pt")


def resumable(name: str) -> Any:
    """TRL's trainer of this name as a class that can be resumed."""
    import trl

    return type(name, (Resumable, getattr(trl, name)), {})
