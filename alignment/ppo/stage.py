"""The PPO stage: sample completions to prompts, score them with a reward model, and optimise the policy.

The reference is the policy as given, the critic starts as the reward model. With validation prompts the
reward on them is followed while it trains, and the best checkpoint can be kept. Left out: whether the policy
became better (see evaluation/), which is not the reward model's to judge.
"""

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import pydantic

from alignment.backend.config import trainer_args
from alignment.backend.inputs import counted, dataset, stage_rows
from alignment.backend.online import RewardedConfig, adapter_rate, check_room, reward_sum, short_prompts
from alignment.backend.progress import say
from alignment.backend.runs import open_run
from alignment.errors import UserError
from alignment.ppo.limits import refusal

if TYPE_CHECKING:
    from alignment.backend.scoring import Scorer

# Of a logged rollout, what the stage's result says about the last one.
REPORTED = ("score", "reward", "kl", "entropy", "eos_rate", "completions/mean_length")


class Config(RewardedConfig):
    """The config of a PPO run."""

    trainer_class: ClassVar[str] = "alignment.ppo.config:PPOConfig"

    stage: Literal["ppo"] = "ppo"
    critic: Literal["reward", "policy"] = "reward"
    """What the critic starts as: a reward model with the policy's own tokenizer, or else the policy."""

    @pydantic.model_validator(mode="after")
    def _possible(self) -> Self:
        complaint = refusal(self.trainer)
        if complaint:
            raise UserError(f"trainer.{complaint}")
        return self


def run(config: Config, scorer: "Scorer | None" = None) -> dict[str, Any]:
    """Train `config.model` on the prompts of `config.data` against the reward; the stage's result dict.

    scorer: used instead of the model at `reward.path`. The policy alone is in DIR/model, the critic in
    DIR/critic.safetensors, samples in DIR/samples.jsonl.
    Metrics: {"steps", "epochs", "loss", "rows", "tokens", "longest", "left_out"}, of the first rollout
    "first_score", and of the last one "score", "reward", "kl", "entropy", "eos_rate", "mean_length".
    """
    config.check_rewards(scorer)
    rows = stage_rows(config.data, "prompts")
    run = open_run(config, data=config.data.paths(), parents=config.parents())
    # After the checks that take no time: these imports take seconds.
    from transformers import set_seed

    from alignment.backend.chat import stop_ids
    from alignment.backend.memory import check_memory
    from alignment.backend.models import load_policy, load_tokenizer, peft_config
    from alignment.backend.online_trainer import check_prompts
    from alignment.backend.packed import compile_layers
    from alignment.backend.training import run_trainer
    from alignment.ppo.trainer import PPOTrainer
    from alignment.ppo.watch import rising_with_reward

    args = trainer_args(config, run.checkpoints, **adapter_rate(config))
    tokenizer = load_tokenizer(config.model.path)
    prompts, counts, left_out = short_prompts(config, tokenizer, rows.train, rows.left_out)
    unseen = short_prompts(config, tokenizer, rows.validation, {})[0] if rows.validation else []
    check_prompts(len(prompts), args)
    _check_warmup(len(prompts), args)
    check_memory(config, args, "ppo", ceil(_typical(counts, args) + args.max_completion_length))
    say(counted(counts, left_out))
    set_seed(config.run.seed)
    policy = load_policy(config.model)
    policy.generation_config.eos_token_id = stop_ids(tokenizer, policy.generation_config)
    check_room(policy, counts["longest"], args.max_completion_length)
    lora = peft_config(config.model, "CAUSAL_LM")
    reward = reward_sum(config, scorer)
    trainer = PPOTrainer(
        model=policy,
        reward=reward,
        args=args,
        train_dataset=dataset(prompts, ["prompt"]),
        eval_dataset=dataset(unseen, ["prompt"]),
        processing_class=tokenizer,
        critic=_critic(config, policy, tokenizer, reward.first, lora, share=not args.sharded),
        peft_config=lora,
        samples_path=run.dir / "samples.jsonl",
    )
    if args.compile_layers:
        for model in reward.models:
            compile_layers(model)
    metrics = run_trainer(trainer, run)
    trainer.save_critic(run.dir / "critic.safetensors")
    summary = _summary(trainer.state.log_history)
    warnings = rising_with_reward(trainer.state.log_history)
    told = {"warnings": warnings} if warnings else {}
    return run.finish({**metrics, **counts, "left_out": left_out, **rows.lineage(), **summary, **told})


def _typical(counts: dict[str, int], args: Any) -> float:
    """Tokens of a prompt as a micro-batch has them on average: rows are dealt so that all are about alike."""
    mean = counts["tokens"] / max(counts["rows"], 1)
    return mean + (counts["longest"] - mean) / args.per_device_train_batch_size


def _check_warmup(prompts: int, args: Any) -> None:
    """UserError where training ends within the critic's warm-up, and the policy would stay as it is."""
    steps = args.max_steps
    if steps <= 0:
        rollouts = prompts // (args.generation_batch_size // args.num_generations)
        steps = ceil(args.num_train_epochs * rollouts * args.updates_per_generation)
    if steps <= args.critic_warmup_steps:
        raise UserError(
            f"the run has {steps} optimiser steps and trainer.critic_warmup_steps is "
            f"{args.critic_warmup_steps}: the policy would not be trained; lower it, or train for longer"
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
