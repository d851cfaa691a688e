"""The PPO stage: configs, mistakes in a sentence, and a run with the reward model that a user would have."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignment.backend.config import load_config
from alignment.data.files import write_records
from alignment.data.records import Message, Record
from alignment.errors import UserError
from alignment.ppo.stage import Config, run


@pytest.fixture
def write_config(
    toy_model: str, toy_reward: str, toy_records: Callable[..., Any], tmp_path: Path
) -> Callable[..., Path]:
    """write_config(records=None) -> a config file over toy model, toy reward and 16 prompts."""

    def write(records: list[Record] | None = None) -> Path:
        write_records(tmp_path / "data.jsonl", records or toy_records(16), overwrite=True)
        (tmp_path / "ppo.yaml").write_text(f"""
stage: ppo
model: {{path: {toy_model}}}
reward: {{path: {toy_reward}}}
data: {{train: [{tmp_path / "data.jsonl"}]}}
trainer:
  max_steps: 2
  per_device_train_batch_size: 8
  max_completion_length: 6
  critic_warmup_steps: 1
  learning_rate: 1e-3
  save_strategy: "no"
run: {{dir: {tmp_path / "run"}}}
""")
        return tmp_path / "ppo.yaml"

    return write


@pytest.mark.parametrize("name", ["smollm2-135m/ppo", "llama-8b/ppo"])
def test_the_shipped_configs_load(name: str) -> None:
    assert load_config(Config, name).stage == "ppo"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("trainer.top_p=0.9", r"trainer\.top_p 0\.9 would make rollouts differ"),
        ("trainer.repetition_penalty=1.1", r"trainer\.repetition_penalty"),
        ("trainer.temperature=0.7", r"trainer\.temperature"),
        ("trainer.reward_weights=[1]", r"trainer\.reward_weights is not used by PPO"),
        ("trainer.gama=1", r"unknown key 'trainer\.gama'.*did you mean 'gamma'"),
        ("trainer.vf_coef=high", r"trainer\.vf_coef must be a number"),
        ("critic=rewrad", r"critic"),
        ("reward.pth=x", r"unknown key 'reward\.pth'; did you mean 'path'"),
        ("trainer.eval_strategy=steps", r"trainer\.eval_strategy needs prompts to evaluate on"),
        ("reward.function=a:b", r"reward has both a path and a function"),
    ],
)
def test_a_mistake_in_the_config_is_told_in_a_second(
    write_config: Callable[..., Path], override: str, sentence: str
) -> None:
    path = write_config()
    started = time.perf_counter()
    with pytest.raises(UserError, match=sentence):
        load_config(Config, path, [override])
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["reward.path=null"], "reward.path is missing"),
        (["more_rewards=[{weight: 2}]"], r"more_rewards\[0\].path is missing"),
        (["reward.path=null", "reward.function=nowhere:f"], r"'nowhere:f' cannot be found"),
        (["reward.path=null", "reward.function=.here:f"], r"'.here:f' cannot be found"),
        (["reward.path=null", "reward.function=:f"], r"':f' cannot be found"),
        (["trainer.generation_batch_size=24"], "16 prompts do not fill one rollout of 24"),
        (["trainer.critic_warmup_steps=2"], "2 optimiser steps and trainer.critic_warmup_steps is 2"),
        # 16 prompts of 2 micro-batches of 8, an optimiser step each, 2 iterations: 4 steps an epoch
        (
            ["trainer.max_steps=-1", "trainer.num_train_epochs=2", "trainer.critic_warmup_steps=8"],
            "8 optimiser steps and trainer.critic_warmup_steps is 8",
        ),
        (["trainer.total_episodes=3"], "lower steps_per_generation or per_device_train_batch_size"),
        (["max_prompt_length=5"], "16 of 16 prompts are over max_prompt_length 5"),
        (["trainer.max_completion_length=500"], "but the model holds 512: set max_prompt_length"),
    ],
)
def test_a_mistake_in_the_numbers_is_told_before_training(
    write_config: Callable[..., Path], overrides: list[str], sentence: str
) -> None:
    config = load_config(Config, write_config(), overrides)
    with pytest.raises(UserError, match=sentence):
        run(config)


def test_a_reward_function_in_the_current_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the installed command, whose own folder stands first where `python -m` has the current one."""
    from alignment.backend.rewards import FunctionScorer

    text = "def brevity(prompts, completions, finished):\n    return [-len(text) for text in completions]\n"
    (tmp_path / "rewards_of_mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert FunctionScorer("rewards_of_mine:brevity").score([[]], ["four"]) == [-4.0]
    (tmp_path / "colorsys.py").write_text(text)  # takes no place of a module of Python's
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(UserError, match="'colorsys:brevity' cannot be found"):
        FunctionScorer("colorsys:brevity")


def test_a_prompt_that_ends_with_the_assistant_is_named(write_config: Callable[..., Path]) -> None:
    prompt = [Message("user", "hi"), Message("assistant", "hello")]
    path = write_config([Record(prompt=prompt, id=f"r{i}") for i in range(8)])
    with pytest.raises(UserError, match="the prompt ends with the assistant"):
        run(load_config(Config, path))


def test_long_prompts_are_left_out_and_counted(write_config: Callable[..., Path]) -> None:
    records = [Record(prompt=[Message("user", "hi" if i % 4 else "so " * 40)], id=f"r{i}") for i in range(24)]
    changes = ["max_prompt_length=40", "data.max_truncated=0.25", "critic=policy"]
    metrics = run(load_config(Config, write_config(records), changes))["metrics"]
    assert metrics["rows"] == 18
    assert metrics["left_out"] == {"longer than max_prompt_length": 6}
    assert metrics["longest"] <= 40


@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
def test_a_run_from_reward_model_to_policy(
    write_config: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: bool
) -> None:
    from alignment.backend.models import load_policy, resolve_model_path
    from alignment.ppo.trainer import PPOTrainer

    made: list[PPOTrainer] = []
    train = PPOTrainer.train
    monkeypatch.setattr(
        PPOTrainer, "train", lambda self, **kwargs: [made.append(self), train(self, **kwargs)][1]
    )
    overrides = ["model.lora={r: 4}"] if lora else []
    config = load_config(Config, write_config(), overrides)
    result = run(config)
    metrics = result["metrics"]
    assert metrics["steps"] == 2
    assert metrics["rows"] == 16
    assert {"first_score", "score", "reward", "kl", "entropy", "eos_rate", "mean_length"} <= set(metrics)
    loaded = load_policy(
        config.model.model_copy(update={"path": resolve_model_path(result["run"]), "lora": None})
    )
    assert hasattr(loaded, "peft_config") == lora
    assert lora or loaded.generation_config.eos_token_id == [2]
    state = json.loads((tmp_path / "run" / "run.json").read_text())
    assert set(state["parents"]) == {config.model.path, config.reward.path}
    assert (tmp_path / "run" / "critic.safetensors").is_file()
    assert len((tmp_path / "run" / "samples.jsonl").read_text().splitlines()) == 4
    # The reward model's backbone is the toy's: with an adapter, critic and policy hold it once.
    shared = {p.data_ptr() for n, p in made[0].model.named_parameters() if "critic" not in n}
    own = [p for n, p in made[0].policy.critic.backbone.named_parameters() if "lora_" not in n]
    assert all((p.data_ptr() in shared) == lora for p in own)


def test_a_scorer_handed_over_is_used_and_may_be_any_program(
    write_config: Callable[..., Path], tmp_path: Path
) -> None:
    class Shouting:
        name = "shouting"

        def score(self, prompts: Any, completions: Any, finished: Any = None) -> list[float]:
            return [7.0] * len(completions)

    config = load_config(Config, write_config(), ["reward.path=null"])
    assert run(config, scorer=Shouting())["metrics"]["score"] == 7.0


def test_a_reward_model_with_another_tokenizer_scores_but_is_no_critic(
    write_config: Callable[..., Path], toy_reward: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    from alignment.backend import chat

    foreign = tmp_path / "foreign"
    shutil.copytree(toy_reward, foreign)
    template = foreign / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_start|>", "<|im_start|> "))
    chat._SAID.clear()
    run(load_config(Config, write_config(), [f"reward.path={foreign}"]))
    assert "has a tokenizer or template of its own" in caplog.text


def test_the_guide_names_every_option_and_every_metric() -> None:
    from alignment.ppo.config import PPOConfig
    from alignment.ppo.metrics import Clock, rollout_metrics, update_metrics

    guide = (Path(__file__).resolve().parents[2] / "docs" / "ppo.md").read_text()
    sums = """episodes tokens score score_squares reward kl surprise entropy finished value return
        return_squares error error_squares repetition"""
    zeros = dict.fromkeys(sums.split(), 1.0)
    clock = Clock()
    clock.seconds["score"] = 1.0
    metrics = {
        **rollout_metrics(zeros, 0.1, 1.0),
        **update_metrics([0.0] * 6, 1.0, True),
        **clock.metrics(1.0),
    }
    groups = ("objective/", "completions/", "val/num")
    options = [name for name in PPOConfig.__annotations__ if not name.startswith("gradient_checkpointing")]
    for name in [*options, *(name for name in metrics if not name.startswith(groups))]:
        assert f"`{name}`" in guide, name
