"""Options of the trainers that sample: TRL's RLOOConfig and GRPOConfig, with what is ours of sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trl.trainer.grpo_config import GRPOConfig as TrlGRPOConfig
from trl.trainer.rloo_config import RLOOConfig as TrlRLOOConfig


@dataclass
class RolloutOptions:
    """Of RLOO, GRPO and PPO alike."""

    rollout_engine: Literal["transformers", "graph"] = "transformers"
    """graph: on a GPU each decode step is one captured CUDA graph; where it cannot be, transformers is used
    and the reason said. (vLLM: TRL's `use_vllm`.)"""
    samples_per_rollout: int = 4
    """Completions of each rollout that go to samples.jsonl."""


@dataclass
class RLOOConfig(RolloutOptions, TrlRLOOConfig):
    """TRL's RLOOConfig with the options of rollouts."""


@dataclass
class GRPOConfig(RolloutOptions, TrlGRPOConfig):
    """TRL's GRPOConfig with the options of rollouts."""
