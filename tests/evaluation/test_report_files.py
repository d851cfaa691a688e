"""What a report is besides a page: a schema that fits, and Markdown for a model's card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from alignment.cli.evaluate import app
from alignment.data.files import write_records
from alignment.data.records import Completion, Message, Record, Source
from alignment.evaluation import stage
from alignment.evaluation.card import card

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()


def evaluated(folder: Path) -> dict[str, Any]:
    records = [
        Record(
            [Message("user", f"Write one sentence about a cat, number {i}.")],
            id=f"p{i}",
            completions=[
                Completion(content="A cat sat." if i % 4 else "No.", source=Source("model", "our_best")),
                Completion(content="A dog.", source=Source("model", "base")),
            ],
        )
        for i in range(24)
    ]
    file = folder / "answers.jsonl"
    write_records(file, records)
    config = {
        "models": {"our_best": str(file), "base": str(file)}, "comparisons": [["our_best", "base"]],
        "prompts": [str(file)], "judge": {"kind": "program"}, "run": {"dir": str(folder / "run")},
        "report": str(folder / "copy"),
    }  # fmt: skip
    stage.run(stage.Config.model_validate(config))
    return json.loads((folder / "run" / "report.json").read_text())


def test_the_schema_is_given_out_and_is_strict(tmp_path: Path, schema: Draft202012Validator) -> None:
    report = evaluated(tmp_path)
    assert schema.is_valid(report)
    printed = CliRunner().invoke(app, ["schema"])
    assert json.loads(printed.stdout) == schema.schema
    for changes in (
        {"new": 1},
        {"format": 2},
        {"win_rate": {"a_vs_b": {"rate": 1.2, "low": 0, "high": 1, "n": 1, "ties": 0}}},
        {"warnings": "none"},
        {"judge": {"kind": "oracle", "name": "x", "statement": "x"}},
    ):
        assert not schema.is_valid(report | changes), changes
    for key, described in schema.schema["properties"].items():
        assert described.get("description"), key
        assert f"`{key}" in PAGE, f"docs/evaluation.md does not tell of {key}"


def test_a_card_in_markdown(tmp_path: Path) -> None:
    report = evaluated(tmp_path)
    text = (tmp_path / "run" / "report.md").read_text()
    assert text == (tmp_path / "copy" / "report.md").read_text() == card(report)
    lines = text.splitlines()
    assert lines[0] == "## Evaluation"
    assert lines[2].startswith(r"**our\_best is better than base: the judge prefers it in ")
    assert "were enough to tell." in lines[2]
    head, rule, row = (line.strip("| ").split(" | ") for line in lines[4:7])
    assert head[:2] == ["comparison", "win rate"]
    assert set(rule) == {"---"}
    assert len(head) == len(rule) == len(row)
    assert row[0] == r"our\_best against base"
    assert row[3:6] == ["18", "0", "6"]
    assert "do not cover another training seed" in text
    assert "- Only 24 prompts" in text
    hostile = json.loads(json.dumps(report).replace("program", "<img src=x>|*a*"))
    assert r"\<img src=x\>\|\*a\*" in card(hostile | {"warnings": ["<img src=x>|*a*"]})
