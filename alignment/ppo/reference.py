"""The reference policy: the policy as given, frozen, or one that follows the policy at a distance.

Trained whole, the policy has a frozen copy. With a new adapter the reference is the model without it; with an
adapter as the model, TRL's copy of that adapter, named "ref". To follow the policy is TRL's `sync_ref_model`:
every `ref_model_sync_steps` optimiser steps π_ref ← α·π + (1 − α)·π_ref, weight by weight, with α =
`ref_model_mixup_alpha`; α = 1 resets it  (Gorbatovski et al. 2024, arXiv 2404.09656).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback
from trl.models import prepare_deepspeed, prepare_fsdp

from alignment.ppo.critic import join, without_dropout

REF = "ref"  # TRL's name for the frozen adapter


def prepared(reference: Any, trainer: Any, packed: bool) -> Any:
    """The frozen copy, ready to be called as the policy of this PPOTrainer is, sharded as it is."""
    join(without_dropout(reference), None, packed)
    if trainer.is_deepspeed_enabled:
        return prepare_deepspeed(reference, trainer.accelerator)
    if trainer.is_fsdp_enabled:
        return prepare_fsdp(reference, trainer.accelerator)
    return trainer.accelerator.prepare_model(reference, evaluation_mode=True)


def add_frozen_adapter(policy: PeftModel) -> None:
    """Give a policy whose adapter is new the frozen copy of it that TRL gives to an adapter handed in."""
    policy.add_adapter(REF, policy.peft_config["default"])
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if f".{REF}." in name:
                parameter.copy_(policy.get_parameter(name.replace(f".{REF}.", ".default.")))
                parameter.requires_grad_(False)


def weights(policy: Any, frozen: nn.Module | None) -> list[tuple[str, Tensor, Tensor]]:
    """Name, weight of the reference, and the weight of the policy that it follows, in a fixed order.

    frozen: the copy of a policy trained whole, unwrapped; None where the reference is the adapter "ref".
    """
    if frozen is None:
        pairs = [(n, p, n.replace(f".{REF}.", ".default.")) for n, p in policy.named_parameters()]
        return [(name, own, policy.get_parameter(twin)) for name, own, twin in pairs if f".{REF}." in name]
    return [(name, own, policy.get_parameter(name)) for name, own in frozen.named_parameters()]


class FollowPolicy(TrainerCallback):
    """Moves the reference of a PPOTrainer towards its policy, and keeps it with the checkpoints."""

    def __init__(self, policy: Any, frozen: nn.Module | None) -> None:
        self.policy, self.frozen = policy, frozen

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % args.ref_model_sync_steps == 0:
            self.follow(args.ref_model_mixup_alpha)

    def follow(self, alpha: float) -> None:
        """π_ref ← α·π + (1 − α)·π_ref."""
        with torch.no_grad():
            for _, own, policy in weights(self.policy, self.frozen):
                own.mul_(1 - alpha).add_(policy, alpha=alpha)

    def save(self, path: str | Path) -> None:
        """Write the reference to one safetensors file."""
        tensors = {
            name: own.detach().cpu().contiguous() for name, own, _ in weights(self.policy, self.frozen)
        }
        save_file(tensors, str(path))

    def load(self, path: str | Path) -> None:
        """Take in, bit for bit, what `save` wrote."""
        saved = load_file(str(path))
        with torch.no_grad():
            for name, own, _ in weights(self.policy, self.frozen):
                own.copy_(saved[name])


def adapter_of_reference(policy: Any) -> str | None:
    """Which adapter gives the reference: "ref" where there is one, else none (adapters off)."""
    return REF if REF in policy.peft_config else None
