"""What stages that learn from their own samples have in common: RLOO and GRPO, on TRL's trainers.

The policy samples several completions a prompt, a scorer rewards them, and the advantage of one is its reward
beside the others': no critic. PPO (alignment/ppo) has the same sections and takes the same data and scorers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import pydantic

from alignment.backend.config import Section, StageConfig, trainer_args
from alignment.backend.inputs import Row, counted, dataset, stage_rows
from alignment.backend.progress import only_own_progress, say
from alignment.backend.runs import open_run
from alignment.errors import UserError

if TYPE_CHECKING:
    from alignment.backend.rewards import Reward, RewardSum
    from alignment.backend.scoring import Scorer

SCORE = "before_penalty"  # a column of TRL's table of completions: the score as given
LORA_LEARNING_RATE = 1e-5  # adapters take ten times the rate of whole weights
# What makes samples differ from the distribution that is trained, and the values that do not.
WARPING: dict[str, tuple[Any, ...]] = {
    "top_p": (1.0,),
    "top_k": (0, None),
    "min_p": (None, 0.0),
    "repetition_penalty": (1.0,),
}
# Of a logged rollout, what the stage's result says about the last one.
REPORTED = ("reward", "reward_std", "kl", "entropy", "completions/mean_length", "completions/clipped_ratio")


class RewardSection(Section):
    """One thing that scores the completions."""

    path: str | None = None
    """The reward model or ensemble: a run directory, a folder, a hub id, or the http(s) address of a service
    (`alignkit reward serve`); null where Python hands a scorer over."""
    function: str | None = None
    """Instead of a model, a Python function "module:function" of (prompts, completions, finished)."""
    name: str | None = None
    """What the metrics call it (rewards/NAME), where there are several; path or function unless given."""
    weight: float = 1.0
    """What its scores are multiplied by in the sum."""
    combine: Literal["mean", "worst", "uncertainty"] = "mean"
    """How the scores of an ensemble's members become one: the mean, the least, or mean − penalty·variance."""
    penalty: float = pydantic.Field(default=0.1, ge=0)
    """Weight of the variance with combine: uncertainty."""
    max_length: int | None = pydantic.Field(default=None, ge=1)
    """Longer texts lose their first tokens before they are scored; null goes by the model."""
    token_budget: int = pydantic.Field(default=32_768, ge=1)
    """Tokens that are scored in one forward pass."""


class RewardedConfig(StageConfig):
    """The config of any stage that samples completions and has them scored."""

    reward: RewardSection = RewardSection()
    more_rewards: list[RewardSection] = pydantic.Field(default_factory=list)
    """Further rewards, added to the first by their weights."""
    max_prompt_length: int | None = pydantic.Field(default=None, ge=1)
    """Prompts of more tokens are left out, counted, and refused above data.max_truncated."""

    def rewards(self) -> list[tuple[str, RewardSection]]:
        """Every reward with where it is written."""
        more = [(f"more_rewards[{number}]", reward) for number, reward in enumerate(self.more_rewards)]
        return [("reward", self.reward), *more]

    def parents(self) -> list[str]:
        """The models that the run starts from: the policy and the reward models that are files."""
        models = [reward.path for _, reward in self.rewards() if reward.path and "://" not in reward.path]
        return [self.model.path, *models]

    def check_rewards(self, scorer: Scorer | None) -> None:
        """UserError for a reward that names nothing; a scorer from Python stands for the first one."""
        for number, (where, reward) in enumerate(self.rewards()):
            if reward.path is None and reward.function is None and (scorer is None or number):
                name = self.stage.upper()
                raise UserError(
                    f"{where}.path is missing: {name} needs a reward model (`alignkit reward` trains one)"
                )

    @pydantic.model_validator(mode="after")
    def _complete(self) -> Self:
        held_out = bool(self.data.validation or self.data.validation_fraction)
        asked = [key for key in ("eval_strategy", "load_best_model_at_end") if self.trainer.get(key)]
        if asked and self.trainer[asked[0]] != "no" and not held_out:
            raise UserError(
                f"trainer.{asked[0]} needs prompts to evaluate on: give data.validation or "
                "data.validation_fraction"
            )
        for where, reward in self.rewards():
            if reward.path is not None and reward.function is not None:
                raise UserError(f"{where} has both a path and a function: give one of them")
        return self


