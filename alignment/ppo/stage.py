"""The PPO stage: sample completions to prompts, score them with a reward model, and optimise the policy.

The reference is the policy as given, the critic starts as the reward model. Left out: evaluation on held-out
prompts (see evaluation/), which is not the reward model's to judge.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import pydantic

from alignment.backend.config import Section, StageConfig, trainer_args
from alignment.backend.inputs import counted, dataset, stage_rows
from alignment.backend.progress import say
from alignment.backend.runs import open_run
from alignment.errors import UserError
from alignment.ppo.limits import refusal

if TYPE_CHECKING:
    from alignment.backend.inputs import StageRows
    from alignment.backend.scoring import Scorer

Row = dict[str, Any]
LORA_LEARNING_RATE = 1e-5  # adapters take ten times the rate of whole weights
# Of a logged rollout, what the stage's result says about the last one.
REPORTED = ("score", "reward", "kl", "entropy", "eos_rate", "completions/mean_length")


class RewardSection(Section):
    """What scores the completions."""

    path: str | None = None
    """The reward model: a run directory, a folder or a hub id; null where Python hands a scorer over."""
    max_length: int | None = pydantic.Field(default=None, ge=1)
    """Longer texts lose their first tokens before they are scored; null goes by the model."""
    token_budget: int = pydantic.Field(default=16_384, ge=1)
    """Tokens that are scored in one forward pass."""


class Config(StageConfig):
    """The config of a PPO run."""

    trainer_class: ClassVar[str] = "alignment.ppo.config:PPOConfig"

    stage: Literal["ppo"] = "ppo"
    reward: RewardSection = RewardSection()
    critic: Literal["reward", "policy"] = "reward"
    """What the critic starts as: a reward model with the policy's own tokenizer, or else the policy."""
    max_prompt_length: int | None = pydantic.Field(default=None, ge=1)
    """Prompts of more tokens are left out, counted, and refused above data.max_truncated."""

    @pydantic.model_validator(mode="after")
    def _possible(self) -> Self:
        complaint = refusal(self.trainer)
        if complaint:
            raise UserError(f"trainer.{complaint}")
        if self.data.validation or self.data.validation_fraction:
            raise UserError(
                "data.validation: PPO does not evaluate while it trains; keep held-out prompts for "
                "`alignkit evaluate`"
            )
        return self


def run(config: Config, scorer: "Scorer | None" = None) -> dict[str, Any]:
    """Train `config.model` on the prompts of `config.data` against the reward; the stage's result dict.

    scorer: used instead of the model at `reward.path`. The policy alone is in DIR/model, the critic in
    DIR/critic.safetensors, samples in DIR/samples.jsonl.
    Metrics: {"steps", "epochs", "loss", "rows", "tokens", "longest", "left_out"}, of the first rollout
    "first_score", and of the last one "score", "reward", "kl", "entropy", "eos_rate", "mean_length".
    """
    if scorer is None and config.reward.path is None:
        raise UserError("reward.path is missing: PPO needs a reward model (`alignkit reward` trains one)")
    rows = stage_rows(config.data, "prompts")
    parents = [path for path in (config.model.path, config.reward.path) if path is not None]
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
    from alignment.backend.scoring import load_scorer
    from alignment.backend.training import run_trainer
    from alignment.ppo.sampling import check_prompts
    from alignment.ppo.trainer import PPOTrainer

    adapter = config.model.lora is not None or is_adapter(resolve_model_path(config.model.path))
    rate = {"learning_rate": LORA_LEARNING_RATE} if adapter and "learning_rate" not in config.trainer else {}
    args = trainer_args(config, run.checkpoints, **rate)
    tokenizer = load_tokenizer(config.model.path)
    prompts, counts, left_out = _short_prompts(config, tokenizer, rows)
    check_prompts(len(prompts), args)
    check_memory(config.model, args, "ppo", counts["longest"] + args.max_completion_length)
    say(counted(counts, left_out))
    set_seed(config.run.seed)
    policy = load_policy(config.model)
    policy.generation_config.eos_token_id = stop_ids(tokenizer, policy.generation_config)
    _check_room(policy, counts["longest"], args.max_completion_length)
    lora = peft_config(config.model, "CAUSAL_LM")
    if scorer is None:
        reward = config.reward
        scorer = load_scorer(str(reward.path), max_length=reward.max_length, token_budget=reward.token_budget)
    trainer = PPOTrainer(
        model=policy,
        reward=scorer.score,
        args=args,
        train_dataset=dataset(prompts, ["prompt"]),
        processing_class=tokenizer,
        critic=_critic(config, policy, tokenizer, scorer, lora, share=not args.sharded),
        peft_config=lora,
        samples_path=run.dir / "samples.jsonl",
    )
    metrics = run_trainer(trainer, run)
    trainer.save_critic(run.dir / "critic.safetensors")
    summary = _summary(trainer.state.log_history)
    return run.finish({**metrics, **counts, "left_out": left_out, **rows.lineage(), **summary})


def _short_prompts(
    config: Config, tokenizer: Any, all_rows: "StageRows"
) -> tuple[list[Row], dict[str, int], dict[str, int]]:
    """The rows within max_prompt_length, counts of them, and how many records are left out by reason."""
    from alignment.backend.chat import render_prompt
    from alignment.backend.preflight import check_rows

    rows, limit = all_rows.train, config.max_prompt_length
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
    left_out = all_rows.left_out | ({"longer than max_prompt_length": lost} if lost else {})
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
    from alignment.backend.models import load_reward_model
    from alignment.ppo.critic import critic_of_reward_model

    foreign = hasattr(scorer, "tell_if_foreign") and scorer.tell_if_foreign(tokenizer)
    if config.critic == "policy" or config.reward.path is None or foreign:
        return None
    dtype: Any = str(policy.dtype).removeprefix("torch.")
    section = ModelSection(path=config.reward.path, dtype=dtype, attention=config.model.attention)
    own = policy.peft_config["default"] if hasattr(policy, "peft_config") else lora
    return critic_of_reward_model(load_reward_model(section), own, policy if share else None)


def _summary(history: list[dict[str, Any]]) -> dict[str, float]:
    rollouts = [entry for entry in history if "score" in entry]
    if not rollouts:
        return {}
    last = {name.rpartition("/")[2]: rollouts[-1][name] for name in REPORTED}
    return {"first_score": rollouts[0]["score"], **last}
