"""`--from auto`: what a file is, told from its beginning; and what is said of a file that nobody knows."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from typer.testing import CliRunner

from alignment.cli.data import app
from alignment.data.detect import ROWS, check_native, detect, recognised
from alignment.data.files import read_records
from alignment.data.formats import FORMATS
from alignment.errors import UserError

SAMPLES = sorted((Path(__file__).parent / "samples").iterdir())
ALPACA = {"instruction": "Add.", "input": "2, 3", "output": "5"}
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
HH = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}


def written(path: Path, rows: list[Any]) -> Path:
    """The rows as the file's name says: lines, an array or Parquet, compressed or not."""
    if path.name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if path.name.endswith((".csv", ".csv.gz")):
        text = "".join(
            ",".join(json.dumps(str(cell)) for cell in row) + "\n"
            for row in [rows[0], *map(dict.values, rows)]
        )
    elif ".jsonl" in path.name:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = json.dumps(rows, indent=1)
    packers = {".gz": gzip.compress, ".zst": zstandard.compress}
    path.write_bytes(packers.get(path.suffix, bytes)(text.encode()))
    return path


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_samples_are_recognised_and_converted(path: Path, tmp_path: Path) -> None:
    found = detect(path)
    assert path.name.replace("_", "-").startswith(found.format)
    target = tmp_path / "out.jsonl"
    result = CliRunner().invoke(app, ["convert", str(path), str(target)], catch_exceptions=False)
    assert result.exit_code == 0
    assert f"{path} is {found.format}, by {found.by}\n" in result.output
    assert ", 0 set aside\n" in result.output
    assert len(list(read_records(target))) == len(list(FORMATS[found.format].read(path)))


@pytest.mark.parametrize(
    "suffix", ["json", "jsonl", "json.gz", "jsonl.gz", "json.zst", "jsonl.zst", "parquet", "csv"]
)
def test_every_form_of_file_is_looked_into(tmp_path: Path, suffix: str) -> None:
    assert detect(written(tmp_path / f"in.{suffix}", [ALPACA] * 50)).format == "alpaca"


def test_only_the_beginning_is_read(tmp_path: Path) -> None:
    rows = [ALPACA] * 5_000
    for name in ("in.json", "in.jsonl"):
        path = written(tmp_path / name, rows)
        path.write_bytes(path.read_bytes()[:-40] + b"\xff\x00 this is no JSON")
        assert detect(path).format == "alpaca"
    path = written(
        tmp_path / "in.jsonl.gz", [row | {"n": f"{number:x}"} for number, row in enumerate(rows * 9)]
    )
    path.write_bytes(path.read_bytes()[:-60_000])  # cut short, far behind the beginning
    assert detect(path).format == "alpaca"


def test_a_first_row_larger_than_what_is_read_at_once(tmp_path: Path) -> None:
    assert detect(written(tmp_path / "in.json", [ALPACA | {"output": "x" * 3_000_000}])).format == "alpaca"


