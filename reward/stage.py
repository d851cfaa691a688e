"""The reward stage: from judged completions to a model that scores them, on TRL's RewardTrainer.

The model is a language model with a scalar head, or with a head a member of an ensemble; the loss is
Bradley-Terry on pairs or Plackett-Luce on whole rankings. The figures that count, on held-out prompts, are
measured with the scorer that later stages use. Left out: process rewards.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import pydantic

from alignment.backend.config import Section, StageConfig, trainer_args
from alignment.backend.inputs import StageRows, counted, stage_rows
from alignment.backend.progress import say
from alignment.backend.runs import Run, is_main_process, open_run
from alignment.errors import UserError

if TYPE_CHECKING:
    from alignment.backend.scoring import RewardScorer

Row = dict[str, Any]
# Of a member's metrics, those that are also its ensemble's.
COUNTED = ("steps", "epochs", "loss", "rows", "tokens", "longest", "truncated", "left_out", "sources")
KEPT = 512  # training texts that tell the level of an ensemble's members


class EnsembleSection(Section):
    """Several reward models, which show by how much they differ what none of them knows."""

    members: int = pydantic.Field(4, ge=2)
    """How many."""
    kind: Literal["heads", "runs"] = "heads"
    """"heads": one model with a head a member; "runs": each trained by itself, with model.lora one base."""


class Config(StageConfig):
    """The config of a reward run."""

    trainer_class: ClassVar[str] = "trl.trainer.reward_config:RewardConfig"

    stage: Literal["reward"] = "reward"
    loss: Literal["pairs", "rankings"] = "pairs"
    """Bradley-Terry on pairs, or Plackett-Luce on each judge's whole ranking, ties by Efron's method."""
    margin: bool = False
    """Ask chosen to win by the strength that the judges stated, or else by the difference in rank."""
    label_smoothing: float = pydantic.Field(0.0, ge=0, lt=0.5)
    """The chance that a pair's label is wrong."""
    length_debias: bool = False
    """Fit what length alone explains first, and learn the rest (reward/length.py)."""
    resample: bool = False
    """Train each model, or member of an ensemble, on a bootstrap sample of the prompts."""
    ensemble: EnsembleSection | None = None
    """Train several; null trains one."""
    token_budget: int | None = pydantic.Field(None, ge=1)
    """Forward and backward in parts of at most so many tokens; null takes a batch at once."""
    shuffle_labels: bool = False
    """A control: half of the training pairs are turned round, so held-out accuracy must be about one half."""

    @pydantic.model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.loss == "rankings":
            for name in ("margin", "label_smoothing", "shuffle_labels"):
                if getattr(self, name):
                    raise ValueError(f"{name} is of pairs: it does not go with loss: rankings")
            if self.data.how != "each" or self.data.pairs_per_prompt is not None:
                raise ValueError("data.how and data.pairs_per_prompt make pairs: leave them out of rankings")
        return self


