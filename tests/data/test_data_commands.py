"""`alignkit data …`: every command says where the result is, counts, and what to run next."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alignment.cli.data import app
from alignment.data.files import read_records, write_records
from alignment.data.records import Completion, Judgment, Message, Record
from alignment.errors import UserError

Toy = Callable[..., list[Record]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_records: Toy) -> Path:
    """A folder with toy.jsonl (60 records) to work in."""
    monkeypatch.chdir(tmp_path)
    write_records("toy.jsonl", toy_records(60))
    return tmp_path


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    """The sentence of the UserError, and proof that no file appeared."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError) as error:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert sorted(Path().rglob("*")) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def test_convert_there_and_back(here: Path) -> None:
    rows = [
        {"instruction": "Add.", "input": "2", "output": "4"},
        {"instruction": "Sing.", "input": "", "output": "La"},
    ]
    Path("in.json").write_text(json.dumps(rows))
    out = said("convert", "--from", "alpaca", "in.json", "records.jsonl")
    assert "2 rows read from in.json: 2 records in records.jsonl, 0 set aside" in out
    assert "next: alignkit data stats records.jsonl" in out
    said("convert", "--from", "native", "--to", "alpaca", "records.jsonl", "back.json")
    assert json.loads(Path("back.json").read_text()) == rows
    assert "alpaca cannot hold: " in said(
        "convert", "--from", "native", "--to", "alpaca", "toy.jsonl", "toy.json"
    )
    said("convert", "--from", "native", "toy.jsonl", "toy.parquet")
    assert list(read_records("toy.parquet")) == list(read_records("toy.jsonl"))
    assert "exists" in refused("convert", "--from", "native", "toy.jsonl", "toy.parquet")
    said("convert", "--from", "native", "toy.jsonl", "toy.parquet", "--overwrite")


def test_convert_sets_bad_rows_aside(here: Path) -> None:
    Path("in.jsonl").write_text('{"prompt": "a"}\n{"promt": "b"}\n{"prompt": "c"}\n')
    assert "in.jsonl, line 2" in refused("convert", "--from", "trl", "in.jsonl", "out.jsonl")
    out = said("convert", "--from", "trl", "in.jsonl", "out.jsonl", "--on-error", "skip")
    assert "3 rows read from in.jsonl: 2 records in out.jsonl, 1 set aside, with the reasons, in " in out
    assert json.loads(Path("out.rejected.jsonl").read_text())["where"] == "in.jsonl, line 2"
    Path("out.jsonl").unlink()
    skip = ("convert", "--from", "trl", "in.jsonl", "out.jsonl", "--on-error", "skip")
    assert "out.rejected.jsonl exists" in refused(*skip)
    said(*skip, "--overwrite")


def test_convert_to_a_trl_style(here: Path) -> None:
    out = said("convert", "--from", "native", "--to", "trl", "--style", "prompt", "toy.jsonl", "p.jsonl")
    assert "trl cannot hold: " in out
    assert list(json.loads(Path("p.jsonl").read_text().splitlines()[0])) == ["prompt"]
    assert "--to trl" in refused("convert", "--from", "native", "--style", "prompt", "toy.jsonl", "q.jsonl")


