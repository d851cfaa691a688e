"""RLOO and GRPO: PPO's sections, data and scorers; samples that are the policy's own; a resume to the bit."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import Job, Outcome, outcomes

from alignment import grpo, rloo
from alignment.backend.config import ModelSection, load_config
from alignment.backend.models import load_policy
from alignment.backend.online import reward_function
from alignment.backend.runs import read_run
from alignment.data.files import write_records
from alignment.errors import UserError
from alignment.ppo import stage as ppo

STAGES: dict[str, Any] = {"rloo": rloo, "grpo": grpo}


@pytest.fixture
def load(toy_model: str, toy_reward: str, toy_records: Callable[..., Any], tmp_path: Path) -> Any:
    """load(module, override, …): its config over toy model, toy reward and 16 prompts."""
    write_records(tmp_path / "data.jsonl", toy_records(16))

    def config(module: Any, *overrides: str) -> Any:
        stage = module.Config.model_fields["stage"].default
        (tmp_path / "config.yaml").write_text(f"""
stage: {stage}
model: {{path: {toy_model}}}
reward: {{path: {toy_reward}}}
data: {{train: [{tmp_path / "data.jsonl"}]}}
trainer:
  max_steps: 3
  per_device_train_batch_size: 8
  max_completion_length: 6
  learning_rate: 1e-3
  logging_steps: 1
  beta: 0.1
  save_strategy: "no"
run: {{dir: {tmp_path / "run"}}}
""")
        return load_config(module.Config, tmp_path / "config.yaml", overrides)

    return config


@pytest.mark.parametrize("name", STAGES)
def test_a_run(load: Any, name: str, toy_model: str, toy_reward: str) -> None:
    given = ["trainer.num_generations=4", "data.validation_fraction=0.3", "missing_eos_penalty=0.5"]
    result = STAGES[name].run(load(STAGES[name], *given))
    metrics = result["metrics"]
    assert metrics["steps"] == 3
    assert {"first_reward", "reward", "kl", "mean_length", "clipped_ratio", "eval_loss"} <= set(metrics)
    lines = [json.loads(line) for line in (Path(result["run"]) / "metrics.jsonl").read_text().splitlines()]
    kl = [line["kl"] for line in lines if "kl" in line]
    assert kl[0] == pytest.approx(0, abs=1e-6)  # the reference is the policy as given
    assert abs(kl[-1]) > 1e-6
    first = next(line for line in lines if "score" in line)
    clipped = first["completions/clipped_ratio"]
    assert first["reward"] == pytest.approx(first["score"] - 0.5 * clipped, abs=1e-5)
    assert list(read_run(result["run"])["parents"]) == [toy_model, toy_reward]
    before, after = (
        load_policy(ModelSection(path=path)).state_dict() for path in (toy_model, result["model"])
    )
    assert any(not torch.equal(before[key], after[key]) for key in before)


class Vowels:
    """Rewards the share of completions' letters that are e."""

    name = "vowels"

    def score(self, prompts: Any, completions: Any, finished: Any = None) -> list[float]:
        return [text.count("e") / (1 + len(text)) for text in completions]


@pytest.mark.parametrize("name", STAGES)
def test_it_learns_from_a_scorer_in_python(load: Any, name: str) -> None:
    config = load(
        STAGES[name],
        "reward.path=null",
        "missing_eos_penalty=0",
        "trainer={max_steps: 14, per_device_train_batch_size: 32, num_generations: 8, beta: 0.0, "
        "max_completion_length: 8, learning_rate: 1e-2, logging_steps: 1, save_strategy: 'no'}",
    )
    metrics = STAGES[name].run(config, scorer=Vowels())["metrics"]
    assert metrics["reward"] > 2 * metrics["first_reward"] > 0


