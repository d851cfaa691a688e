"""Run directories: what is remembered, when a run is gone on with, and when it is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from alignment.backend.config import DataSection, ModelSection, RunSection, StageConfig
from alignment.backend.runs import (
    COMPLETE,
    finished_result,
    model_fingerprint,
    open_run,
    read_run,
    trained_on,
)
from alignment.data.files import fingerprint, write_records
from alignment.errors import UserError


class Config(StageConfig):
    stage: Literal["test"] = "test"
    lr: float = 0.1


Maker = Callable[..., Config]


@pytest.fixture
def make(tmp_path: Path, toy_model: str, toy_records: Callable[..., Any]) -> Maker:
    data = tmp_path / "data.jsonl"
    write_records(data, toy_records(3))

    def config(lr: float = 0.1, **run: Any) -> Config:
        return Config(
            model=ModelSection(path=toy_model),
            data=DataSection(train=[str(data)]),
            run=RunSection(dir=str(tmp_path / "run"), **run),
            lr=lr,
        )

    return config


def opened(config: Config) -> Any:
    return open_run(config, data=config.data.paths(), parents=[config.model.path])


def test_lineage(make: Maker, toy_model: str) -> None:
    config = make()
    run = opened(config)
    assert not run.dir.exists()  # nothing is written before the stage starts
    run.start()
    run.log({"step": 1, "loss": 2.0})
    result = run.finish({"accuracy": 0.5})
    assert result["model"] is None
    assert result["metrics"] == {"accuracy": 0.5}
    assert result["run"] == str(run.dir)
    state = read_run(run.dir)
    assert state["status"] == "complete"
    assert state["stage"] == "test"
    assert state["metrics"] == {"accuracy": 0.5}
    assert set(state["versions"]) >= {"python", "torch", "trl", "transformers", "alignkit"}
    [data] = state["data"].values()
    assert len(data) == 32
    assert state["parents"] == {
        toy_model: {"folder": toy_model, "fingerprint": model_fingerprint(toy_model)},
    }
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        assert len(state["git"]["commit"]) == 40
    assert "lr: 0.1" in (run.dir / "config.yaml").read_text()
    assert run.logs() == [{"step": 1, "loss": 2.0}]


def test_runs_trained_on_a_dataset_and_their_children(make: Maker, tmp_path: Path, toy_model: str) -> None:
    first, second, third = make(), make(lr=0.2), make(lr=0.3)
    for config, name, parent in ((first, "b", toy_model), (second, "a", "b"), (third, "other", toy_model)):
        config.run.dir = str(tmp_path / "runs" / name)
        data = config.data.paths() if name == "b" else []
        parent = str(tmp_path / "runs" / parent) if parent == "b" else parent
        run = open_run(config, data=data, parents=[parent])
        run.start()
        run.model_dir.mkdir()
        (run.model_dir / "config.json").write_text("{}")
        run.finish({})
    held = fingerprint(first.data.paths())
    assert [run.name for run in trained_on(tmp_path / "runs", {held})] == ["b", "a"]
    assert trained_on(tmp_path / "runs", {"0" * 32}) == []
    assert trained_on(tmp_path / "none", {held}) == []


def test_a_finished_run_is_kept(make: Maker) -> None:
    opened(make()).finish({})
    with pytest.raises(UserError, match="holds a finished run"):
        opened(make())
    assert finished_result(make()) == opened_result(make())
    run = opened(make(overwrite=True))
    assert read_run(run.dir)["status"] == "complete"  # the old one stays until the new one starts
    run.start()
    assert read_run(run.dir)["status"] == "running"


def opened_result(config: Config) -> dict[str, Any]:
    state = read_run(config.run.dir)
    return {"model": None, "metrics": {}, "seconds": state["seconds"], "run": config.run.dir}


def test_an_unfinished_run_is_gone_on_with(make: Maker) -> None:
    run = opened(make())
    run.start()
    run.log({"step": 1})
    run.pause()
    again = opened(make(resume=True, tracking=["tensorboard"]))  # what does not change the result may change
    assert again.logs() == [{"step": 1}]
    assert again.finish({})["seconds"] >= read_run(again.dir)["seconds"] > 0


def test_another_config_is_refused_with_its_key(make: Maker) -> None:
    opened(make()).start()
    with pytest.raises(UserError, match=r"another config: lr was 0\.1, is 0\.2; choose another run.dir"):
        opened(make(lr=0.2))
    with pytest.raises(UserError, match=r"run\.seed was 0, is 1"):
        opened(make(seed=1))
    opened(make(lr=0.2, overwrite=True)).start()
    assert finished_result(make(lr=0.2)) is None


def test_changed_data_or_parent_is_refused(
    make: Maker, tmp_path: Path, toy_records: Callable[..., Any]
) -> None:
    opened(make()).finish({})
    write_records(tmp_path / "data.jsonl", toy_records(4), overwrite=True)
    with pytest.raises(UserError, match=r"whose data .*data\.jsonl changed since"):
        finished_result(make())


def test_resume_needs_a_run_and_excludes_overwrite(make: Maker) -> None:
    with pytest.raises(UserError, match="no run to resume"):
        opened(make(resume=True))
    with pytest.raises(UserError, match="exclude each other"):
        opened(make(resume=True, overwrite=True))


def test_another_folder_is_never_touched(make: Maker, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="is no run directory"):
            opened(make(overwrite=overwrite))
    assert (tmp_path / "run" / "thesis.tex").read_text() == "x"


def test_checkpoints_count_when_marked(make: Maker) -> None:
    run = opened(make())
    run.start()
    for step in (5, 10, 20):
        (run.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
    assert run.newest_checkpoint() is None
    for step in (5, 10):
        (run.checkpoints / f"checkpoint-{step}" / COMPLETE).touch()
    assert run.newest_checkpoint() == run.checkpoints / "checkpoint-10"
    run.remove_incomplete()
    assert not (run.checkpoints / "checkpoint-20").exists()


def test_a_cut_line_of_metrics_is_dropped(make: Maker) -> None:
    run = opened(make())
    run.log({"step": 1})
    run.log({"step": 2})
    with (run.dir / "metrics.jsonl").open("a") as out:
        out.write('{"step": 3, "lo')
    assert [line["step"] for line in run.logs()] == [1, 2]
    run.drop_logs_after(1)
    assert (run.dir / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_two_processes_do_not_share_a_run(make: Maker) -> None:
    run = opened(make())
    run.start()
    code = "import pathlib, sys; from alignment.backend.runs import _lock; _lock(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(run.dir)], capture_output=True, text=True)
    assert "another process is working on" in done.stderr


def test_other_processes_of_a_launch_write_nothing(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "RANK", "1")
    run = opened(make())
    run.start()
    run.log({"step": 1})
    run.finish({})
    assert not run.dir.exists()


def test_numbers_of_numpy_are_written(make: Maker) -> None:
    import numpy

    run = opened(make())
    run.finish({"a": numpy.float32(0.5), "b": {"c": numpy.int64(3)}, "d": [numpy.bool_(True)]})
    assert read_run(run.dir)["metrics"] == {"a": 0.5, "b": {"c": 3}, "d": [True]}
    json.loads((run.dir / "run.json").read_text())