def run(config: Config) -> dict[str, Any]:
    """Train a reward model on the judgments of `config.data`; the stage's result dict.

    Metrics: {"steps", "epochs", "loss", "rows", "tokens", "truncated" (left out), "left_out"[,
    "length_coefficient"], and with validation data those of `evaluation.measures`}, first "accuracy":
    {"value", "low", "high", "n"}, the share of held-out pairs ordered as the judges did (one vote a judge, a
    tie is half), with a 95% bootstrap interval over prompts. They are in DIR/report.html too.
    """
    if config.ensemble is not None and config.ensemble.kind == "runs":
        from reward.ensemble import run_apart

        return run_apart(config)
    rows = judged_rows(config)
    run_dir = open_run(config, data=config.data.paths(), parents=[config.model.path])
    # After the checks that take no time: these imports take seconds.
    from alignment.backend.memory import check_memory
    from alignment.backend.models import load_reward_model, load_tokenizer, peft_config
    from alignment.backend.preflight import check_rows
    from alignment.backend.scoring import RewardScorer
    from alignment.backend.training import run_trainer
    from alignment.backend.unpadded import quicken
    from reward.ensemble import save_heads
    from reward.trainer import ComparisonCollator, ComparisonTrainer

    args = trainer_args(config, run_dir.checkpoints, remove_unused_columns=False)
    max_length = args.max_length
    tokenizer = load_tokenizer(config.model.path)
    counts = check_rows(rows.train, tokenizer, max_length, config.data.max_truncated, config.loss)
    check_rows(rows.validation, tokenizer, max_length, config.data.max_truncated, "pairs")
    say(counted(counts, rows.left_out))
    train, coefficient = training_rows(config, rows.train, tokenizer, max_length)
    texts = max(len(row["texts"]) for row in train)
    longest = min(counts["longest"], max_length or 1 << 30)
    if config.token_budget is not None:
        texts = min(texts, max(1, -(-config.token_budget // (args.per_device_train_batch_size * longest))))
    check_memory(config, args, "reward", longest, texts)
    members = config.ensemble.members if config.ensemble else 1
    network = load_reward_model(config.model, seed=config.run.seed, members=members)
    padded = quicken(network, args) is not None
    trainer = ComparisonTrainer(
        model=network,
        args=args,
        train_dataset=_dataset(train),
        eval_dataset=_evaluated(config, args, rows, tokenizer),
        data_collator=ComparisonCollator(tokenizer.pad_token_id, config.token_budget, padded),
        processing_class=tokenizer,
        peft_config=peft_config(config.model, "SEQ_CLS"),
        smoothing=config.label_smoothing,
    )
    metrics = run_trainer(trainer, run_dir)
    metrics |= {**counts, "left_out": rows.left_out, **rows.lineage()}
    if config.length_debias:
        metrics["length_coefficient"] = coefficient
    model: Any = trainer.model
    scorer = RewardScorer(model.eval(), tokenizer, config.run.dir, max_length or 1 << 30)
    if config.ensemble is not None:
        save_heads(scorer, [text for row in train for text in row["texts"]][:KEPT], run_dir.model_dir)
    return run_dir.finish(metrics | measured(run_dir, scorer, rows.validation))


def judged_rows(config: Config) -> StageRows:
    """Training rows of the view that the loss takes; validation rows are pairs, with their margins."""
    if config.loss == "pairs":
        return stage_rows(config.data, "pairs", margin=True)
    rows = stage_rows(config.data, "rankings")
    if rows.validation:
        pairs = stage_rows(config.data, "pairs", margin=True)
        rows = rows._replace(validation=pairs.validation)
    return rows


def training_rows(
    config: Config, rows: list[Row], tokenizer: Any, max_length: int | None
) -> tuple[list[Row], float]:
    """The trainer's rows, and γ of the length that is taken out (0 where none is). See rows.py."""
    from reward.rows import add_draws, add_offsets, comparisons, rankings, shuffled

    if config.loss == "rankings":
        made = rankings(rows, tokenizer, max_length)
    else:
        pairs = shuffled(rows, config.run.seed) if config.shuffle_labels else rows
        keys = ("weight", "margin") if config.margin else ("weight",)
        made = comparisons(pairs, tokenizer, max_length, keys)
    if not made:
        raise UserError(f"every row has a text longer than trainer.max_length {max_length}: raise it")
    coefficient = add_offsets(made, tokenizer) if config.length_debias else 0.0
    if config.resample:
        add_draws(made, config.ensemble.members if config.ensemble else 1, config.run.seed)
    return made, coefficient


def measured(run_dir: Run, scorer: "RewardScorer", rows: list[Row]) -> dict[str, Any]:
    """The held-out figures of `evaluation.measures`, also as a page; nothing without rows."""
    if not rows:
        return {}
    from reward.evaluation import measures, scored
    from reward.report import write_report

    figures = measures(scored(scorer, rows))
    if is_main_process():
        write_report(run_dir.dir / "report.html", run_dir.dir.name, figures, run_dir.logs())
    return figures


def _evaluated(config: Config, args: Any, rows: StageRows, tokenizer: Any) -> Any:
    """The validation rows as the trainer's, where it evaluates while it trains; pairs whatever the loss."""
    from reward.rows import comparisons

    if args.eval_strategy == "no":
        return None
    keys = ("weight", "margin") if config.margin else ("weight",)
    return _dataset(comparisons(rows.validation, tokenizer, args.max_length, keys))


def _dataset(rows: list[Row]) -> Any:
    from datasets import Dataset

    unread = ("id", "prompt")
    return Dataset.from_list([{key: row[key] for key in row if key not in unread} for row in rows])
