"""What PPO rolls out with besides TRL: the graph engine, and weights that go to vLLM and stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel

from alignment.backend.chat import say_once
from alignment.backend.generation.graph import GraphEngine, why_not
from alignment.ppo.critic import critic_apart, unwrap


def graph_engine(policy: Any, args: Any) -> GraphEngine | None:
    """The graph engine for a policy and a PPOConfig, or None, and said once, where it cannot be used.

    Where float32 weights are trained under autocast it decodes with a copy in autocast's dtype.
    """
    model = unwrap(policy)
    reason = "FSDP and DeepSpeed shard the weights" if args.sharded else why_not(model, 1.0, 1.0, 0)
    if reason is None:
        half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
        whole = not isinstance(policy, PeftModel) and model.dtype == torch.float32
        return GraphEngine(model, half if whole else None, args.compile_layers)
    say_once(f"trainer.rollout_engine graph is not used: {reason}")
    return None


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
