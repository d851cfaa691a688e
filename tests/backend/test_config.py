"""Configs: what is read, and that every mistake is one sentence with file, line and key, in a moment."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import pydantic
import pytest

from alignment.backend.config import (
    Section,
    StageConfig,
    load_config,
    resolve_config_path,
    shipped_configs,
    trainer_args,
)
from alignment.backend.trainer_keys import trainer_options
from alignment.errors import UserError

GOOD = """\
stage: sft
model:
  path: tiny
  lora: {r: 8}
data:
  train: [a.jsonl]
trainer:
  learning_rate: 1e-5
  max_steps: 10
run:
  dir: runs/x
"""


class Config(StageConfig):
    trainer_class: ClassVar[str] = "trl.trainer.sft_config:SFTConfig"
    stage: Literal["sft"] = "sft"


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def complaint(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(Config, write(folder, text), overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder / "c.yaml"), "FILE")


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    config = load_config(Config, write(tmp_path, GOOD))
    assert config.trainer["learning_rate"] == 1e-5
    text = GOOD.replace("max_steps: 10", "weight_decay: 1.e-2\n  eval_strategy: no\n  max_grad_norm: .5")
    config = load_config(Config, write(tmp_path, text))
    assert config.trainer["weight_decay"] == 0.01
    assert config.trainer["max_grad_norm"] == 0.5
    assert config.trainer["eval_strategy"] == "no"  # YAML 1.1 would make it false


def test_overrides(tmp_path: Path) -> None:
    given = ["run.seed=7", "trainer.learning_rate=3e-4", "model.lora=null", "data.train=[b.jsonl, c.jsonl]"]
    config = load_config(Config, write(tmp_path, GOOD), given)
    assert config.run.seed == 7
    assert config.trainer["learning_rate"] == 3e-4
    assert config.model.lora is None
    assert config.data.train == ["b.jsonl", "c.jsonl"]
    config = load_config(Config, write(tmp_path, GOOD), ["data.train=b.jsonl", "data.validation=c.jsonl"])
    assert (config.data.train, config.data.validation) == (["b.jsonl"], ["c.jsonl"])  # one needs no brackets


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("path: tiny", "pth: tiny", "FILE, line 3: unknown key 'model.pth'; did you mean 'path'?"),
        ("{r: 8}", "{rr: 8}", "FILE, line 4: unknown key 'model.lora.rr'; did you mean 'r'?"),
        ("run:", "runn:", "FILE, line 10: unknown key 'runn'; did you mean 'run'?"),
        ("{r: 8}", "{r: eight}", "FILE, line 4: model.lora.r must be a valid integer, got 'eight'"),
        ("{r: 8}", "{r: 0}", "FILE, line 4: model.lora.r must be greater than or equal to 1, got 0"),
        ("stage: sft", "stage: dpo", "FILE, line 1: stage must be 'sft', got 'dpo'"),
        ("  dir: runs/x", "  seed: 1", "FILE, line 10: the key 'run.dir' is missing"),
        ("train: [a.jsonl]", "train: 3", "FILE, line 6: data.train must be a valid list"),
        (
            "learning_rate: 1e-5",
            "learning_rte: 1e-5",
            "FILE, line 8: unknown key 'trainer.learning_rte', SFTConfig has no such option; "
            "did you mean 'learning_rate'?",
        ),
        ("1e-5", "high", "FILE, line 8: trainer.learning_rate must be a number, got 'high'"),
        ("10", "10.5", "FILE, line 9: trainer.max_steps must be a whole number, got 10.5"),
        ("max_steps: 10", "packing: 1", "FILE, line 9: trainer.packing must be true or false, got 1"),
        ("max_steps: 10", "save_strategy: step", "did you mean 'steps'?"),
        ("max_steps: 10", "output_dir: x", "FILE, line 9: trainer.output_dir is not set here; use run.dir"),
        ("max_steps: 10", "learning_rate: 1", "FILE, line 9: the key 'trainer.learning_rate' is given twice"),
        ("path: tiny", "path: [tiny", "FILE, line"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert said in complaint(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("run.sead=1", "argument 'run.sead=1': unknown key 'run.sead'; did you mean 'seed'?"),
        ("run.seed=one", "argument 'run.seed=one': run.seed must be a valid integer, got 'one'"),
        ("trainer.max_step=1", "argument 'trainer.max_step=1': unknown key 'trainer.max_step'"),
        ("run.seed", "an override is written key=value"),
        ("stage.x=1", "'stage' is not a section"),
        ("run.seed=[1", "argument 'run.seed=[1', line 1: not valid YAML"),
    ],
)
def test_mistakes_in_overrides(tmp_path: Path, override: str, said: str) -> None:
    assert said in complaint(tmp_path, GOOD, override)


def test_not_a_config(tmp_path: Path) -> None:
    assert "a config is a mapping" in complaint(tmp_path, "- a\n- b\n")
    with pytest.raises(UserError, match="no config file 'nowhere"):
        load_config(Config, "nowhere.yaml")


def test_a_shipped_name_resolves_or_a_near_one_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    name = shipped_configs()[0]
    assert resolve_config_path(name).is_file()
    assert resolve_config_path(name.removesuffix(".yaml")).is_file()
    with pytest.raises(UserError, match="did you mean"):
        resolve_config_path(name.replace("a", "o", 1))


CLASSES = [
    "trl.trainer.sft_config:SFTConfig",
    "trl.trainer.dpo_config:DPOConfig",
    "trl.trainer.reward_config:RewardConfig",
    "alignment.ppo.config:PPOConfig",
]


@pytest.mark.parametrize("trainer_class", CLASSES)
def test_the_keys_read_from_source_are_the_dataclass_fields(trainer_class: str) -> None:
    module, name = trainer_class.split(":")
    fields = {field.name for field in dataclasses.fields(getattr(importlib.import_module(module), name))}
    assert set(trainer_options(trainer_class)) == fields


def test_defaults_of_the_trainer_are_accepted_by_the_check(tmp_path: Path) -> None:
    """The annotations are understood: every default of SFTConfig passes as a value."""
    from trl import SFTConfig

    from alignment.backend.trainer_keys import ELSEWHERE, check_trainer

    plain = (int, float, str, bool, list, dict, type(None))
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(SFTConfig)
        if isinstance(field.default, plain) and field.name not in ELSEWHERE
    }
    lenient = {"debug"}  # annotated str | list[DebugOption], given as a string of options
    given = {key: value for key, value in defaults.items() if key not in lenient}
    assert check_trainer(given, "trl.trainer.sft_config:SFTConfig", str) == given
    assert len(given) > 100


def test_trainer_args_on_this_machine(tmp_path: Path) -> None:
    text = GOOD.replace("max_steps: 10", "max_steps: 10\n  gradient_checkpointing: true")
    config = load_config(Config, write(tmp_path, text), ["run.seed=5"])
    args: Any = trainer_args(config, tmp_path / "out", max_length=77)
    assert (args.seed, args.data_seed, args.report_to, args.max_length) == (5, 5, [], 77)
    assert args.activation_checkpointing is True
    assert args.dataloader_num_workers == 0
    assert args.learning_rate == 1e-5


def test_a_combination_that_the_library_refuses_is_a_user_error(tmp_path: Path) -> None:
    text = GOOD.replace("max_steps: 10", "load_best_model_at_end: true\n  eval_strategy: epoch")
    config = load_config(Config, write(tmp_path, text))
    with pytest.raises(UserError, match="the save and eval strategy to match"):
        trainer_args(config, tmp_path)


def test_several_gpus_are_used_or_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with pytest.raises(UserError, match="4 GPUs are visible to one process: add --processes 4"):
        trainer_args(load_config(Config, write(tmp_path, GOOD)), tmp_path)


def test_an_error_takes_no_second_and_imports_nothing_heavy(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.replace("1e-5", "high"))
    code = (
        "import sys\n"
        "from alignment.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print(sorted({'torch', 'transformers', 'trl', 'datasets', 'gradio'} & set(sys.modules)))"
    )
    best = 1e9
    for _ in range(3):  # processor time of the child: this machine may be busy
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code, "sft", str(path)], capture_output=True, text=True)
        after = os.times()
        spent = after.children_user - before.children_user + after.children_system - before.children_system
        best = min(best, spent)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("trainer.learning_rate must be a number, got 'high'")
    assert done.stdout.strip() == "[]"
    assert best < 1.0


def test_sections_of_others_get_the_same_errors(tmp_path: Path) -> None:
    class Inner(Section):
        size: int = 1

    class Outer(Section):
        items: list[Inner] = pydantic.Field(default_factory=list)

    with pytest.raises(UserError, match=r"line 2: unknown key 'items.0.sizes'; did you mean 'size'"):
        load_config(Outer, write(tmp_path, "items:\n  - {sizes: 2}\n"))