def test_a_broken_row_does_not_decide(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [{}, 3, {"chosen": "a", "rejected": "b"}, *[ALPACA | {"chosen": "a", "rejected": "b"}] * 3]
    path.write_text('{"instruction": \n' + "".join(json.dumps(row) + "\n" for row in rows))
    assert detect(path).format == "alpaca"


def test_of_many_rows_the_first_are_looked_at() -> None:
    assert recognised([ALPACA, HH, HH]) == recognised([HH])
    assert ROWS < 100


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (ALPACA, "alpaca"),
        ({"instruction": "Add.", "output": "5"}, "alpaca"),
        ({"instruction": "a", "input": "", "output": "b", "chosen": "b", "rejected": "c"}, "alpaca"),
        (HH, "hh-rlhf"),
        (HH | {"subset": "x"}, "hh-rlhf"),
        ({"prompt": "\n\nHuman: a\n\nAssistant:", "chosen": " b", "rejected": " c"}, "hh-rlhf"),
        ({"message_id": "x", "text": "a", "role": "prompter", "lang": "en"}, "oasst"),
        ({"chosen": "b", "rejected": "c"}, "trl"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "score_chosen": 1.0}, "trl"),
        ({"prompt": "a", "completion": "b"}, "trl"),
        ({"prompt": "a", "completion": "b", "label": True}, "trl"),
        ({"prompt": "a"}, "trl"),
        ({"text": "a"}, "trl"),
        ({"prompt": "a", "prompt_id": "x", "messages": TURNS, "category": "c"}, "trl"),
        ({"messages": TURNS}, "openai-chat"),
        ({"messages": TURNS, "source": "x"}, "trl"),
        ({"messages": TURNS, "label": True}, "sharegpt"),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "sharegpt"),
        ({"chosen": TURNS, "rejected": TURNS, "score_chosen": 8.0, "score_rejected": 7.0}, "ultrafeedback"),
        ({"instruction": "a", "context": "", "response": "b", "category": "c"}, "alpaca"),
        ({"instruction": "a", "output": "b", "generator": "m", "dataset": "d"}, "alpaca-eval"),
        ({"instruction": "a", "instances": [{"input": "", "output": "b"}]}, "self-instruct"),
        ({"question_id": 1, "category": "c", "turns": ["a", "b"]}, "mt-bench"),
        ({"input": "a", "output_1": "b", "output_2": "c", "label": 1}, "llmbar"),
        ({"question": "a", "answer": "b"}, "columns"),
        ({"id": "1", "system_prompt": "s", "question": "q", "response": "r"}, "columns"),
        ({"prompt": [{"role": "user", "content": "a"}], "completion": []}, "trl"),
        ({"prompt": [{"role": "user", "content": "a"}]}, "native"),
        ({"v": 1, "prompt": [{"role": "user", "content": "a"}], "extra": 1}, "native"),
        ({"prompt": [{"role": "user", "content": "a"}], "completions": []}, "native"),
    ],
)  # fmt: skip
def test_near_kin_are_told_apart(row: dict[str, Any], name: str) -> None:
    found = recognised([row])
    assert found is not None
    assert found.format == name
    assert '"' in found.by


@pytest.mark.parametrize(
    "row",
    [
        {"colour": "red", "size": 3},
        {"instruction": "a", "antwort": "b"},
        {"prompt": "a", "antwort": "b"},
        {"chosen": "a"},
        {"text": "a", "label": 1},
    ],
)
def test_what_nobody_knows_is_refused_by_its_keys(row: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path / "in.jsonl", [row])
    with pytest.raises(UserError, match=r"in\.jsonl: no known format has rows with the keys") as error:
        detect(path)
    assert all(f'"{key}"' in str(error.value) for key in row)
    assert "--column prompt=" in str(error.value)


