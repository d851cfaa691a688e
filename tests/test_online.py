"""RLOO and GRPO: PPO's sections, data and scorers; samples that are the policy's own; a resume to the bit."""

from __future__ import annotations

import inspect
import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from killing import Job, Outcome, outcomes
from trl.generation.vllm_generation import VLLMGeneration

from alignment import grpo, rloo
from alignment.backend import chat, online_trainer
from alignment.backend.config import ModelSection, load_config
from alignment.backend.generation.graph import GraphEngine
from alignment.backend.models import load_policy
from alignment.backend.online import reward_function
from alignment.backend.packed import compile_layers
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
    samples = samples_of(result)
    assert [sample["step"] for sample in samples] == [0] * 4 + [1] * 4 + [2] * 4  # no evaluation's
    assert len({sample["prompt"][0]["content"] for sample in samples[:4]}) == 1  # four completions a prompt
    for sample in samples:
        assert sample["reward"] == pytest.approx(sample["score"] - 0.5 * (not sample["finished"]), abs=1e-5)
        assert isinstance(sample["completion"], str)
        assert 1 <= sample["tokens"] <= 6
    assert list(read_run(result["run"])["parents"]) == [toy_model, toy_reward]
    before, after = (
        load_policy(ModelSection(path=path)).state_dict() for path in (toy_model, result["model"])
    )
    assert any(not torch.equal(before[key], after[key]) for key in before)


