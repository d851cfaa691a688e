"""Options of TRL's that PPO must refuse. No heavy imports: a config is checked in under a second."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alignment.backend.online import WARPING

# What makes samples differ from the model's own distribution. Log-probabilities are then of another one than
# the samples came from: the measured KL goes negative, the ratio is wrong (trl#235, trl#1005).
UNWARPED: dict[str, tuple[Any, ...]] = {
    "temperature": (1.0,),
    **WARPING,
}
# Fields of RLOOConfig that PPO has no use for: an option that is accepted and never read would be a lie.
UNUSED: dict[str, tuple[Any, str]] = {
    "reward_weights": (None, "give each reward its weight in reward and more_rewards"),
    "reward_clip_range": (None, "use reward_clip"),
    "mask_truncated_completions": (False, "use missing_eos_penalty"),
    "router_aux_loss_coef": (None, "the load-balancing loss is not part of PPO's objective"),
    "num_generations_eval": (None, "evaluate with `alignkit evaluate`"),
    "use_liger_kernel": (False, "no logits are kept anyway"),
}


def refusal(options: Mapping[str, Any]) -> str | None:
    """Why these trainer options cannot be used with PPO, as one sentence; None when they can."""
    for name, allowed in UNWARPED.items():
        if name in options and options[name] not in allowed:
            return (
                f"{name} {options[name]} would make rollouts differ from the policy's own distribution, and "
                f"KL and ratio wrong with it: PPO samples unwarped, leave {name} at {allowed[0]}"
            )
    for name in options.get("generation_kwargs") or {}:
        return f"generation_kwargs.{name}: PPO samples unwarped and takes no further generation options"
    for name, (default, advice) in UNUSED.items():
        if name in options and options[name] != default:
            return f"{name} is not used by PPO: {advice}"
    if options.get("disable_dropout") is False:
        return "disable_dropout false: with dropout KL and ratio would measure noise; leave it out"
    if options.get("use_transformers_continuous_batching"):
        return (
            "use_transformers_continuous_batching: for it TRL casts the policy's weights to half precision "
            "and never back; leave it off"
        )
    return None
