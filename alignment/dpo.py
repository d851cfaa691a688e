"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290), on TRL's DPOTrainer.

Every loss of TRL's is an option of `trainer:` (loss_type, beta, label_smoothing, precompute_ref_log_probs …).
The reference is the policy as given. Left out: sampling (see ppo/) and the reward model (see reward/).
"""

from typing import Any, ClassVar, Literal

import pydantic

from alignment.backend.config import StageConfig, trainer_args
from alignment.backend.inputs import dataset, stage_rows
from alignment.backend.runs import open_run

LOSSES = (
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
)


class Config(StageConfig):
    """The config of a DPO run."""

    trainer_class: ClassVar[str] = "trl.trainer.dpo_config:DPOConfig"

    stage: Literal["dpo"] = "dpo"

    @pydantic.field_validator("trainer")
    @classmethod
    def _known_losses(cls, trainer: dict[str, Any]) -> dict[str, Any]:
        """TRL tells an unknown loss at the first step only, after everything is loaded."""
        given = trainer.get("loss_type", [])
        for name in [given] if isinstance(given, str) else given:
            if name not in LOSSES:
                raise ValueError(f"trainer.loss_type: {name!r} is none of {', '.join(LOSSES)}")
        return trainer


def run(config: Config) -> dict[str, Any]:
    """Train `config.model` on the pairs of `config.data`; the stage's result dict.

    Metrics: {"steps", "epochs", "loss", "rows", "tokens", "truncated", "left_out", and TRL's "eval_*" with
    validation data}.
    """
    rows = stage_rows(config.data, "pairs")
    run = open_run(config, data=config.data.paths(), parents=[config.model.path])
    # After the checks that take no time: these imports take seconds.
    from trl import DPOTrainer

    from alignment.backend.preference import against_reference
    from alignment.backend.training import run_trainer

    args = trainer_args(config, run.checkpoints)
    given, counts = against_reference(config, args, rows, "pairs")
    trainer = DPOTrainer(
        **given,
        train_dataset=dataset(rows.train, ["prompt", "chosen", "rejected", "tools"]),
        eval_dataset=dataset(rows.validation, ["prompt", "chosen", "rejected", "tools"]),
    )
    metrics = run_trainer(trainer, run)
    return run.finish({**metrics, **counts, "left_out": rows.left_out, **rows.lineage()})