def samples_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(result["run"]) / "samples.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("lora", ["null", "{r: 4}"])
@pytest.mark.parametrize("name", STAGES)
def test_rollouts_by_the_graph_engine(
    load: Any, name: str, lora: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uncaptured, as a CPU runs it; float32 weights that are trained under autocast sample as bfloat16."""
    made: list[Any] = []

    class Noting(GraphEngine):
        def decode(self, rows: Any, *how: Any) -> Any:
            made.append((self, rows, how, super().decode(rows, *how)))
            return made[-1][-1]

    monkeypatch.setattr(online_trainer, "why_not", lambda *settings: None)
    monkeypatch.setattr(online_trainer, "GraphEngine", Noting)
    asked = ["trainer.rollout_engine=graph", "trainer.temperature=0.7", "trainer.bf16=true"]
    given = ["trainer.num_generations=4", "trainer.samples_per_rollout=8", f"model.lora={lora}"]
    result = STAGES[name].run(load(STAGES[name], *asked, *given))
    assert len(made) == 3  # nothing was sampled by transformers
    engine, rows, how, found = made[0]
    assert (engine.model is engine.source) == (lora != "null")
    assert {key.dtype for _, key, _ in engine.layers} == {torch.bfloat16}
    assert (
        engine.model.base_model.forward.__self__ is engine.model.base_model
    )  # a copy's own, unpadded or not
    assert how[0] == 6
    assert how[-1] == 0.7
    assert rows[0] == rows[3] != rows[4]
    assert [sample["tokens"] for sample in samples_of(result)[:8]] == [len(got.token_ids) for got in found]
    assert len({tuple(got.token_ids) for got in found[:4]}) > 1
    assert result["metrics"]["steps"] == 3
    if lora == "null":  # the copy follows the weights that are trained
        engine.decode([[5, 6]], 2, [2], 0)
        trained = load_policy(ModelSection(path=result["model"]), trainable=False, device="cpu").state_dict()
        for key, value in engine.model.named_parameters():
            assert torch.equal(value, trained[key].to(torch.bfloat16)), key


def test_the_graph_engine_is_not_used_on_a_cpu(
    load: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "_SAID", set())
    given = ["trainer.rollout_engine=graph", "trainer.num_generations=4", "trainer.max_steps=1"]
    assert rloo.run(load(rloo, *given))["metrics"]["steps"] == 1
    assert "trainer.rollout_engine graph is not used: the model is on cpu" in caplog.text


def test_the_engine_is_made_before_anything_is_compiled_for_it(
    toy_model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It looks at attention modules, which compiled layers would hide; nothing is compiled to look."""
    monkeypatch.setattr(online_trainer, "why_not", lambda *settings: None)
    monkeypatch.setattr(chat, "_SAID", set())
    policy = load_policy(ModelSection(path=toy_model), trainable=False, device="cpu")
    compile_layers(policy)
    args = SimpleNamespace(
        rollout_engine="graph", use_vllm=False, bf16=False, fp16=False, fsdp=[], deepspeed=None
    )
    torch._dynamo.utils.counters.clear()
    engine = online_trainer.graph_engine(policy, args, True)
    assert engine is not None
    assert len(engine.layers) == policy.config.num_hidden_layers
    assert not torch._dynamo.utils.counters["stats"]
    for change, why in (({"use_vllm": True}, "use_vllm is on"), ({"fsdp": ["full_shard"]}, "shard")):
        assert online_trainer.graph_engine(policy, SimpleNamespace(**{**vars(args), **change}), True) is None
        assert why in caplog.text
    assert online_trainer.graph_engine(policy, SimpleNamespace(rollout_engine="transformers"), True) is None


@pytest.mark.parametrize("lora", ["null", "{r: 4}"])
@pytest.mark.parametrize("name", ["rloo", "grpo", "ppo"])
def test_use_vllm_is_passed_through_to_trl(
    load: Any, name: str, lora: str, toy_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM itself cannot run here: in its place is what TRL calls, held to the signatures that TRL has.

    As TRL does, it merges adapters in place; the base in bfloat16 is the same to the bit all the same.
    """
    module: Any = {**STAGES, "ppo": ppo}[name]
    real, synced, asked = VLLMGeneration, [], []

    class Stub:
        def __init__(self, **named: Any) -> None:
            inspect.signature(real.__init__).bind(self, **named)
            self.model = named["model"]
            asked.append((named["mode"], named["temperature"], named["max_completion_length"]))

        def sync_weights(self) -> None:
            synced.append(self.model)
            if lora != "null":
                self.model.merge_adapter()
                self.model.unmerge_adapter()

        def generate(self, **named: Any) -> Any:
            inspect.signature(real.generate).bind(self, **named)
            ids = [[5 + row % 3, 6] for row in range(len(named["prompts"]))]
            return None, ids, [[[-1.0], [-1.0]] for _ in ids], None

    place = "trl.trainer.grpo_trainer" if name == "grpo" else "trl.trainer.rloo_trainer"
    monkeypatch.setattr(f"{place}.VLLMGeneration", Stub)
    more = ["trainer.critic_warmup_steps=0"] if name == "ppo" else ["missing_eos_penalty=0.5"]
    given = ["trainer.use_vllm=true", "trainer.vllm_mode=colocate", "trainer.num_generations=4", *more]
    how = [f"model.lora={lora}", "model.dtype=bfloat16", "trainer.learning_rate=0.1"]
    result = module.run(load(module, *given, *how))
    assert result["metrics"]["steps"] == 3
    assert asked == [("colocate", 1.0, 6)]
    assert synced
    if lora != "null":
        base = load_policy(ModelSection(path=toy_model, dtype="bfloat16"), trainable=False, device="cpu")
        for key, value in synced[-1].get_base_model().state_dict().items():
            if ".base_layer." in key:
                assert torch.equal(value, base.state_dict()[key.replace(".base_layer", "")]), key
    assert {sample["tokens"] for sample in samples_of(result)} == {2}


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", ["false", "true"])
@pytest.mark.parametrize("lora", ["null", "{r: 4}"])
@pytest.mark.parametrize("name", STAGES)
def test_on_a_gpu_the_graph_engine_rolls_out(
    load: Any, name: str, lora: str, compiled: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = ["trainer.num_generations=4", f"trainer.torch_compile={compiled}", f"model.lora={lora}"]
    result = STAGES[name].run(load(STAGES[name], "trainer.rollout_engine=graph", *given))
    assert "is not used" not in caplog.text
    assert len(samples_of(result)) == 12
    lines = [json.loads(line) for line in (Path(result["run"]) / "metrics.jsonl").read_text().splitlines()]
    kl = [line["kl"] for line in lines if "kl" in line]
    assert kl[0] == pytest.approx(0, abs=0.02)
    assert abs(kl[-1]) > 0


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
        ("trainer.rollout_engine=grahp", r"trainer\.rollout_engine must be .*; did you mean 'graph'"),
        ("trainer.rollout_engin=graph", r"GRPOConfig has no such option; did you mean 'rollout_engine'"),
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
    "graph": [f"{RLOO}._compute_loss@13"],
}
MODULES = {"rloo": "alignment.rloo", "grpo": "alignment.grpo", "graph": "rloo_by_graph"}
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
  rollout_engine: {engine}
run: {{dir: replaced, seed: 3}}
"""


@pytest.fixture(scope="module")
def found(
    toy_model: str, toy_reward: str, toy_records: Callable[..., Any], tmp_path_factory: Any
) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("online-resume")
    write_records(folder / "data.jsonl", toy_records(9))
    values = {"model": toy_model, "reward": toy_reward, "data": folder / "data.jsonl"}
    how = {
        "rloo": {"stage": "rloo", "lora": "", "engine": "transformers"},
        "grpo": {"stage": "grpo", "lora": ", lora: {r: 4}", "engine": "transformers"},
        "graph": {"stage": "rloo", "lora": "", "engine": "graph"},
    }
    jobs = [
        Job(MODULES[kind], CONFIG.format(**how[kind], **values), moments) for kind, moments in MOMENTS.items()
    ]
    heavy = ("torch", "transformers.trainer", RLOO.partition(":")[0], GRPO.partition(":")[0])
    found = outcomes(jobs, folder / "runs", heavy)
    return {
        f"{kind} {moment}": outcome
        for kind, job in zip(MOMENTS, found, strict=True)
        for moment, outcome in job.items()
    }


@pytest.mark.parametrize("moment", [f"{kind} {moment}" for kind, ms in MOMENTS.items() for moment in ms])
def test_killed_and_resumed_is_bit_equal(found: dict[str, Outcome], moment: str) -> None:
    outcome = found[moment]
    assert outcome.exit == (143 if "!" in moment else -signal.SIGKILL), outcome.log
    assert outcome.resumed == 0, outcome.log
    assert outcome.equal, outcome.log
    assert "is not used" not in outcome.log
    run = Path(outcome.run)
    samples = (run / "samples.jsonl").read_bytes()
    assert samples == (run.parent / "unbroken" / "samples.jsonl").read_bytes()
    assert [json.loads(line)["step"] for line in samples.splitlines()] == sorted([0, 4, 8, 12] * 4)


def test_the_methods_of_trl_that_are_overridden() -> None:
    """design/training.md 15: what Resumable and reward_function rest on."""
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
        assert 'reward_kwargs["log_extra"] = self._log_completion_extra' in rewards
        extra = inspect.getsource(trainer._log_completion_extra)
        assert "self._pending_extra_logs[column].extend(values)" in extra
        arguments = list(inspect.signature(trainer._calculate_rewards).parameters)
        assert arguments == ["self", "inputs", "prompts", "completions", "completion_ids_list"]
        arguments = list(inspect.signature(trainer._generate_single_turn).parameters)
        assert arguments[:4] == ["self", "prompt_ids", "images", "multimodal_fields"]
        made = "completion_ids, logprobs = " if trainer is trl.GRPOTrainer else "completion_ids = "
        assert f"{made}self._generate_single_turn(" in inspect.getsource(trainer._generate)
        assert 'reward_kwargs["log_metric"] = self._log_metric' in rewards
        for name in ("_save_optimizer_and_scheduler", "_load_optimizer_and_scheduler"):
            assert len(inspect.signature(getattr(trainer, name)).parameters) == 2
