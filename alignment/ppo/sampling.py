"""Weights of a policy that go to vLLM and stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel

from alignment.ppo.critic import critic_apart


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
