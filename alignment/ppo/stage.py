"""The PPO stage: sample completions to prompts, score them with a reward model, and optimise the policy.

The reference is the policy as given, the critic starts as the reward model. With validation prompts the
reward on them is followed while it trains, and the best checkpoint can be kept. Left out: whether the policy
became better (see evaluation/), which is not the reward model's to judge.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import pydantic

from alignment.backend.config import Section, StageConfig, trainer_args
from alignment.backend.inputs import counted, dataset, stage_rows
from alignment.backend.progress import say
from alignment.backend.runs import open_run
from alignment.errors import UserError
from alignment.ppo.limits import refusal

if TYPE_CHECKING:
    from alignment.backend.scoring import Scorer
    from alignment.ppo.rewards import Part

Row = dict[str, Any]
LORA_LEARNING_RATE = 1e-5  # adapters take ten times the rate of whole weights
# Of a logged rollout, what the stage's result says about the last one.
REPORTED = ("score", "reward", "kl", "entropy", "eos_rate", "completions/mean_length")


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
    token_budget: int = pydantic.Field(default=16_384, ge=1)
    """Tokens that are scored in one forward pass."""


class Config(StageConfig):
    """The config of a PPO run."""

    trainer_class: ClassVar[str] = "alignment.ppo.config:PPOConfig"

    stage: Literal["ppo"] = "ppo"
    reward: RewardSection = RewardSection()
    more_rewards: list[RewardSection] = pydantic.Field(default_factory=list)
    """Further rewards, added to the first by their weights."""
    critic: Literal["reward", "policy"] = "reward"
    """What the critic starts as: a reward model with the policy's own tokenizer, or else the policy."""
    max_prompt_length: int | None = pydantic.Field(default=None, ge=1)
    """Prompts of more tokens are left out, counted, and refused above data.max_truncated."""

    @pydantic.model_validator(mode="after")
    def _possible(self) -> Self:
        complaint = refusal(self.trainer)
        if complaint:
            raise UserError(f"trainer.{complaint}")
        held_out = bool(self.data.validation or self.data.validation_fraction)
        asked = [key for key in ("eval_strategy", "load_best_model_at_end") if self.trainer.get(key)]
        if asked and self.trainer[asked[0]] != "no" and not held_out:
            raise UserError(
                f"trainer.{asked[0]} needs prompts to evaluate on: give data.validation or "
                "data.validation_fraction"
            )
        for number, reward in enumerate([self.reward, *self.more_rewards]):
            if reward.path is not None and reward.function is not None:
                where = "reward" if number == 0 else f"more_rewards[{number - 1}]"
                raise UserError(f"{where} has both a path and a function: give one of them")
        return self


