"""Kahneman-Tversky optimisation (Ethayarajh et al., arXiv 2402.01306), on TRL's KTOTrainer.

It needs no pairs: only whether a completion is good or bad. The reference is the policy as given. Left out:
sampling (see ppo/) and the reward model (see reward/).
"""

import random
from typing import Any, ClassVar, Literal, Self

import pydantic

from alignment.backend.config import StageConfig, trainer_args
from alignment.backend.inputs import Row, StageRows, dataset, stage_rows
from alignment.backend.progress import say
from alignment.backend.runs import open_run

COLUMNS = ["prompt", "completion", "label"]


class Config(StageConfig):
    """The config of a KTO run."""

    trainer_class: ClassVar[str] = "trl.trainer.kto_config:KTOConfig"

    stage: Literal["kto"] = "kto"
    labels: Literal["stated", "pairs"] = "stated"
    """As judges gave them, or from their orders: what a pair chooses is good, what it rejects bad."""

    @pydantic.model_validator(mode="after")
    def _pairs_only(self) -> Self:
        made = self.data.how != "each" or self.data.pairs_per_prompt is not None
        if self.labels == "stated" and made:
            raise ValueError("data.how and data.pairs_per_prompt make pairs: they go with labels: pairs")
        trainer = self.trainer
        if trainer.get("loss_type", "kto") == "kto" and trainer.get("per_device_train_batch_size") == 1:
            raise ValueError(
                "trainer.per_device_train_batch_size 1: KTO's reference point is estimated from the other "
                "rows of a batch; take 2 or more"
            )
        return self


def run(config: Config) -> dict[str, Any]:
    """Train `config.model` on the labelled completions of `config.data`; the stage's result dict.

    Metrics: {"steps", "epochs", "loss", "rows", "good" (rows labelled so), "tokens", "truncated", "left_out",
    and TRL's "eval_*" with validation data}.
    """
    rows = labelled_rows(config)
    run = open_run(config, data=config.data.paths(), parents=[config.model.path])
    # After the checks that take no time: these imports take seconds.
    from trl import KTOTrainer

    from alignment.backend.preference import against_reference
    from alignment.backend.training import run_trainer

    args = trainer_args(config, run.checkpoints)
    given, counts = against_reference(config, args, rows, "unpaired")
    good = sum(row["label"] for row in rows.train)
    say(f"{good} good, {counts['rows'] - good} bad")
    trainer = KTOTrainer(
        **given,
        train_dataset=dataset(apart(rows.train, config.run.seed), COLUMNS),
        eval_dataset=dataset(apart(rows.validation, config.run.seed), COLUMNS),
    )
    metrics = run_trainer(trainer, run)
    return run.finish({**metrics, **counts, "good": good, "left_out": rows.left_out, **rows.lineage()})


def labelled_rows(config: Config) -> StageRows:
    """The rows of the unpaired view, or those that the pairs make."""
    if config.labels == "stated":
        return stage_rows(config.data, "unpaired")
    rows = stage_rows(config.data, "pairs")
    return rows._replace(train=unpaired(rows.train), validation=unpaired(rows.validation))


def unpaired(rows: list[Row]) -> list[Row]:
    """Each pair as two rows {"id", "prompt", "completion", "label"}."""
    return [
        {"id": row["id"], "prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in rows
        for side in ("chosen", "rejected")
    ]


def apart(rows: list[Row], seed: int) -> list[Row]:
    """The rows in a random order: completions of one prompt stand next to each other in the view.

    TRL goes through them in the order given and estimates KTO's reference point from each prompt with the
    completion of the row before, which must be another prompt's.
    """
    return random.Random(seed).sample(rows, len(rows))  # noqa: S311
