"""alignkit generate, export and chat."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from alignment.backend.config import load_config
from alignment.backend.generation import sampling, stage
from alignment.backend.generation.settings import GenerateConfig
from alignment.cli import models as commands
from alignment.data.files import read_records, write_records
from alignment.errors import UserError


@pytest.fixture
def config(toy_model: str, toy_records: Callable, tmp_path: Path) -> Path:
    write_records(tmp_path / "prompts.jsonl", toy_records(7))
    text = {
        "model": {"path": toy_model},
        "prompts": [str(tmp_path / "prompts.jsonl")],
        "generation": {"max_new_tokens": 8},
        "name": "toy",
        "out": str(tmp_path / "out.jsonl"),
    }
    path = tmp_path / "generate.yaml"
    path.write_text(json.dumps(text))
    return path


def test_records_with_sources(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    commands.generate(str(config), n=4)
    said = json.loads(capsys.readouterr().out)
    records = list(read_records(tmp_path / "out.jsonl"))
    given = list(read_records(tmp_path / "prompts.jsonl"))
    assert said["rows"] == 7
    assert said["completions"] == 28
    assert [record.id for record in records] == [record.id for record in given]
    for record, before in zip(records, given, strict=True):
        assert record.prompt == before.prompt
        assert not record.judgments
        assert len(record.completions) == 4
        source = record.completions[0].source
        assert (source.kind, source.name) == ("model", "toy")
        assert source.params["max_new_tokens"] == 8
    assert not list(tmp_path.glob(".*partial"))
    with pytest.raises(UserError, match="exists"):
        commands.generate(str(config), n=4)
    commands.generate(str(config), ["max_rows=2"], n=1, overwrite=True)
    assert len(list(read_records(tmp_path / "out.jsonl"))) == 2


def test_a_broken_run_goes_on_and_writes_the_same(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(stage, "COMPLETIONS_A_BLOCK", 4)
    loaded = load_config(GenerateConfig, config, ["n=2"])
    whole = stage.run(loaded)
    unbroken = (tmp_path / "out.jsonl").read_bytes()
    (tmp_path / "out.jsonl").unlink()
    calls = []

    def dies(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("killed")
        return sampling.generate(*arguments)

    monkeypatch.setattr(stage, "generate", dies)
    with pytest.raises(RuntimeError):
        stage.run(loaded)
    assert not (tmp_path / "out.jsonl").exists()
    with pytest.raises(UserError, match="unfinished run with another n"):
        stage.run(load_config(GenerateConfig, config, ["n=3"]))
    assert stage.run(loaded) == whole
    assert "going on at prompt 5 of 7" in capsys.readouterr().err
    assert (tmp_path / "out.jsonl").read_bytes() == unbroken
    assert len(calls) == 5  # blocks of two prompts: two done, one died, two more


def test_export(toy_model: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    commands.export(toy_model, tmp_path / "plain")
    assert capsys.readouterr().out.strip() == str(tmp_path / "plain")
    names = {path.name for path in (tmp_path / "plain").iterdir()}
    assert {"model.safetensors", "config.json", "chat_template.jinja", "tokenizer.json"} <= names
    broken = tmp_path / "broken"
    shutil.copytree(toy_model, broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(UserError, match="could not be loaded"):
        commands.export(str(broken), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_chat_side_by_side(
    toy_model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    lines = iter(["the cat", "[bold]and then[/bold]", "/new", "ran", ""])
    monkeypatch.setattr("rich.console.Console.input", lambda *_: next(lines))
    commands.chat([toy_model, toy_model], max_new_tokens=4, temperature=0.0)
    assert capsys.readouterr().out.count("╮") == 6
    with pytest.raises(UserError, match="one model or two"):
        commands.chat([toy_model] * 3)
