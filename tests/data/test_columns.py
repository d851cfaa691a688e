"""Tables and rows with columns of any name: read by a mapping, written back, and never shortened."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_strategies import load, records, texts
from typer.testing import CliRunner

from alignment.cli.data import app
from alignment.data.files import Rejects, read_records, write_records
from alignment.data.formats import columns
from alignment.data.formats.column_names import Names, parse_mapping, usual_names
from alignment.data.formats.foreign import losses
from alignment.data.records import Comparison, Completion, Judgment, Message, Record, check_record
from alignment.errors import UserError

SAMPLES = sorted((Path(__file__).parent / "samples").glob("columns-*"))
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sample(name: str) -> list[Record]:
    return list(columns.read(next(path for path in SAMPLES if path.name == name)))


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        text = file.read()
    delimiter = "\t" if path.suffix == ".tsv" else ";" if ";" in text.partition("\n")[0] else ","
    return list(csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_comes_back_row_by_row(path: Path, tmp_path: Path) -> None:
    rows = load(path) if path.suffix == ".jsonl" else table(path)
    written = write_records(tmp_path / "native.jsonl", columns.read(path))
    assert written.rows == len(rows)
    out = tmp_path / f"out{path.suffix}"
    assert columns.write(read_records(tmp_path / "native.jsonl"), out) == Counter()
    assert (load(out) if path.suffix == ".jsonl" else table(out)) == rows


def test_cells_hold_line_ends_quotes_and_spaces() -> None:
    found = sample("columns-questions.csv")
    assert found[1].prompt == [Message("user", 'Who said "no"?')]
    assert found[1].completions[0].content == "She did,\r\nand so did he.\r\n\r\nTwice."
    assert [record.completions[0].content for record in found][2:] == ["", "1; 2", " kept "]
    assert found[4].prompt[0].content == " Spaces "
    assert all(record.demonstrations == [0] for record in found)


def test_choices_and_labels_of_judges() -> None:
    chosen = sample("columns-semicolons.csv")  # a byte order mark, and semicolons
    assert [record.judgments[0].ranks if record.judgments else None for record in chosen] == [
        [1, 2], [2, 1], [1, 1], None,
    ]  # fmt: skip
    assert [record.judgments[0].by for record in chosen[:3]] == ["anna", "bert", None]
    labelled = sample("columns-labels.tsv")
    assert [record.judgments[0].labels if record.judgments else None for record in labelled] == [
        [True], [False], None, [True],
    ]  # fmt: skip
    assert labelled[3].completions[0].content == 'a\t"b"'
    contexts = sample("columns-contexts.jsonl")
    assert contexts[0].prompt[0].content == "Who lives there?\n\nAn owl lives in the oak."
    assert contexts[3].completions[0].content == "42"
    assert [len(record.prompt) for record in sample("columns-systems.jsonl")] == [2, 1, 1]


def read_rows(path: Path, rows: list[dict[str, Any]], *mapping: str) -> list[Record]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(columns.read(path, names=parse_mapping(mapping)))


def test_every_target(tmp_path: Path) -> None:
    row = {
        "q": "Why?",
        "s": "Be brief.",
        "a": "So.",
        "ok": "no",
        "n": "4.5",
        "w": "ann",
        "k": 7,
        "t": "x, y",
        "l": "nl",
    }
    (record,) = read_rows(
        tmp_path / "in.jsonl", [row], "prompt=q", "system=s", "completion=a", "label=ok", "rating=n",
        "judge=w", "id=k", "tags=t", "meta.language=l",
    )  # fmt: skip
    assert [message.role for message in record.prompt] == ["system", "user"]
    assert record.judgments == [Judgment(by="ann", labels=[False], ratings={"rating": [4.5]})]
    assert (record.id, record.meta["tags"], record.meta["language"]) == ("7", ["x", "y"], "nl")
    assert columns.rows(record) == [row]


def test_the_best_of_three_is_better_than_each_and_the_others_are_not_tied(tmp_path: Path) -> None:
    rows = [
        {"q": "a", "x": "1", "y": "2", "z": "3", "best": best}
        for best in (2, "B", "y", "2.0", "tie", "", None)
    ]
    mapping = ("prompt=q", "completion_1=x", "completion_2=y", "completion_3=z", "preference=best")
    found = read_rows(tmp_path / "in.jsonl", rows, *mapping)
    for record in found[:4]:
        assert record.judgments[0].comparisons == [Comparison(1, 0), Comparison(1, 2)]
    assert found[4].judgments[0].ranks == [1, 1, 1]
    assert found[5].judgments == found[6].judgments == []
    assert [columns.rows(record) for record in found] == [[row] for row in rows]


STATED = {
    "preference_from_0": ((0, 1, "y", "tie", "", "b"), ([1, 2], [2, 1], [2, 1], [1, 1], None, [2, 1])),
    "preference": ((1, 2, "X", 0, None, "a"), ([1, 2], [2, 1], [1, 2], [1, 1], None, [1, 2])),
}


@pytest.mark.parametrize("target", STATED)
def test_numbers_of_the_better_one_count_from_0_or_from_1(target: str, tmp_path: Path) -> None:
    cells, ranks = STATED[target]
    rows = [{"q": "a", "x": "1", "y": "2", "best": best} for best in cells]
    mapping = ("prompt=q", "completion_1=x", "completion_2=y", f"{target}=best")
    found = read_rows(tmp_path / "in.jsonl", rows, *mapping)
    assert [record.judgments[0].ranks if record.judgments else None for record in found] == list(ranks)
    assert [columns.rows(record) for record in found] == [[row] for row in rows]
    rows[0]["best"] = 2 if target == "preference_from_0" else 3
    with pytest.raises(UserError, match=r"line 1: \"best\" is [23]; give a number from"):
        read_rows(tmp_path / "in.jsonl", rows, *mapping)


def test_a_signed_preference_has_a_strength(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "response1": "1", "response2": "2", "overall_preference": n} for n in (-3, 0, 2)]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(columns.read(path))  # HelpSteer's own names
    assert [record.judgments[0].comparisons for record in found] == [
        [Comparison(0, 1, strength=3)], None, [Comparison(1, 0, strength=2)],
    ]  # fmt: skip
    assert found[1].judgments[0].ranks == [1, 1]
    assert [columns.rows(record) for record in found] == [[row] for row in rows]


def test_a_judged_answer_is_no_demonstration(tmp_path: Path) -> None:
    names = usual_names({"prompt": "a", "response": "b", "helpfulness": 3, "verbosity": None})
    assert names == {
        "prompt": "prompt", "completion": "response", "rating.helpfulness": "helpfulness",
        "rating.verbosity": "verbosity",
    }  # fmt: skip
    unsafe = {"prompt": "a", "response": "b", "is_safe": False}
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(unsafe))
    (record,) = columns.read(path)
    assert record.demonstrations is None
    assert record.judgments == [Judgment(labels=[False])]
    said_otherwise = {"prompt": "a", "response": "b", "quality": "high", "label": "physics"}
    assert usual_names(said_otherwise) == {"prompt": "prompt", "demonstration": "response"}


def test_an_input_beside_an_instruction_is_its_context(tmp_path: Path) -> None:
    row = {"instruction": "a", "input": "b", "response1": "c", "response2": "d", "label": 2}
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    (record,) = columns.read(tmp_path / "in.jsonl")
    assert record.prompt == [Message("user", "a\n\nb")]
    assert record.judgments == [Judgment(ranks=[2, 1])]


def test_a_text_without_a_prompt_is_written_with_an_empty_list() -> None:
    record = Record([], completions=[Completion(content="Once upon a time.")], demonstrations=[0])
    (row,) = columns.rows(record)
    again = columns.decoder(columns.names_of(record))(json.dumps(row).encode(), "here")
    assert losses(record, [again]) == Counter()


def test_lists_of_messages_are_conversations(tmp_path: Path) -> None:
    said = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "?"},
    ]
    rows = [{"p": said, "c": "yes", "r": "no"}, {"p": json.dumps(said), "c": "yes", "r": "no"}]
    found = read_rows(tmp_path / "in.jsonl", rows, "prompt=p", "chosen=c", "rejected=r")
    assert [[message.role for message in record.prompt] for record in found] == [
        ["user", "assistant", "user"]
    ] * 2
    assert [columns.rows(record) for record in found] == [[row] for row in rows]


MAPPINGS = {
    ("prompt",): "TARGET=COLUMN",
    ("promt=a",): 'did you mean "prompt"',
    ("prompt=a", "prompt=b"): '"prompt" is given twice',
    ("prompt=a", "chosen=a", "rejected=b"): '"a" is given twice',
    ("completion=a",): "which column is the prompt",
    ("prompt=a", "chosen=b"): "one is missing",
    ("prompt=a", "label=b"): "name it: --column completion=COLUMN",
    ("prompt=a", "completion_2=b"): "without gaps",
    ("prompt=a", "completion_1=b", "preference=c"): "needs completion_1 and completion_2",
    ("prompt=a", "completion_1=b", "completion_2=c", "preference=d", "preference_from_0=e"): "choose one",
    ("prompt=a", "chosen=b", "rejected=c", "completion=d"): "choose one of",
}


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_mapping_that_makes_no_sense_is_refused(mapping: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="--column") as error:
        parse_mapping(mapping)
    assert MAPPINGS[mapping] in str(error.value)


PAIR: Names = {"prompt": "q", "completion_1": "x", "completion_2": "y", "preference": "best", "judge": "who"}
BROKEN_ROWS = {
    '{"q": "a", "x": "b", "y": "c", "best": 3}': "from 1 to 2",
    '{"q": "a", "x": "b", "y": "c", "best": "perhaps"}': "from 1 to 2",
    '{"q": "a", "x": "b", "y": null, "best": 1}': '"y" (completion_2) is missing or null',
    '{"qq": "a", "x": "b", "y": "c"}': '"q" is missing; did you mean "qq"',
    '{"q": {"a": 1}, "x": "b", "y": "c"}': "must be text",
    '{"q": "a", "x": [1], "y": "c"}': "no list of messages",
    '{"q": "a", "x": "b", "y": "c", "y": "d"}': "twice",
}


@pytest.mark.parametrize("line", BROKEN_ROWS)
def test_a_broken_row_is_named_or_set_aside(line: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(f'{{"q": "a", "x": "b", "y": "c", "best": 1}}\n{line}\n')
    with pytest.raises(UserError) as error:
        list(columns.read(path, names=PAIR))
    assert str(error.value).startswith(f"{path}, line 2: ")
    assert BROKEN_ROWS[line] in str(error.value)
    rejects = Rejects(tmp_path / "a.rejected.jsonl")
    assert len(list(columns.read(path, rejects, PAIR))) == 1
    assert rejects.count == 1


def test_rows_that_do_not_fit_the_header_are_set_aside_with_line_and_text(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text(
        'question,answer\n"one\ntwo",three\nfour\nfive,six,seven\neight,nine\n"ten" x,y\nz,"open\n'
    )
    with pytest.raises(UserError, match=r"line 4 \(1 cells, but the header has 2\)"):
        list(columns.read(path))
    rejects = Rejects(tmp_path / "a.rejected.jsonl")
    found = list(columns.read(path, rejects))
    assert [record.prompt[0].content for record in found] == ["one\ntwo", "eight"]
    assert rejects.count == 4
    entries = [json.loads(line) for line in (tmp_path / "a.rejected.jsonl").read_text().splitlines()]
    assert [json.loads(entry["row"]) for entry in entries] == [
        "four\n",
        "five,six,seven\n",
        '"ten" x,y\n',
        'z,"open\n',
    ]
    for entry, line in zip(entries, (4, 5, 7, 8), strict=True):
        assert f"{path}, line {line} (" in entry["where"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"question,question\na,b\n", '"question" twice'),
        ("question,answer\nä,b\n".encode("latin-1"), "line 2: not UTF-8"),
        ("question,answer\na,b\n".encode("utf-16"), "UTF-16"),
        (b"", "no usable row"),
        (b"question,answer\n", "no usable row"),
        (b"foo,bar\na,b\n", 'which of the columns "foo", "bar" is what'),
        (b'question,answer\na,"never closed\n' * 1, "line 2 (not CSV"),
    ],
)
def test_a_broken_table_is_explained(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        list(columns.read(path))
    assert reason in str(error.value)


def test_a_cell_longer_than_the_csv_modules_default(tmp_path: Path) -> None:
    long = "word " * 100_000
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(f"question|answer\nwhy|{long}\n".encode()))
    assert [record.completions[0].content for record in columns.read(path)] == [long]


@QUICK
@given(
    rows=st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=4),
    suffix=st.sampled_from([".csv", ".tsv", ".csv.gz"]),
)
def test_any_text_comes_back_from_a_table(
    rows: list[tuple[str, str, str]], suffix: str, tmp_path: Path
) -> None:
    found = [
        columns.decode(json.dumps({"question": q, "answer": a, "note": n}).encode(), "here")
        for q, a, n in rows
    ]
    out = tmp_path / f"out{suffix}"
    assert columns.write(found, out, overwrite=True) == Counter()
    again = list(columns.read(out))
    assert [(r.prompt, r.completions, r.demonstrations) for r in again] == [
        (r.prompt, r.completions, r.demonstrations) for r in found
    ]
    assert [columns.rows(r)[0]["note"] for r in again] == [note for _, _, note in rows]


@settings(max_examples=100, deadline=None)
@given(records())
def test_any_record_is_written_or_its_losses_are_counted(row: Record) -> None:
    names = columns.names_of(row)
    again = [columns.decoder(names)(json.dumps(r).encode(), "written") for r in columns.rows(row)]
    lost = losses(row, again)
    if not again:
        assert lost["prompt"] == 1
    for record in again:
        check_record(record, "written")
    kept = [reply.turns() for record in again for reply in record.completions]
    assert lost["completion"] or all(reply.turns() in kept for reply in row.completions)


def test_records_that_need_different_columns_are_refused_and_a_mapping_settles_it(tmp_path: Path) -> None:
    found = [*sample("columns-questions.csv")[:1], *sample("columns-systems.jsonl")[:1]]
    with pytest.raises(UserError, match="--column"):
        columns.write(found, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    lost = columns.write(found, tmp_path / "out.csv", names={"prompt": "frage", "demonstration": "antwort"})
    assert lost["demonstration"] == 0
    assert lost["preference"] == 1  # a pair fills no such columns but by its better side
    assert list(table(tmp_path / "out.csv")[0]) == ["frage", "antwort", "topic"]


@pytest.mark.parametrize(
    ("keys", "target"),
    [
        (["Question", "Answer"], "demonstration"),
        (["prompt", "response"], "demonstration"),
        (["instruction", "context", "response"], "demonstration"),
        (["question", "chosen", "rejected"], "chosen"),
        (["prompt", "completion", "label"], "label"),
        (["prompt", "completion_1", "completion_2", "preference"], "preference"),
        (["Prompt", "Response A", "Response B", "Preferred"], "preference"),
        (["prompt", "response_0", "response_1", "better_response_id"], "preference_from_0"),
        (["prompt", "answer_1", "answer_2", "winner", "annotator"], "judge"),
        (["prompt", "response_1", "response_2"], None),
        (["prompt", "response_1", "response_3", "winner"], None),
        (["answer", "label"], None),
        (["text"], None),
        (["prompt", "prompt_id"], None),
    ],
)
def test_usual_names(keys: list[str], target: str | None) -> None:
    names = usual_names(dict.fromkeys(keys, "x"))
    assert (names is not None and target in names) or (target is None and names is None)


def test_the_command_takes_a_mapping_and_writes_tables(tmp_path: Path) -> None:
    def run(*arguments: Any) -> str:
        result = CliRunner().invoke(app, ["convert", *map(str, arguments)], catch_exceptions=True)
        return result.output + str(result.exception or "")

    (tmp_path / "in.csv").write_text("f,g,b\nWhy?,so,no\n")
    mapping = ["--column", "prompt=f", "--column", "chosen=g", "--column", "rejected=b"]
    assert "1 records" in run(tmp_path / "in.csv", tmp_path / "out.jsonl", *mapping)
    exported = run(tmp_path / "out.jsonl", tmp_path / "again.csv", "--to", "columns")
    assert "cannot hold" not in exported
    assert f"1 records for {tmp_path / 'again.csv'}, 0 set aside\n1 rows in {tmp_path}" in exported
    assert (tmp_path / "again.csv").read_bytes() == b"f,g,b\r\nWhy?,so,no\r\n"
    renamed = [option.replace("=f", "=prompt") for option in mapping]
    run(tmp_path / "out.jsonl", tmp_path / "renamed.tsv", "--to", "columns", *renamed)
    assert (tmp_path / "renamed.tsv").read_text().startswith("prompt\tg\tb")
    (tmp_path / "zero.csv").write_text("q,x,y,best\na,1,2,0\na,1,2,1\n")
    zero = [f"--column={one}" for one in ("prompt=q", "completion_1=x", "completion_2=y", "preference=best")]
    assert "preference_from_0=best" in run(tmp_path / "zero.csv", tmp_path / "z.jsonl", *zero)
    assert "--column goes with" in run(
        tmp_path / "in.csv", tmp_path / "x.jsonl", "--from", "alpaca", *mapping
    )


def test_gsm8k_comes_back_row_by_row(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "sft/gsm8k_train.jsonl.gz"
    found = list(columns.read(source))
    assert len(found) == 7_473
    assert columns.write(found, tmp_path / "out.jsonl") == Counter()
    assert load(tmp_path / "out.jsonl") == load(source)
    assert columns.write(found, tmp_path / "out.csv") == Counter()
    assert list(columns.read(tmp_path / "out.csv")) == found
