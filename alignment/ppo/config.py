"""Options of PPO: TRL's RLOOConfig, whose names are kept, with what an actor-critic needs besides."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from trl.trainer.rloo_config import RLOOConfig

from alignment.backend.launch import sharded
from alignment.backend.online_args import RolloutOptions
from alignment.errors import UserError
from alignment.ppo.limits import refusal


@dataclass
class PPOConfig(RolloutOptions, RLOOConfig):
    """RLOOConfig with the options of PPO.

    Inherited and used as TRL documents them: `learning_rate` (the actor's), `beta` (KL coefficient),
    `epsilon` and `epsilon_high` (ratio clip), `num_iterations` (epochs over a rollout),
    `steps_per_generation`, `generation_batch_size`, `num_generations` (completions a prompt, 1 is enough),
    `max_completion_length`, `normalize_advantages` (whitening over all valid tokens of all ranks),
    `disable_dropout`, `sync_ref_model` with `ref_model_mixup_alpha` and `ref_model_sync_steps` (a reference
    that follows the policy; α = 1 resets it), `torch_compile` (of what is in a layer, once for all layers).
    Raises UserError for options that warp sampling or that PPO would ignore.
    """

    num_generations: int | None = 1
    num_iterations: int = 2
    adam_epsilon: float = 1e-5
    disable_dropout: bool = True
    normalize_advantages: bool = True
    gradient_checkpointing: bool | None = None  # type: ignore[assignment]  # the old name; TRL's is true
    logging_steps: float = 1

    total_episodes: int | None = None
    """Stop after so many completions, rounded down to whole rollouts; sets max_steps."""
    critic_learning_rate: float | None = None
    """Of the critic; null is nine times learning_rate."""
    critic_warmup_steps: int = 10
    """First optimiser steps that train the critic alone."""
    critic_bias: Literal["zero", "mean"] = "zero"
    """Where the critic's new head starts: at 0, or at the mean reward of the first rollout."""
    gamma: float = 1.0
    """Discount of rewards, a token."""
    lam: float = 0.95
    """λ of generalised advantage estimation."""
    cliprange_value: float = 0.2
    """How far a value may move from its old one before its loss is clipped."""
    vf_coef: float = 0.1
    """Weight of the value loss."""
    entropy_coef: float = 0.0
    """Weight of the entropy bonus."""
    dual_clip: float | None = None
    """At most so many times |Â| is lost on a token whose advantage is negative (above 1, often 3)."""
    kl_estimator: Literal["k1", "k3"] = "k1"
    """Of the KL in the rewards: k1 is unbiased in its gradient, k3 never negative."""
    target_kl: float | None = None
    """The actor rests for what is left of a rollout once an update has moved it so far, nats a token."""
    max_kl: float | None = None
    """Stop training when the KL from the reference, of a sequence in nats, is above this."""
    kl_target: float | None = None
    """Adapt the KL coefficient to keep the KL of a sequence near this; null keeps beta fixed."""
    kl_horizon: int = 10_000
    """Episodes over which the coefficient may change by a factor of about e^0.2."""
    missing_eos_penalty: float = 1.0
    """Taken off the score of a completion that does not end."""
    min_completion_length: int = 0
    """Completions of fewer tokens, EOS included, lose `short_penalty`."""
    short_penalty: float = 1.0
    """Taken off the score of a completion below min_completion_length."""
    reward_clip: float | None = 10.0
    """Scores are clipped to ± this; null does not clip."""
    scale_rewards: bool = False
    """Divide scores by their running standard deviation."""
    rollout_batch_size: int | None = None
    """Completions that a process samples at once, for the cache to fit; null is all of a rollout."""
    local_rollout_forward_batch_size: int | None = None
    """Rows in a forward pass without gradients; null is of 32,768 tokens, on a CPU a micro-batch."""

    def __post_init__(self) -> None:
        complaint = refusal({field.name: getattr(self, field.name) for field in fields(self)})
        if complaint:
            raise UserError(complaint)
        # accelerate would compile the whole model anew for each length: only its layers are (packed.py).
        self.compile_layers, self.torch_compile = bool(self.torch_compile), False
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model, self.greater_is_better = "eval_score", True
        try:
            super().__post_init__()
        except ValueError as error:
            # RLOO's last check: its advantages need two completions a prompt, PPO's do not.
            if "at least 2 generations" not in str(error):
                raise
        rollout: int = self.generation_batch_size  # type: ignore[assignment]  # set by now, as the next is
        steps: int = self.steps_per_generation  # type: ignore[assignment]
        if steps % self.gradient_accumulation_steps:
            raise UserError(
                f"steps_per_generation ({steps}) must be a multiple of "
                f"gradient_accumulation_steps ({self.gradient_accumulation_steps}): an optimiser step must "
                "not mix two rollouts"
            )
        if self.dual_clip is not None and self.dual_clip <= 1:
            raise UserError(
                f"dual_clip {self.dual_clip} must be above 1: a token's loss is at most dual_clip·|Â|"
            )
        if self.sync_ref_model and (self.beta == 0 or self.sharded):
            why = "there is no reference with beta 0" if self.beta == 0 else "FSDP and DeepSpeed shard it"
            raise UserError(f"sync_ref_model cannot be used here: {why}; leave it out")
        if self.kl_target is not None and self.beta == 0:
            raise UserError("kl_target needs a beta above 0: the adaptive coefficient is multiplied, not set")
        if self.total_episodes is not None:
            if self.total_episodes < rollout:
                raise UserError(
                    f"total_episodes ({self.total_episodes}) is less than one rollout ({rollout}): lower "
                    "steps_per_generation or per_device_train_batch_size"
                )
            self.max_steps = self.total_episodes // rollout * self.updates_per_generation

    @property
    def sharded(self) -> bool:
        """Whether FSDP or DeepSpeed shards the weights: two modules can then not hold one tensor."""
        return sharded(self)

    @property
    def updates_per_generation(self) -> int:
        """Optimiser steps that one rollout gives."""
        steps: int = self.steps_per_generation  # type: ignore[assignment]
        return steps * self.num_iterations // self.gradient_accumulation_steps
