"""Pipelines: stages in order, with one seed, gone on with after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignment import dpo, pipeline, sft
from alignment.backend.config import load_config
from alignment.backend.runs import read_run
from alignment.data.files import write_records
from alignment.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, toy_model: str, toy_records: Callable[..., Any]) -> Path:
    """A folder with a pipeline of SFT and DPO."""
    write_records(tmp_path / "data.jsonl", toy_records(6))
    for stage in ("sft", "dpo"):
        config = {
            "stage": stage,
            "model": {"path": toy_model},
            "data": {"train": [str(tmp_path / "data.jsonl")]},
            "trainer": {"max_steps": 1, "per_device_train_batch_size": 2, "logging_steps": 1},
            "run": {"dir": "unused", "seed": 1},
        }
        (tmp_path / f"{stage}.yaml").write_text(json.dumps(config))
    steps = [
        {"stage": "sft", "config": str(tmp_path / "sft.yaml")},
        {"stage": "dpo", "config": str(tmp_path / "dpo.yaml"), "set": {"model.path": "{run}/sft"}},
        {
            "stage": "dpo",
            "name": "ipo",
            "config": str(tmp_path / "dpo.yaml"),
            "set": {"model.path": "{run}/sft", "trainer.loss_type": ["ipo"]},
        },
    ]
    config = {"stage": "pipeline", "run": {"dir": str(tmp_path / "runs"), "seed": 5}, "steps": steps}
    (tmp_path / "pipeline.yaml").write_text(json.dumps(config))
    return tmp_path


def load(folder: Path, *overrides: str) -> pipeline.Config:
    return load_config(pipeline.Config, folder / "pipeline.yaml", overrides)


def test_stages_in_order_and_gone_on_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    run_dpo, run_sft = dpo.run, sft.run

    def fail_once(config: Any) -> Any:
        begun.append(config.run.dir)
        if len(begun) == 2:
            raise RuntimeError("power cut")
        return run_dpo(config)

    monkeypatch.setattr(dpo, "run", fail_once)
    with pytest.raises(RuntimeError, match="power cut"):
        pipeline.run(load(folder))
    summary = json.loads((folder / "runs" / "pipeline.json").read_text())
    assert list(summary["steps"]) == ["sft", "dpo"]

    monkeypatch.setattr(sft, "run", lambda config: pytest.fail("sft was done already"))
    results = pipeline.run(load(folder))
    assert begun == [str(folder / "runs" / name) for name in ("dpo", "ipo", "ipo")]
    assert list(results["steps"]) == ["sft", "dpo", "ipo"]
    for result in results["steps"].values():
        assert set(result) == {"model", "metrics", "seconds", "run"}
        assert Path(result["model"]).is_dir()
        assert "seed: 5" in (Path(result["run"]) / "config.yaml").read_text()
    assert list(read_run(folder / "runs" / "dpo")["parents"]) == [str(folder / "runs" / "sft")]
    assert results["steps"]["ipo"]["metrics"]["loss"] != results["steps"]["dpo"]["metrics"]["loss"]

    monkeypatch.setattr(sft, "run", run_sft)
    with pytest.raises(UserError, match=r"run\.seed was 5, is 6"):
        pipeline.run(load(folder, "run.seed=6"))
    before = read_run(folder / "runs" / "sft")["started"], results["seconds"]
    again = pipeline.run(load(folder, "run.seed=6", "run.overwrite=true"))
    assert (read_run(folder / "runs" / "sft")["started"], again["seconds"]) != before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda steps: steps[2].pop("name"), "two steps are called 'dpo'"),
        (lambda steps: steps[1]["set"].update({"model.pth": 1}), r"step 2 \(dpo\): unknown key 'model.pth'"),
        (lambda steps: steps[1].update(config="nowhere.yaml"), "no config file 'nowhere.yaml'"),
        (lambda steps: steps[1].update(stage="dop"), r"line 1: steps\.1\.stage must be 'sft', 'dpo'"),
        (lambda steps: steps[0].update(config=steps[1]["config"]), "stage must be 'sft', got 'dpo'"),
        (lambda steps: steps.clear(), "steps"),
    ],
)
def test_mistakes_are_found_before_the_first_step(folder: Path, change: Any, said: str) -> None:
    config = json.loads((folder / "pipeline.yaml").read_text())
    change(config["steps"])
    (folder / "pipeline.yaml").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        pipeline.run(load(folder))
    assert not (folder / "runs").exists()
