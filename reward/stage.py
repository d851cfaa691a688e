"""The reward stage: from judged completions to a model that scores them, on TRL's RewardTrainer.

Pairs come from the judgments; the model is a language model with a scalar head; the loss is Bradley-Terry.
The figure that counts, accuracy on held-out prompts, is measured with the scorer that later stages use.
Left out: K-wise losses, ensembles, process rewards.
"""

import random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from alignment.backend.config import StageConfig, trainer_args
from alignment.backend.inputs import counted, stage_rows
from alignment.backend.progress import say
from alignment.backend.runs import open_run
from alignment.stats import bootstrap_interval

if TYPE_CHECKING:
    from alignment.backend.scoring import RewardScorer

Row = dict[str, Any]


class Config(StageConfig):
    """The config of a reward run."""

    trainer_class: ClassVar[str] = "trl.trainer.reward_config:RewardConfig"

    stage: Literal["reward"] = "reward"
    margin: bool = False
    """Ask chosen to win by the strength that the judges stated, or else by the difference in rank."""
    shuffle_labels: bool = False
    """A control: half of the training pairs are turned round, so held-out accuracy must be about one half."""


def run(config: Config) -> dict[str, Any]:
    """Train a reward model on the pairs of `config.data`; the stage's result dict.

    Metrics: {"steps", "epochs", "loss", "rows", "tokens", "truncated" (left out), "left_out", and with
    validation data "accuracy": {"value", "low", "high", "n"}}: the share of held-out pairs ordered as the
    judges did (one vote a judge, a tie is half), with a 95% bootstrap interval over prompts.
    """
    rows = stage_rows(config.data, "pairs", margin=config.margin)
    run_dir = open_run(
        config, data=[*config.data.train, *config.data.validation], parents=[config.model.path]
    )
    # After the checks that take no time: these imports take seconds.
    from datasets import Dataset

    from alignment.backend.memory import check_memory
    from alignment.backend.models import load_reward_model, load_tokenizer, peft_config
    from alignment.backend.preflight import check_rows
    from alignment.backend.scoring import RewardScorer
    from alignment.backend.training import run_trainer
    from reward.trainer import PairCollator, PairTrainer

    args = trainer_args(config, run_dir.checkpoints, remove_unused_columns=False)
    max_length = args.max_length
    args.max_length = None  # rows that are too long are counted and left out here, not by TRL
    tokenizer = load_tokenizer(config.model.path)
    counts = check_rows(rows.train, tokenizer, max_length, config.data.max_truncated, "pairs")
    check_rows(rows.validation, tokenizer, max_length, config.data.max_truncated, "pairs")
    check_memory(config.model, args, "reward", min(counts["longest"], max_length or 1 << 30))
    say(counted(counts, rows.left_out))
    pairs = shuffled(rows.train, config.run.seed) if config.shuffle_labels else rows.train
    train, validation = (tokenized(part, tokenizer, max_length) for part in (pairs, rows.validation))
    trainer = PairTrainer(
        model=load_reward_model(config.model, seed=config.run.seed),
        args=args,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(validation) if args.eval_strategy != "no" else None,
        data_collator=PairCollator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        peft_config=peft_config(config.model, "SEQ_CLS"),
    )
    metrics = run_trainer(trainer, run_dir)
    metrics |= {**counts, "left_out": rows.left_out}
    if validation:
        model: Any = trainer.model
        scorer = RewardScorer(model.eval(), tokenizer, config.run.dir, max_length or 1 << 30)
        metrics["accuracy"] = held_out_accuracy(scorer, rows.validation)
    return run_dir.finish(metrics)


def tokenized(rows: list[Row], tokenizer: Any, max_length: int | None) -> list[Row]:
    """Rows of the pairs view as {"chosen_ids", "rejected_ids", "length", "weight"[, "margin"]}.

    Those longer than `max_length` are left out. The whole conversation is rendered, as a scorer does.
    """
    from alignment.backend.chat import completion_messages, encode, render_text

    kept = []
    for row in rows:
        new: Row = {key: row[key] for key in ("weight", "margin") if key in row}
        for side in ("chosen", "rejected"):
            turns = [*row["prompt"], *completion_messages(row, side)]
            new[f"{side}_ids"] = encode(
                tokenizer, render_text(tokenizer, turns, open_turn=False, tools=row.get("tools"))
            )
        new["length"] = max(len(new["chosen_ids"]), len(new["rejected_ids"]))
        if max_length is None or new["length"] <= max_length:
            kept.append(new)
    return kept


def shuffled(rows: list[Row], seed: int) -> list[Row]:
    """The rows with chosen and rejected exchanged in a random half of them."""
    turned = set(random.Random(seed).sample(range(len(rows)), len(rows) // 2))  # noqa: S311
    return [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]} if number in turned else row
        for number, row in enumerate(rows)
    ]


def held_out_accuracy(scorer: "RewardScorer", rows: list[Row]) -> dict[str, Any]:
    """{"value", "low", "high", "n"}: how often the scorer orders pairs as the judges did, one vote a judge.

    A tie counts as half; the 95% interval resamples prompts, since pairs of one prompt are not independent.
    """
    pairs = tokenized(rows, scorer.tokenizer, None)
    chosen = scorer.score_ids([pair["chosen_ids"] for pair in pairs])
    rejected = scorer.score_ids([pair["rejected_ids"] for pair in pairs])
    values: list[float] = []
    prompts: list[str] = []
    for row, better, worse in zip(rows, chosen, rejected, strict=True):
        votes = max(1, row["judges"])
        values += [0.5 if better == worse else float(better > worse)] * votes
        prompts += [str(row["prompt"])] * votes
    return bootstrap_interval(values, prompts)._asdict()