class OnlineConfig(RewardedConfig):
    """The config of RLOO and GRPO."""

    missing_eos_penalty: float = 1.0
    """Taken off the score of a completion that does not end."""

    @pydantic.model_validator(mode="after")
    def _unwarped(self) -> Self:
        for name, allowed in WARPING.items():
            if name in self.trainer and self.trainer[name] not in allowed:
                raise ValueError(
                    f"trainer.{name} {self.trainer[name]} would make samples differ from the distribution "
                    f"that is trained: leave it at {allowed[0]}"
                )
        for name in self.trainer.get("generation_kwargs") or {}:
            raise ValueError(f"trainer.generation_kwargs.{name}: samples are drawn unwarped; leave it out")
        if self.trainer.get("use_transformers_continuous_batching"):
            raise ValueError(
                "trainer.use_transformers_continuous_batching: for it TRL casts the policy's weights to half "
                "precision and never back; leave it off"
            )
        self.trainer.setdefault("disable_dropout", True)  # old and new log-probabilities are the policy's own
        return self


def run_online(config: OnlineConfig, trainer_name: str, scorer: Scorer | None) -> dict[str, Any]:
    """Train `config.model` on the prompts of `config.data` against the rewards; the stage's result dict.

    trainer_name: RLOOTrainer or GRPOTrainer; scorer: used instead of what `reward` names.
    Some samples are in DIR/samples.jsonl.
    Metrics: {"steps", "epochs", "loss", "rows", "tokens", "longest", "left_out"}, of the first rollout
    "first_reward", and of the last one "reward", "reward_std", "kl", "entropy", "mean_length",
    "clipped_ratio" (the share that did not end).
    """
    config.check_rewards(scorer)
    rows = stage_rows(config.data, "prompts")
    run = open_run(config, data=config.data.paths(), parents=config.parents())
    # After the checks that take no time: these imports take seconds.
    from transformers import set_seed

    from alignment.backend.chat import stop_ids
    from alignment.backend.memory import check_memory
    from alignment.backend.models import load_policy, load_tokenizer, peft_config
    from alignment.backend.online_trainer import check_prompts, resumable
    from alignment.backend.training import run_trainer
    from alignment.backend.unpadded import quicken

    args = trainer_args(config, run.checkpoints, **adapter_rate(config))
    tokenizer = load_tokenizer(config.model.path)
    prompts, counts, left_out = short_prompts(config, tokenizer, rows.train, rows.left_out)
    unseen = short_prompts(config, tokenizer, rows.validation, {})[0] if rows.validation else []
    check_prompts(len(prompts), args)
    check_memory(config, args, config.stage, counts["longest"] + args.max_completion_length)
    say(counted(counts, left_out))
    only_own_progress()  # TRL loads the reference itself
    set_seed(config.run.seed)
    policy = load_policy(config.model)
    policy.generation_config.eos_token_id = stops = stop_ids(tokenizer, policy.generation_config)
    check_room(policy, counts["longest"], args.max_completion_length)
    quicken(policy, args)
    trainer = resumable(trainer_name)(
        model=policy,
        reward_funcs=[reward_function(reward_sum(config, scorer), stops, config.missing_eos_penalty)],
        args=args,
        train_dataset=dataset(prompts, ["prompt"]),
        eval_dataset=dataset(unseen, ["prompt"]),
        processing_class=tokenizer,
        peft_config=peft_config(config.model, "CAUSAL_LM"),
        samples_path=run.dir / "samples.jsonl",
    )
    if trainer.ref_model is not None:  # TRL loads it anew
        quicken(trainer.ref_model, args)
    metrics = run_trainer(trainer, run)
    summary = _summary(trainer.state.log_history)
    return run.finish({**metrics, **counts, "left_out": left_out, **rows.lineage(), **summary})


def adapter_rate(config: RewardedConfig) -> dict[str, float]:
    """The learning rate where adapters are trained and none is given."""
    from alignment.backend.models import is_adapter, resolve_model_path

    adapter = config.model.lora is not None or is_adapter(resolve_model_path(config.model.path))
    given = not adapter or "learning_rate" in config.trainer
    return {} if given else {"learning_rate": LORA_LEARNING_RATE}


