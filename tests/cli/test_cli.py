"""The command line: light to start, one sentence for the user's mistakes, a traceback for ours."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import alignment.cli as cli
from alignment.backend.config import shipped_configs
from alignment.data.files import write_records
from alignment.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alignment.cli", *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=120)


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["alignkit", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def config(tmp_path: Path, toy_model: str, toy_records: Callable[..., Any]) -> Path:
    write_records(tmp_path / "data.jsonl", toy_records(6))
    text = {
        "stage": "sft",
        "model": {"path": toy_model},
        "data": {"train": [str(tmp_path / "data.jsonl")]},
        "trainer": {"max_steps": 2, "per_device_train_batch_size": 2},
        "run": {"dir": str(tmp_path / "run")},
    }
    (tmp_path / "sft.yaml").write_text(json.dumps(text))
    return tmp_path / "sft.yaml"


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['alignkit', '--help']\nfrom alignment.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print(sorted({'torch', 'transformers', 'trl', 'datasets', 'gradio'} & set(sys.modules)))"
    )
    best = 1e9
    for _ in range(3):  # processor time of the child: this machine may be busy
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        after = os.times()
        spent = after.children_user - before.children_user + after.children_system - before.children_system
        best = min(best, spent)
    assert done.stdout.strip().endswith("[]")
    for command in (
        "sft",
        "reward",
        "dpo",
        "kto",
        "ppo",
        "rloo",
        "grpo",
        "run",
        "quickstart",
        "evaluate",
        "generate",
        "export",
        "label",
    ):
        assert f" {command} " in done.stdout
    assert best < 1.0


def test_two_steps_in_a_subprocess(config: Path, tmp_path: Path) -> None:
    done = call("sft", str(config), "trainer.learning_rate=1e-3")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["metrics"]["steps"] == 2
    assert Path(result["model"]).is_dir()
    assert "6 rows of" in done.stderr
    assert "run: 2/2" in done.stderr  # no terminal: a line, not a bar
    assert "\x1b[" not in done.stderr
    assert "Warning" not in done.stderr
    again = call("sft", str(config), "trainer.learning_rate=1e-3")
    assert again.returncode == 2
    assert again.stderr == f"alignkit: {tmp_path}/run holds a finished run; " + (
        "choose another run.dir or add --overwrite\n"
    )
    assert again.stdout == ""


def test_a_bug_keeps_its_traceback(config: Path) -> None:
    """Not only in name: a RuntimeError inside a stage, in a process of its own."""
    code = (
        "import sys\nfrom alignment import sft\nfrom alignment.cli import main\n"
        "def run(config):\n    raise RuntimeError('a bug of ours')\n"
        f"sft.run = run\nsys.argv = ['alignkit', 'sft', {str(config)!r}]\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.strip().endswith("RuntimeError: a bug of ours")


def test_flags_reach_the_config(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert run_here(monkeypatch, "sft", str(config), "--resume") == 2
    assert "no run to resume" in capsys.readouterr().err
    assert run_here(monkeypatch, "sft", str(config), "--resume", "--overwrite") == 2
    assert "exclude each other" in capsys.readouterr().err
    assert run_here(monkeypatch, "sft", str(config), "--accelerate", "fsdp9", "--processes", "2") == 2
    assert "no accelerate config 'fsdp9'" in capsys.readouterr().err


def test_the_quickstart_passes_its_folder_and_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.setattr("alignment.cli.train.load_config", lambda *arguments: arguments)
    monkeypatch.setattr("alignment.cli.train.pipeline.run", seen.append)
    monkeypatch.setattr("alignment.cli.train.closing", lambda results, out: None)
    assert run_here(monkeypatch, "quickstart", "--out", str(tmp_path / "a b"), "--seed", "3") == 0
    [(_, name, given)] = seen
    assert name == "quickstart/pipeline.yaml"
    assert given == [f'run.dir="{tmp_path}/a b"', "run.seed=3"]


def test_configs_are_listed_and_copied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    assert run_here(monkeypatch, "configs", "list") == 0
    assert capsys.readouterr().out.split() == shipped_configs()
    for expected in (0, 2):
        assert run_here(monkeypatch, "configs", "copy", str(tmp_path / "mine")) == expected
    copied = sorted(
        path.relative_to(tmp_path / "mine").as_posix() for path in (tmp_path / "mine").rglob("*.yaml")
    )
    assert copied == shipped_configs()


def test_alignment_handbook_is_noticed(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: name)
    with pytest.raises(UserError, match="alignment-handbook is installed"):
        cli.check_package()
    assert run_here(monkeypatch, "configs", "list") == 2
    assert capsys.readouterr().err.startswith("alignkit: alignment-handbook is installed here")


def test_usage_errors_and_version(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert run_here(monkeypatch, "sfft") == 2
    assert capsys.readouterr().err.startswith("alignkit: No such command 'sfft'")
    for words, said in (
        (("export", "a", "b", "c"), "unexpected extra argument(s) (c) (`alignkit export --help` says"),
        (("data", "merge"), "Missing argument 'SRC...' (`alignkit data merge --help` says"),
        (("sft", "--nope"), "No such option: --nope (`alignkit sft --help` says"),
    ):
        assert run_here(monkeypatch, *words) == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1, "one sentence, and no box"
    assert run_here(monkeypatch, "data") == 2
    assert "Usage" in capsys.readouterr().out
    assert run_here(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("alignkit")


@pytest.mark.slow
def test_two_processes(config: Path, tmp_path: Path) -> None:
    """Handed over to accelerate: one run directory, one result, the same steps."""
    done = call("sft", str(config), "--processes", "2")
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    assert (metrics["steps"], metrics["epochs"]) == (
        2,
        1.0,
    )  # all six rows: both took part
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
