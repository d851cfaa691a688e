"""The reward stage: from judged completions to a model that scores them, on TRL's RewardTrainer.

Pairs come from the judgments; the model is a language model with a scalar head; the loss is Bradley-Terry.
The figure that counts, accuracy on held-out prompts, is measured with the scorer that later stages use.
Left out: K-wise losses, ensembles, process rewards.
"""

import json
import random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from alignment.backend.config import StageConfig, trainer_args
from alignment.backend.inputs import counted, stage_rows
from alignment.backend.progress import say
from alignment.backend.runs import open_run
from alignment.errors import UserError
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
    run_dir = open_run(config, data=config.data.paths(), parents=[config.model.path])
    # After the checks that take no time: these imports take seconds.
    from datasets import Dataset

    from alignment.backend.memory import check_memory
    from alignment.backend.models import load_reward_model, load_tokenizer, peft_config
    from alignment.backend.preflight import check_rows
    from alignment.backend.scoring import RewardScorer
    from alignment.backend.training import run_trainer
    from reward.trainer import ComparisonCollator, ComparisonTrainer

    args = trainer_args(config, run_dir.checkpoints, remove_unused_columns=False)
    max_length = args.max_length
    tokenizer = load_tokenizer(config.model.path)
    counts = check_rows(rows.train, tokenizer, max_length, config.data.max_truncated, "pairs")
    check_rows(rows.validation, tokenizer, max_length, config.data.max_truncated, "pairs")
    say(counted(counts, rows.left_out))
    pairs = shuffled(rows.train, config.run.seed) if config.shuffle_labels else rows.train
    train, validation = (comparisons(part, tokenizer, max_length) for part in (pairs, rows.validation))
    if not train:
        raise UserError(f"every pair has a text longer than trainer.max_length {max_length}: raise it")
    texts = max(len(row["texts"]) for row in train)
    check_memory(config.model, args, "reward", min(counts["longest"], max_length or 1 << 30), texts)
    trainer = ComparisonTrainer(
        model=load_reward_model(config.model, seed=config.run.seed),
        args=args,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(validation) if args.eval_strategy != "no" else None,
        data_collator=ComparisonCollator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        peft_config=peft_config(config.model, "SEQ_CLS"),
    )
    metrics = run_trainer(trainer, run_dir)
    metrics |= {**counts, "left_out": rows.left_out, **rows.lineage()}
    if validation:
        model: Any = trainer.model
        scorer = RewardScorer(model.eval(), tokenizer, config.run.dir, max_length or 1 << 30)
        metrics["accuracy"] = held_out_accuracy(scorer, rows.validation)
    return run_dir.finish(metrics)


def comparisons(rows: list[Row], tokenizer: Any, max_length: int | None) -> list[Row]:
    """Rows of the pairs view, gathered by prompt and tokenized: the trainer's rows.

    {"texts": token ids of each completion with its prompt, once; "better", "worse": places among them, a pair
    each; "weight"[, "margin"]: of each pair; "length": of the longest text}. Pairs with a text longer than
    `max_length` are left out.
    """
    gathered: dict[str, Row] = {}
    for row in rows:
        pair = [tuple(ids) for ids in pair_ids(row, tokenizer)]
        if max_length is not None and max(map(len, pair)) > max_length:
            continue
        keys = [key for key in ("weight", "margin") if key in row]
        new: Row = {"texts": [], "better": [], "worse": [], **{key: [] for key in keys}, "length": 0}
        one = gathered.setdefault(json.dumps([row["id"], row["prompt"]]), new)
        for side, text in zip(("better", "worse"), pair, strict=True):
            if text not in one["texts"]:
                one["texts"].append(text)
            one[side].append(one["texts"].index(text))
        for key in keys:
            one[key].append(row[key])
        one["length"] = max(one["length"], *map(len, pair))
    return list(gathered.values())


def pair_ids(row: Row, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids of a row's chosen and rejected conversation, rendered whole, as a scorer renders them."""
    from alignment.backend.chat import completion_messages, encode, render_text

    def ids(side: str) -> list[int]:
        turns = [*row["prompt"], *completion_messages(row, side)]
        return encode(tokenizer, render_text(tokenizer, turns, open_turn=False, tools=row.get("tools")))

    return ids("chosen"), ids("rejected")


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
    chosen, rejected = zip(*(pair_ids(row, scorer.tokenizer) for row in rows), strict=True)
    scores = scorer.score_ids([*chosen, *rejected])
    better, worse = scores[: len(rows)], scores[len(rows) :]
    values: list[float] = []
    prompts: list[str] = []
    for row, high, low in zip(rows, better, worse, strict=True):
        votes = max(1, row["judges"])
        values += [0.5 if high == low else float(high > low)] * votes
        prompts += [str(row["prompt"])] * votes
    return bootstrap_interval(values, prompts)._asdict()
