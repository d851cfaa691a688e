"""GRPO (Shao et al., arXiv 2402.03300), on TRL's GRPOTrainer: advantages relative to a group of completions.

The advantage of a completion is its reward less the group's mean, over the group's standard deviation. Every
loss of TRL's (loss_type: grpo, dr_grpo, dapo, …) is an option of `trainer:`. The reference, used where beta
is not 0, is the policy as given. Left out: a critic (see ppo/), tools and environments.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from alignment.backend.online import OnlineConfig, run_online

if TYPE_CHECKING:
    from alignment.backend.scoring import Scorer


class Config(OnlineConfig):
    """The config of a GRPO run."""

    trainer_class: ClassVar[str] = "alignment.backend.online_args:GRPOConfig"

    stage: Literal["grpo"] = "grpo"


def run(config: Config, scorer: "Scorer | None" = None) -> dict[str, Any]:
    """Train a policy by GRPO; see `run_online` for the result."""
    return run_online(config, "GRPOTrainer", scorer)