def test_check_passes_or_lists_the_faults(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "60 records in toy.jsonl, all in order" in said("check", "toy.jsonl")
    text = Path("toy.jsonl").read_text()
    Path("bad.jsonl").write_text(text + '{"prompt": []}\n' + text.replace('"ranks":[', '"ranks":[1,'))
    sentence = refused("check", "bad.jsonl")
    assert "61 of 121 rows break the format" in sentence
    Path("twice.jsonl").write_text(text + text)
    assert "60 rows repeat an id" in said("check", "twice.jsonl")


@pytest.mark.parametrize("view", ["messages", "prompts", "pairs", "rankings"])
def test_view_writes_rows_of_trl_columns(here: Path, view: str) -> None:
    out = said("view", view, "toy.jsonl", "rows.jsonl.zst")
    assert f"rows of {view} in rows.jsonl.zst" in out
    assert ("left out: tie: " in out) == (view == "pairs")


def test_view_options_and_an_empty_view(here: Path) -> None:
    said("view", "pairs", "toy.jsonl", "pairs.jsonl", "--how", "majority", "--margin")
    row = json.loads(Path("pairs.jsonl").read_text().splitlines()[0])
    assert list(row) == ["id", "prompt", "chosen", "rejected", "weight", "judges", "margin"]
    assert refused("view", "unpaired", "toy.jsonl", "u.jsonl").startswith(
        "toy.jsonl: the view unpaired is empty (no label"
    )
    assert 'did you mean "pairs"' in refused("view", "pair", "toy.jsonl", "u.jsonl")
    assert 'did you mean "majority"' in refused("view", "pairs", "toy.jsonl", "u.jsonl", "--how", "major")
    assert "go with the view pairs" in refused("view", "prompts", "toy.jsonl", "u.jsonl", "--margin")
    assert "must end in" in refused("view", "prompts", "toy.jsonl", "u.csv")
    assert "exists" in refused("view", "prompts", "toy.jsonl", "pairs.jsonl")


def test_split_and_merge_give_back_the_whole(here: Path) -> None:
    out = said("split", "toy.jsonl", "train.jsonl", "val.parquet", "--fraction", "0.3", "--seed", "4")
    train, validation = list(read_records("train.jsonl")), list(read_records("val.parquet"))
    assert f"records: {len(train)} in train.jsonl, {len(validation)} in val.parquet" in out
    assert "60 records became 60 in all.jsonl" in said("merge", "train.jsonl", "val.parquet", "all.jsonl")
    assert sorted(r.id or "" for r in read_records("all.jsonl")) == sorted(
        r.id or "" for r in read_records("toy.jsonl")
    )
    told = said("merge", "toy.jsonl", "all.jsonl", "b.jsonl")
    assert "120 records became 60 in b.jsonl" in told
    assert "united with an earlier record, judgments added up: 60 with the same id" in told
    assert list(read_records("b.jsonl")) == list(read_records("toy.jsonl"))
    assert "exists" in refused("split", "toy.jsonl", "train.jsonl", "new.jsonl")
    assert "same file" in refused("split", "toy.jsonl", "x.jsonl", "x.jsonl")
    tiny = ("--fraction", "0.00001")
    assert "leave y.jsonl empty" in refused("split", "toy.jsonl", "x.jsonl", "y.jsonl", *tiny)
    assert "between 0 and 1" in refused("split", "toy.jsonl", "x.jsonl", "y.jsonl", "--fraction", "2")


def test_merge_lists_conflicts(here: Path) -> None:
    for name, text in (("a", "one"), ("b", "two")):
        write_records(f"{name}.jsonl", [Record([Message("user", text)], id="same")])
    out = said("merge", "a.jsonl", "b.jsonl", "out.jsonl")
    assert "conflicts, the first kept, listed in out.conflicts.jsonl: 1 (prompt: 1)" in out
    assert json.loads(Path("out.conflicts.jsonl").read_text())["id"] == "same"


def test_stats_for_people_and_for_programs(here: Path) -> None:
    out = said("stats", "toy.jsonl")
    assert "60 records, 60 different prompts in toy.jsonl" in out
    assert "two judges agree, ties counted: 0." in out
    found = json.loads(said("stats", "toy.jsonl", "--json"))
    assert found["rows"] == 60
    assert found["judges"] == {"ann-0": 60, "ann-1": 60}
    write_records(
        "label.jsonl",
        [
            Record(
                [Message("user", "q")],
                completions=[Completion(content="a")],
                judgments=[Judgment(labels=[True])],
            )
        ],
    )
    assert "labels: good: 1" in said("stats", "label.jsonl")


def test_mistakes_get_one_sentence(here: Path) -> None:
    assert 'did you mean "hh-rlhf"' in refused("convert", "--from", "hh_rlhf", "toy.jsonl", "x.jsonl")
    assert "no such file" in refused("convert", "--from", "trl", "none.jsonl", "x.jsonl")
    assert "raise or skip" in refused(
        "convert", "--from", "trl", "toy.jsonl", "x.jsonl", "--on-error", "drop"
    )
    assert "no such file" in refused("stats", "none.jsonl")
    Path("empty.jsonl").write_text("")
    for command in (["check"], ["stats"], ["view", "pairs"], ["convert", "--from", "native"], ["merge"]):
        target = [] if command[0] in ("check", "stats") else ["x.jsonl"]
        assert "no usable row" in refused(*command, "empty.jsonl", *target)


def test_the_schema_is_json(here: Path) -> None:
    assert "judgments" in json.loads(said("schema"))["$defs"]["Record"]["properties"]


def test_the_command_exits_with_2_and_the_room_imports_fast(here: Path) -> None:
    run = [sys.executable, "-m", "alignment.cli", "data", "check", "none.jsonl"]
    result = subprocess.run(run, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr == "alignkit: none.jsonl: no such file or folder\n"
    code = (
        "import sys, time; start = time.process_time()\n"
        "import alignment.data.views, alignment.data.quality, alignment.data.merge, alignment.data.formats\n"
        "print(time.process_time() - start)\n"
        "heavy = {'torch', 'transformers', 'gradio', 'datasets', 'pyarrow', 'numpy', 'scipy', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = result.stdout.splitlines()
    assert loaded == "[]"
    assert float(seconds) < 0.3
