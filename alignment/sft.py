"""Supervised fine-tuning: imitate demonstrations, on TRL's SFTTrainer.

Packing, the loss on the assistant's tokens alone, a validation split, early stopping and perplexity are
options. Left out: anything that needs a reward or a pair (see dpo.py, ppo/, reward/).
"""

import math
from typing import Any, ClassVar, Literal, Self

import pydantic

from alignment.backend.config import Section, StageConfig, trainer_args
from alignment.backend.inputs import Row, StageRows, counted, dataset, stage_rows
from alignment.backend.progress import say
from alignment.backend.runs import open_run
from alignment.errors import UserError

COLUMNS = ["messages", "prompt", "completion", "tools"]


class StoppingSection(Section):
    """Stop when the validation loss stops falling, and keep the best checkpoint."""

    patience: int = pydantic.Field(3, ge=1)
    """Stop after so many evaluations without improvement."""
    min_delta: float = pydantic.Field(0.0, ge=0)
    """What counts as an improvement, in nats."""


class Config(StageConfig):
    """The config of an SFT run."""

    trainer_class: ClassVar[str] = "trl.trainer.sft_config:SFTConfig"

    stage: Literal["sft"] = "sft"
    early_stopping: StoppingSection | None = None
    """Needs validation data, and equal eval_strategy and save_strategy in `trainer:`."""

    @pydantic.model_validator(mode="after")
    def _defaults(self) -> Self:
        self.trainer.setdefault("assistant_only_loss", True)
        validation = bool(self.data.validation or self.data.validation_fraction)
        if self.early_stopping is not None and not validation:
            raise ValueError("early_stopping needs data.validation or data.validation_fraction")
        return self


def run(config: Config) -> dict[str, Any]:
    """Train `config.model` on the demonstrations of `config.data`; the stage's result dict.

    Metrics: {"steps", "epochs", "loss", "rows", "tokens", "truncated", "left_out", and with validation data
    "eval_loss", "perplexity"}: the mean negative log-likelihood of a supervised token in nats, and its
    exponential.
    """
    rows = stage_rows(config.data, "messages")
    run = open_run(config, data=config.data.paths(), parents=[config.model.path])
    # After the checks that take no time: these imports take seconds.
    from transformers import EarlyStoppingCallback, set_seed
    from trl import SFTTrainer

    from alignment.backend.memory import check_memory
    from alignment.backend.models import load_policy, load_tokenizer, peft_config
    from alignment.backend.training import run_trainer
    from alignment.backend.unpadded import quicken

    stopping = config.early_stopping
    args = trainer_args(config, run.checkpoints, **({"load_best_model_at_end": True} if stopping else {}))
    tokenizer = load_tokenizer(config.model.path)
    train, validation, counts = _prepared(rows, tokenizer, args, config.data.max_truncated)
    say(counted(counts, rows.left_out))
    longest = min(counts["longest"], args.max_length or counts["longest"])
    check_memory(config, args, "sft", args.max_length if args.packing else longest)
    set_seed(config.run.seed)
    policy = load_policy(config.model)
    quicken(policy, args)
    trainer = SFTTrainer(
        model=policy,
        args=args,
        train_dataset=dataset(train, COLUMNS),
        eval_dataset=dataset(validation, COLUMNS),
        processing_class=tokenizer,
        peft_config=peft_config(config.model, "CAUSAL_LM"),
        callbacks=[EarlyStoppingCallback(stopping.patience, stopping.min_delta)] if stopping else None,
    )
    metrics = run_trainer(trainer, run)
    if "eval_loss" in metrics:
        metrics["perplexity"] = math.exp(metrics["eval_loss"])
    return run.finish({**metrics, **counts, "left_out": rows.left_out, **rows.lineage()})


def _prepared(
    rows: StageRows, tokenizer: Any, args: Any, max_truncated: float
) -> tuple[list[Row], list[Row], dict[str, int]]:
    """Training and validation rows as the trainer takes them, checked, and the counts of the training rows.

    With a chat template that marks no assistant tokens, `args.assistant_only_loss` gives way to a loss on the
    completion, every assistant turn being the completion of what stands before it.
    """
    from alignment.backend.chat import training_template
    from alignment.backend.preflight import check_rows

    train, validation, view = rows.train, rows.validation, "messages"
    if args.assistant_only_loss:
        try:
            training_template(tokenizer)
        except UserError:
            train, validation, view = turn_rows(train), turn_rows(validation), "completion"
            args.assistant_only_loss = False
            say("the chat template marks no assistant tokens: each turn is trained as a completion")
    limits = (args.max_length, max_truncated, view)
    counts = check_rows(train, tokenizer, *limits, assistant_only=args.assistant_only_loss)
    check_rows(validation, tokenizer, *limits, assistant_only=args.assistant_only_loss)
    return train, validation, counts


def turn_rows(rows: list[Row]) -> list[Row]:
    """Conversations as {"id", "prompt", "completion"[, "tools"]}, one row for each turn of the assistant.

    Raises UserError for a conversation without one.
    """
    turns = []
    for number, row in enumerate(rows, 1):
        messages = row["messages"]
        places = [place for place, message in enumerate(messages) if message["role"] == "assistant" and place]
        if not places:
            raise UserError(f"row {number} (id {row['id']}): the assistant says nothing to train on")
        rest = {key: row[key] for key in ("id", "tools") if key in row}
        turns += [{**rest, "prompt": messages[:at], "completion": [messages[at]]} for at in places]
    return turns
