"""docs/evaluation.md is followed by a newcomer, in an empty folder; its configs are configs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from alignment.backend.config import RunConfig
from alignment.cli import app
from alignment.evaluation import reward_kl, stage

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
CONFIGS = [text for text in YAML.findall(PAGE) if "stage:" in text]


def section(heading: str) -> str:
    (text,) = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(heading)]
    return text


def test_start_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = section("Start here")
    (config,) = YAML.findall(text)
    Path("first.yaml").write_text(config)
    commands = re.findall(r"^    alignkit (.*)$", text, re.MULTILINE)
    assert len(commands) == 10
    said = ""
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command))
        assert result.exit_code == 0, f"{command}: {result.output}"
        said += result.output
    assert "he same answers" not in said
    assert "97 by the exact sign test" in said
    assert re.search(
        r"cold (is|looks) (better|worse) than warm|cold is better than warm cannot be told", said
    )
    for name in ("report.html", "report.json", "report.md"):
        assert (tmp_path / "runs/first" / name).is_file()


@pytest.mark.parametrize("text", CONFIGS)
def test_configs_are_configs(text: str) -> None:
    values = yaml.safe_load(text)
    kind: type[RunConfig] = {"evaluate": stage.Config, "reward-kl": reward_kl.Config}[values["stage"]]
    assert kind.model_validate(values).stage == values["stage"]


def test_every_command_that_there_is_is_told(tmp_path: Path) -> None:
    told = set(re.findall(r"alignkit evaluate ([a-z-]+)", PAGE))
    listed = CliRunner().invoke(app, ["evaluate", "--help"]).output
    commands = set(re.findall(r"^│ ([a-z][a-z-]*) ", listed, re.MULTILINE))
    assert {"power", "reward-kl", "drift"} <= commands
    assert commands - {"run"} <= told
