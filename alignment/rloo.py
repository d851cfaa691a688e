"""RLOO (Ahmadian et al., arXiv 2402.14740), on TRL's RLOOTrainer: REINFORCE with a leave-one-out baseline.

The advantage of a completion is its reward less the mean of the others' to the same prompt, the KL to the
reference (the policy as given) being part of the reward. Left out: a critic (see ppo/).
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from alignment.backend.online import OnlineConfig, run_online

if TYPE_CHECKING:
    from alignment.backend.scoring import Scorer


class Config(OnlineConfig):
    """The config of an RLOO run."""

    trainer_class: ClassVar[str] = "alignment.backend.online_args:RLOOConfig"

    stage: Literal["rloo"] = "rloo"


def run(config: Config, scorer: "Scorer | None" = None) -> dict[str, Any]:
    """Train a policy by RLOO; see `run_online` for the result."""
    return run_online(config, "RLOOTrainer", scorer)