def reward_sum(config: RewardedConfig, scorer: Scorer | None) -> RewardSum:
    """The rewards of a config, loaded; `scorer` is used instead of what the first one names."""
    from alignment.backend.rewards import FunctionScorer, Part, RewardSum
    from alignment.backend.scoring import load_scorer

    parts = []
    for number, (_, section) in enumerate(config.rewards()):
        own: Any = scorer if number == 0 else None
        if own is None and section.function is not None:
            own = FunctionScorer(section.function)
        if own is None:
            own = load_scorer(
                str(section.path), max_length=section.max_length, token_budget=section.token_budget
            )
        name = section.name or section.path or section.function or "reward"
        parts.append(Part(name, own, section.weight, section.combine, section.penalty))
    return RewardSum(parts)


def reward_function(reward: Reward, stops: Sequence[int], penalty: float) -> Callable[..., list[float]]:
    """A reward as TRL calls it, less the penalty where a completion did not end; the scores go to its table.

    Raises UserError for a score that is no number.
    """
    from alignment.backend.rewards import scored

    def score(
        prompts: Any,
        completions: Any,
        completion_ids: Any,
        log_metric: Any = None,
        log_extra: Any = None,
        **unused: Any,
    ) -> list[float]:
        finished = [bool(ids) and ids[-1] in stops for ids in completion_ids]
        texts = [completion_text(item) for item in completions]
        scores, parts = scored(reward, list(prompts), texts, finished)
        if log_metric is not None:
            for name, values in {"score": scores, **parts}.items():
                log_metric(name, float(values.mean()))
        if log_extra is not None:
            log_extra(SCORE, scores.tolist())
        return [value - penalty * (not ended) for value, ended in zip(scores.tolist(), finished, strict=True)]

    return score


def completion_text(completion: Any) -> str:
    """The text of a completion as TRL has it: itself, or the one message of a conversation."""
    return completion if isinstance(completion, str) else completion[0]["content"]


def short_prompts(
    config: RewardedConfig, tokenizer: Any, rows: list[Row], left_out: dict[str, int]
) -> tuple[list[Row], dict[str, int], dict[str, int]]:
    """The rows within max_prompt_length, counts of them, and how many records are left out by reason."""
    from alignment.backend.chat import render_prompt
    from alignment.backend.preflight import check_rows

    limit = config.max_prompt_length
    check_rows(rows, tokenizer, None, 1.0, "prompts")
    lengths = [len(render_prompt(tokenizer, row["prompt"])) for row in rows]
    kept = [(row, n) for row, n in zip(rows, lengths, strict=True) if limit is None or n <= limit]
    lost = len(rows) - len(kept)
    if lost > config.data.max_truncated * len(rows):
        raise UserError(
            f"{lost} of {len(rows)} prompts are over max_prompt_length {limit} (longest {max(lengths)}), "
            f"more than data.max_truncated {config.data.max_truncated:g} allows: raise one of the two"
        )
    tokens = [n for _, n in kept]
    counts = {"rows": len(kept), "tokens": sum(tokens), "longest": max(tokens, default=0), "truncated": 0}
    left_out = left_out | ({"longer than max_prompt_length": lost} if lost else {})
    return [row for row, _ in kept], counts, left_out


def check_room(policy: Any, longest: int, new_tokens: int) -> None:
    """UserError when the longest prompt and a completion do not fit into the model."""
    room = getattr(policy.config.get_text_config(), "max_position_embeddings", None)
    if room is not None and longest + new_tokens > room:
        raise UserError(
            f"the longest prompt has {longest} tokens and trainer.max_completion_length is {new_tokens}, but "
            f"the model holds {room}: set max_prompt_length, or lower trainer.max_completion_length"
        )


def _summary(history: list[dict[str, Any]]) -> dict[str, float]:
    rollouts = [entry for entry in history if "reward" in entry]
    if not rollouts:
        return {}
    last = {name.rpartition("/")[2]: rollouts[-1][name] for name in REPORTED if name in rollouts[-1]}
    return {"first_reward": rollouts[0]["reward"], **last}