GIVEN = {"instruction": "a", "input": "", "output": "b"}
WHOLE = {
    "the rows under one key": ({"version": 1, "train": [GIVEN, GIVEN]}, 'in "train"; jq -c \'.["train"][]\''),
    "a row under each key": ({"x": GIVEN, "y": GIVEN}, "jq -c '.[]'"),
    "pandas, by columns": ({"a": {"0": "x", "1": "y"}, "b": {"0": "x", "1": "y"}}, 'orient="records"'),
    "pandas, split": ({"columns": ["a"], "index": [0], "data": [["x"]]}, 'orient="records"'),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_of_one_object_is_told_how_to_become_rows(name: str, tmp_path: Path) -> None:
    content, sentence = WHOLE[name]
    path = tmp_path / "in.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=re.escape(sentence)):
        detect(path)
    path.write_text(json.dumps(content, indent=2))
    with pytest.raises(UserError, match=r"on one line; jq -c \. .*in\.json > ROWS\.jsonl"):
        detect(path)


def test_the_guide_has_every_format() -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text()
    assert [name for name in FORMATS if f"\n| `{name}` | " not in guide] == []


def test_a_folder_of_two_formats_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.json", [ALPACA])
    written(tmp_path / "b.jsonl", [ALPACA])
    assert detect(tmp_path).format == "alpaca"
    written(tmp_path / "c.jsonl.gz", [HH])
    with pytest.raises(UserError, match=r"a\.json is alpaca and .*c\.jsonl\.gz is hh-rlhf"):
        detect(tmp_path)
    with pytest.raises(UserError, match=r"a\.json is alpaca and"):
        detect([tmp_path / "a.json", tmp_path / "c.jsonl.gz"])


def test_a_file_without_an_object(tmp_path: Path) -> None:
    for text in ("", "[]", "3\n4\n", "{}\n", "not JSON"):
        (tmp_path / "in.json").write_text(text)
        reason = "no row in the beginning" if text else "the file is empty"
        with pytest.raises(UserError, match=rf"in\.json: {reason}"):
            detect(tmp_path / "in.json")


def test_commands_that_read_records_say_how_to_convert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("in.json"), [ALPACA])
    targets = {"check": [], "stats": [], "split": ["a.jsonl", "b.jsonl"], "merge": ["a.jsonl"]}
    for command, target in targets.items():
        with pytest.raises(UserError) as error:
            CliRunner().invoke(app, [command, "in.json", *target], catch_exceptions=False)
        assert str(error.value) == (
            'in.json is alpaca, by the keys "instruction", "input" and "output"; '
            "convert it first: alignkit data convert in.json RECORDS.jsonl"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["in.json"]


def test_a_folder_of_records_may_hold_other_json(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes(
        msgspec.json.encode({"prompt": [{"role": "user", "content": "a"}]})
    )
    written(tmp_path / "report.json", [ALPACA])
    check_native(tmp_path)
    with pytest.raises(UserError, match=r"report\.json is alpaca"):
        check_native(tmp_path / "report.json")
    with pytest.raises(UserError, match="no such file"):
        check_native(tmp_path / "none.jsonl")


# The whole of the third-party data, by its own list: the file, its rows, the format, and the records.
REAL = {
    "human/hh_harmless_test.jsonl.gz": (2_312, "hh-rlhf"),
    "human/pandalm_testset-v1.json": (999, "pandalm"),
    "judge/alpaca_eval_gpt4_pairs.jsonl.gz": (13_000, "alpaca-eval"),
    "judge/rasbt_preference.json": (1_100, "alpaca"),
    "sft/alpaca_5000.json": (5_000, "alpaca"),
    "sft/gsm8k_train.jsonl.gz": (7_473, "columns"),
    "sft/rasbt_instruction.json": (1_100, "alpaca"),
    "prompts/mt_bench_question.jsonl": (80, "mt-bench"),
    "prompts/self_instruct_user_oriented.jsonl": (252, "self-instruct"),
    "formats/dpo_en_demo.json": (299, "sharegpt"),
    "formats/kto_en_demo.json": (300, "sharegpt"),
    "formats/alpaca_en_demo.json": (999, "alpaca"),
    "formats/oasst_en_100_tree.jsonl.gz": (100, "oasst"),
}


@pytest.mark.parametrize("file", REAL)
def test_real_files_convert_whole(shared_data: Path, tmp_path: Path, file: str) -> None:
    rows, name = REAL[file]
    target = tmp_path / "out.jsonl"
    result = CliRunner().invoke(
        app, ["convert", str(shared_data / file), str(target)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert f"{file} is {name}, by " in result.output
    assert f"\n{rows:,} rows read from " in result.output
    assert ", 0 set aside\n" in result.output
    records = sum(1 for _ in read_records(target))
    assert f"{records:,} records in {target}" in result.output
    assert records > rows if name == "oasst" else records == rows


def test_every_real_file_is_listed(shared_data: Path) -> None:
    files = {
        str(path.relative_to(shared_data)) for path in shared_data.glob("*/*") if "LICENSE" not in path.name
    }
    assert files == REAL.keys()


@pytest.mark.parametrize(
    ("file", "share", "value", "margin"),
    [
        ("human/hh_harmless_test.jsonl.gz", "longer_wins", 0.445, 0.020),
        ("human/pandalm_testset-v1.json", "agreement", 0.920, 0.010),
        ("judge/rasbt_preference.json", "longer_wins", 0.521, 0.030),
        ("judge/alpaca_eval_gpt4_pairs.jsonl.gz", "longer_wins", 0.848, 0.010),
    ],
)
def test_known_figures_come_out_of_stats(
    shared_data: Path, tmp_path: Path, file: str, share: str, value: float, margin: float
) -> None:
    target = str(tmp_path / "out.jsonl")
    CliRunner().invoke(app, ["convert", str(shared_data / file), target], catch_exceptions=False)
    result = CliRunner().invoke(app, ["stats", target, "--json"], catch_exceptions=False)
    assert json.loads(result.output)[share]["value"] == pytest.approx(value, abs=margin)