def test_the_reward_that_trl_calls() -> None:
    given: list[Any] = []

    def reward(prompts: Any, texts: Any, finished: Any) -> list[float]:
        given.append((prompts, texts, finished))
        return [1.0, 2.0]

    told: dict[str, float] = {}
    score = reward_function(reward, stops=[7], penalty=0.25)
    completions = [[{"role": "assistant", "content": "a"}], [{"role": "assistant", "content": "b"}]]
    found = score(["p", "q"], completions, [[1, 7], [1, 2]], log_metric=told.__setitem__, trainer_state=None)
    assert found == [1.0, 1.75]
    assert given == [(["p", "q"], ["a", "b"], [True, False])]
    assert told == {"score": 1.5}
    with pytest.raises(UserError, match="the reward is nan"):
        reward_function(lambda *_: [float("nan")], [7], 0.0)(["p"], ["a"], [[7]])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trainer.top_p=0.9", r"trainer\.top_p 0\.9 would make samples differ"),
        ("trainer.generation_kwargs={typical_p: 0.5}", r"generation_kwargs\.typical_p"),
        ("trainer.use_transformers_continuous_batching=true", "half precision"),
        ("trainer.critic_warmup_steps=3", r"unknown key 'trainer\.critic_warmup_steps'"),
        ("reward.pth=x", r"unknown key 'reward\.pth'; did you mean 'path'"),
        ("trainer.eval_strategy=steps", r"trainer\.eval_strategy needs prompts"),
        ("reward.function=a:b", "reward has both a path and a function"),
    ],
)
def test_refusals(load: Any, override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(grpo, override)


def test_what_is_missing_is_told_before_anything_is_loaded(load: Any) -> None:
    with pytest.raises(UserError, match=r"reward\.path is missing: RLOO needs a reward model"):
        rloo.run(load(rloo, "reward.path=null"))
    with pytest.raises(UserError, match="16 prompts do not fill one rollout"):
        rloo.run(load(rloo, "trainer.per_device_train_batch_size=64"))


def test_temperature_is_allowed_for_trl_trains_what_it_samples(load: Any) -> None:
    assert load(rloo, "trainer.temperature=0.7").trainer["temperature"] == 0.7


def test_the_sections_are_those_of_ppo() -> None:
    """So that a comparison changes the stage's line and, in `trainer:`, what only one of them has."""
    shared = set(ppo.Config.model_fields) - {"critic"}
    for module in STAGES.values():
        assert set(module.Config.model_fields) - {"missing_eos_penalty"} == shared
    for size in ("quickstart", "smollm2-135m"):
        configs = [load_config(m.Config, f"{size}/{s}") for s, m in {**STAGES, "ppo": ppo}.items()]
        for section in ("model", "reward", "data", "max_prompt_length"):
            assert len({str(getattr(config, section)) for config in configs}) == 1, section


RLOO, GRPO = "trl.trainer.rloo_trainer:RLOOTrainer", "trl.trainer.grpo_trainer:GRPOTrainer"
# A rollout is 4 optimiser steps, an epoch 2 rollouts: most checkpoints lie inside a rollout.
MOMENTS = {
    "rloo": [f"{RLOO}._compute_loss@8", f"{RLOO}._generate@3", f"{RLOO}._compute_loss@13"],
    "grpo": [f"{GRPO}._compute_loss@8", f"{GRPO}._generate@3!SIGTERM"],
}
CONFIG = """
stage: {stage}
model: {{path: {model}{lora}}}
reward: {{path: {reward}}}
data: {{train: [{data}]}}
trainer:
  max_steps: 14
  per_device_train_batch_size: 4
  num_generations: 2
  steps_per_generation: 2
  num_iterations: 2
  max_completion_length: 6
  learning_rate: 1e-3
  beta: 0.1
  save_steps: 3
  logging_steps: 1
run: {{dir: replaced, seed: 3}}
"""


@pytest.fixture(scope="module")
def found(
    toy_model: str, toy_reward: str, toy_records: Callable[..., Any], tmp_path_factory: Any
) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("online-resume")
    write_records(folder / "data.jsonl", toy_records(9))
    values = {"model": toy_model, "reward": toy_reward, "data": folder / "data.jsonl"}
    lora = {"rloo": "", "grpo": ", lora: {r: 4}"}
    jobs = [
        Job(f"alignment.{stage}", CONFIG.format(stage=stage, lora=lora[stage], **values), moments)
        for stage, moments in MOMENTS.items()
    ]
    heavy = ("torch", "transformers.trainer", RLOO.partition(":")[0], GRPO.partition(":")[0])
    found = outcomes(jobs, folder / "runs", heavy)
    return {
        f"{stage} {moment}": outcome
        for stage, job in zip(MOMENTS, found, strict=True)
        for moment, outcome in job.items()
    }


@pytest.mark.parametrize("moment", [f"{stage} {moment}" for stage, ms in MOMENTS.items() for moment in ms])
def test_killed_and_resumed_is_bit_equal(found: dict[str, Outcome], moment: str) -> None:
    outcome = found[moment]
    assert outcome.exit == (143 if "!" in moment else -signal.SIGKILL), outcome.log
    assert outcome.resumed == 0, outcome.log
    assert outcome.equal, outcome.log


def test_the_methods_of_trl_that_are_overridden() -> None:
    """design/training.md 15: what Resumable and reward_function rest on."""
    import inspect

    import trl

    for trainer in (trl.RLOOTrainer, trl.GRPOTrainer):
        prepare = inspect.getsource(trainer._prepare_inputs)
        assert "self._step % generate_every == 0 or self._buffered_inputs is None" in prepare
        assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in prepare
        assert "self._step += 1" in inspect.getsource(trainer.training_step)
        sampler = inspect.getsource(trainer._get_train_sampler)
        for line in (
            "mini_repeat_count=self.num_generations",
            "batch_size=self.args.generation_batch_size // self.num_generations",
            "repeat_count=self.num_iterations * self.args.steps_per_generation",
            "seed=self.args.seed",
        ):
            assert line in sampler
        assert list(inspect.signature(trainer._generate).parameters) == ["self", "prompts"]
        rewards = inspect.getsource(trainer._calculate_rewards)
        assert "completion_ids=completion_ids_list, **reward_kwargs" in rewards
        assert 'reward_kwargs["log_metric"] = self._log_metric' in rewards
        for name in ("_save_optimizer_and_scheduler", "_load_optimizer_and_scheduler"):
            assert len(inspect.signature(getattr(trainer, name)).parameters) == 2
