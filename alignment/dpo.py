"""Direct preference optimisation (Rafailov et al., arXiv 2305.18290), on TRL's DPOTrainer.

Every loss of TRL's is an option of `trainer:` (loss_type, beta, label_smoothing, precompute_ref_log_probs …).
The reference is the policy as given. Left out: sampling (see ppo/) and the reward model (see reward/).
"""

from typing import Any, ClassVar, Literal

import pydantic

from alignment.backend.config import StageConfig, trainer_args
from alignment.backend.inputs import counted, dataset, stage_rows
from alignment.backend.progress import say
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
    from transformers import set_seed
    from trl import DPOTrainer

    from alignment.backend.memory import check_memory
    from alignment.backend.models import load_policy, load_reference, load_tokenizer, peft_config
    from alignment.backend.preflight import check_rows
    from alignment.backend.training import run_trainer
    from alignment.backend.unpadded import quicken

    args = trainer_args(config, run.checkpoints)
    tokenizer = load_tokenizer(config.model.path)
    limits = (args.max_length, config.data.max_truncated, "pairs")
    counts = check_rows(rows.train, tokenizer, *limits)
    check_rows(rows.validation, tokenizer, *limits)
    say(counted(counts, rows.left_out))
    check_memory(config, args, "dpo", min(counts["longest"], args.max_length or counts["longest"]))
    set_seed(config.run.seed)
    policy = load_policy(config.model)
    reference = load_reference(config.model, policy, args.precompute_ref_log_probs)
    for model in filter(None, (policy, reference)):
        quicken(model, args)
    trainer = DPOTrainer(
        model=policy,
        ref_model=reference,
        args=args,
        train_dataset=dataset(rows.train, ["prompt", "chosen", "rejected", "tools"]),
        eval_dataset=dataset(rows.validation, ["prompt", "chosen", "rejected", "tools"]),
        processing_class=tokenizer,
        peft_config=peft_config(config.model, "CAUSAL_LM"),
    )
    metrics = run_trainer(trainer, run)
    return run.finish({**metrics, **counts, "left_out": rows.left_out, **rows.lineage()})