def run(config: Config, scorer: "Scorer | None" = None) -> dict[str, Any]:
    """Train `config.model` on the prompts of `config.data` against the reward; the stage's result dict.

    scorer: used instead of the model at `reward.path`. The policy alone is in DIR/model, the critic in
    DIR/critic.safetensors, samples in DIR/samples.jsonl.
    Metrics: {"steps", "epochs", "loss", "rows", "tokens", "longest", "left_out"}, of the first rollout
    "first_score", and of the last one "score", "reward", "kl", "entropy", "eos_rate", "mean_length".
    """
    rewards = [config.reward, *config.more_rewards]
    for number, reward in enumerate(rewards):
        if reward.path is None and reward.function is None and (scorer is None or number):
            where = "reward" if number == 0 else f"more_rewards[{number - 1}]"
            raise UserError(
                f"{where}.path is missing: PPO needs a reward model (`alignkit reward` trains one)"
            )
    rows = stage_rows(config.data, "prompts")
    models = [reward.path for reward in rewards if reward.path and "://" not in reward.path]
    parents = [config.model.path, *models]
    run = open_run(config, data=config.data.paths(), parents=parents)
    # After the checks that take no time: these imports take seconds.
    from transformers import set_seed

    from alignment.backend.chat import stop_ids
    from alignment.backend.memory import check_memory
    from alignment.backend.models import (
        is_adapter,
        load_policy,
        load_tokenizer,
        peft_config,
        resolve_model_path,
    )
    from alignment.backend.training import run_trainer
    from alignment.ppo.rewards import RewardSum
    from alignment.ppo.sampling import check_prompts
    from alignment.ppo.trainer import PPOTrainer
    from alignment.ppo.watch import rising_with_reward

    adapter = config.model.lora is not None or is_adapter(resolve_model_path(config.model.path))
    rate = {"learning_rate": LORA_LEARNING_RATE} if adapter and "learning_rate" not in config.trainer else {}
    args = trainer_args(config, run.checkpoints, **rate)
    tokenizer = load_tokenizer(config.model.path)
    prompts, counts, left_out = _short_prompts(config, tokenizer, rows.train, rows.left_out)
    unseen = _short_prompts(config, tokenizer, rows.validation, {})[0] if rows.validation else []
    check_prompts(len(prompts), args)
    check_memory(config.model, args, "ppo", counts["longest"] + args.max_completion_length)
    say(counted(counts, left_out))
    set_seed(config.run.seed)
    policy = load_policy(config.model)
    policy.generation_config.eos_token_id = stop_ids(tokenizer, policy.generation_config)
    _check_room(policy, counts["longest"], args.max_completion_length)
    lora = peft_config(config.model, "CAUSAL_LM")
    parts = [_part(reward, scorer if number == 0 else None) for number, reward in enumerate(rewards)]
    trainer = PPOTrainer(
        model=policy,
        reward=RewardSum(parts),
        args=args,
        train_dataset=dataset(prompts, ["prompt"]),
        eval_dataset=dataset(unseen, ["prompt"]),
        processing_class=tokenizer,
        critic=_critic(config, policy, tokenizer, parts[0].scorer, lora, share=not args.sharded),
        peft_config=lora,
        samples_path=run.dir / "samples.jsonl",
    )
    metrics = run_trainer(trainer, run)
    trainer.save_critic(run.dir / "critic.safetensors")
    summary = _summary(trainer.state.log_history)
    warnings = rising_with_reward(trainer.state.log_history)
    told = {"warnings": warnings} if warnings else {}
    return run.finish({**metrics, **counts, "left_out": left_out, **rows.lineage(), **summary, **told})


def _part(section: RewardSection, scorer: "Scorer | None") -> "Part":
    """The reward that a section describes; `scorer` is used instead of what it names."""
    from alignment.backend.scoring import load_scorer
    from alignment.ppo.rewards import FunctionScorer, Part

    if scorer is None and section.function is not None:
        scorer = FunctionScorer(section.function)
    if scorer is None:
        scorer = load_scorer(
            str(section.path), max_length=section.max_length, token_budget=section.token_budget
        )
    name = section.name or section.path or section.function or "reward"
    return Part(name, scorer, section.weight, section.combine, section.penalty)


def _short_prompts(
    config: Config, tokenizer: Any, rows: list[Row], left_out: dict[str, int]
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


def _check_room(policy: Any, longest: int, new_tokens: int) -> None:
    room = getattr(policy.config.get_text_config(), "max_position_embeddings", None)
    if room is not None and longest + new_tokens > room:
        raise UserError(
            f"the longest prompt has {longest} tokens and trainer.max_completion_length is {new_tokens}, but "
            f"the model holds {room}: set max_prompt_length, or lower trainer.max_completion_length"
        )


def _critic(config: Config, policy: Any, tokenizer: Any, scorer: Any, lora: Any, share: bool) -> Any:
    """A critic from the reward model, or None for the trainer to build one from the policy."""
    from alignment.backend.config import ModelSection
    from alignment.backend.ensembles import read_ensemble
    from alignment.backend.models import load_reward_model, resolve_model_path
    from alignment.ppo.critic import critic_of_reward_model

    path = config.reward.path
    if config.critic == "policy" or path is None or not hasattr(scorer, "tell_if_foreign"):
        return None  # a service or a function has no weights to start from
    if scorer.tell_if_foreign(tokenizer):
        return None
    ensemble = read_ensemble(resolve_model_path(path))
    if ensemble is not None and ensemble.kind == "runs":
        path = str(Path(resolve_model_path(path)) / "0")
    dtype: Any = str(policy.dtype).removeprefix("torch.")
    section = ModelSection(path=path, dtype=dtype, attention=config.model.attention)
    own = policy.peft_config["default"] if hasattr(policy, "peft_config") else lora
    return critic_of_reward_model(load_reward_model(section), own, policy if share else None)


def _summary(history: list[dict[str, Any]]) -> dict[str, float]:
    rollouts = [entry for entry in history if "score" in entry]
    if not rollouts:
        return {}
    last = {name.rpartition("/")[2]: rollouts[-1][name] for name in REPORTED}
    return {"first_score": rollouts[0]["score"], **last}
