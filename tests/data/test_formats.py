"""Foreign formats: what comes in goes out again, and what a format cannot hold is said."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_strategies import json_values, load, records, texts, there_and_back, write_lines

from alignment.data.files import Rejects, read_records, write_records
from alignment.data.formats import FORMATS, alpaca, hh_rlhf, trl
from alignment.data.records import Completion, Judgment, Message, Record, check_record, message_dict
from alignment.data.views import pairs_view
from alignment.errors import UserError

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(st.lists(texts, max_size=2), texts, texts, texts, st.booleans())
def test_hh_round_trip_of_any_text(middle: list[str], first: str, good: str, bad: str, odd: bool) -> None:
    start = f"\n\nHuman: {first}" + "".join(
        f"\n\nAssistant: {t}\n\nHuman:{'' if odd else ' '}{t}" for t in middle
    )
    row = {"chosen": f"{start}\n\nAssistant: {good}", "rejected": f"{start}\n\nAssistant: {bad}"}
    assert there_and_back("hh-rlhf", [row]) == [row]


@QUICK
@given(texts, texts, texts, st.sampled_from(["", " "]), st.dictionaries(st.sampled_from("xyz"), json_values))
def test_hh_with_a_prompt_column_and_further_ones(
    first: str, good: str, bad: str, space: str, further: dict[str, Any]
) -> None:
    prompt = f"\n\nHuman: {first}\n\nAssistant:{space}"
    row = {"prompt": prompt, "chosen": good, "rejected": bad} | further
    assert there_and_back("hh-rlhf", [row]) == [row]
    (record,) = [hh_rlhf.decode(json.dumps(row).encode(), "here")]
    assert record.prompt[0].role == "user"
    whole = {side: prompt + row[side] for side in ("chosen", "rejected")} | further
    assert there_and_back("hh-rlhf", [whole]) == [whole]


def test_hh_keeps_empty_replies_equal_replies_and_prompts_that_differ(tmp_path: Path) -> None:
    rows = [
        {"chosen": "\n\nHuman: a\n\nAssistant: ", "rejected": "\n\nHuman: a\n\nAssistant: b"},
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: b"},
        {
            "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
            "rejected": "\n\nHuman: a\n\nAssistant: x\n\nHuman: y\n\nAssistant: z",
        },
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: other\n\nAssistant: b"},
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c"},
    ]
    found = list(hh_rlhf.read(write_lines(tmp_path / "in.jsonl", rows)))
    assert [[m.content for m in record.prompt] for record in found] == [["a"], ["a"], ["a"], [], ["a"]]
    assert [[len(c.turns()) for c in record.completions] for record in found] == [
        [1, 1],
        [1, 1],
        [3, 3],
        [2, 2],
        [1, 2],
    ]
    assert hh_rlhf.write(found, tmp_path / "out.jsonl") == Counter()
    assert load(tmp_path / "out.jsonl") == rows
    counts: Counter[str] = Counter()
    assert len(list(pairs_view(found, counts=counts))) == 2
    assert counts == {"empty completion": 1, "equal completions": 1, "empty prompt": 1}


ALPACA_ROWS: dict[str, dict[str, Any]] = {
    "plain": {"instruction": "Add.", "input": "", "output": "4"},
    "with input": {"instruction": "Add.", "input": "2 and 2", "output": "4"},
    "without the column": {"instruction": "Add.", "output": "4"},
    "prompt only": {"instruction": "Add.", "input": ""},
    "empty output": {"instruction": "Add.", "input": "", "output": ""},
    "system and history": {
        "instruction": "Add.",
        "input": "2",
        "output": "4",
        "system": "Be brief.",
        "history": [["Hi", "Hello"]],
    },
    "empty system and history": {
        "instruction": "Add.",
        "input": "2",
        "output": "4",
        "system": "",
        "history": [],
    },
    "preference": {"instruction": "Add.", "input": "", "chosen": "4", "rejected": "5"},
    "preference and output": {
        "instruction": "Add.",
        "input": "",
        "output": "four",
        "chosen": "4",
        "rejected": "5",
    },
    "further columns": {
        "instruction": "Add.",
        "input": "",
        "output": "4",
        "text": "### Instruction",
        "n": [1],
    },
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".jsonl.gz"])
def test_alpaca_rows_come_back(tmp_path: Path, suffix: str) -> None:
    rows = list(ALPACA_ROWS.values())
    (tmp_path / "in.json").write_text(json.dumps(rows, indent=2))
    write_records(tmp_path / "native.jsonl", alpaca.read(tmp_path / "in.json"))
    assert alpaca.write(read_records(tmp_path / "native.jsonl"), tmp_path / f"out{suffix}") == Counter()
    assert load(tmp_path / f"out{suffix}") == rows


@QUICK
@given(
    st.fixed_dictionaries(
        {"instruction": texts},
        optional={
            "input": texts,
            "output": texts,
            "system": texts,
            "history": st.lists(st.tuples(texts, texts).map(list), max_size=1),
            "further": json_values,
        },
    )
)
def test_alpaca_round_trip_of_any_text(row: dict[str, Any]) -> None:
    assert there_and_back("alpaca", [row]) == [row]


def test_what_alpaca_cannot_hold(tmp_path: Path) -> None:
    two = [Completion(content="a"), Completion(content="b", license="MIT")]
    rows = [
        Record([Message("user", "q")], completions=two, judgments=[Judgment(by="x", labels=[True, None])]),
        Record([Message("tool", "q")], completions=[Completion(content="a")]),
    ]
    assert alpaca.write(rows, tmp_path / "out.json") == {
        "completion": 2,
        "completion.license": 1,
        "judgment.by": 1,
        "prompt": 1,
    }
    written = [{"instruction": "q", "input": "", "output": "a", "kto_tag": True}]
    assert load(tmp_path / "out.json") == written


BROKEN = {
    ("trl", '{"prompt": "a", "chosen": "b"}'): "go together",
    ("trl", '{"promt": "a"}'): "none of TRL's columns",
    ("trl", '{"prompt": "a", "completion": [{"role": "assistant", "content": "b"}]}'): "all be text",
    ("trl", '{"chosen": "a", "rejected": [{"role": "assistant", "content": "b"}]}'): "all be text",
    ("trl", '{"prompt": 1}'): "prompt",
    ("trl", '{"prompt": [{"role": "assistant", "content": "b"}]}'): "ends with the assistant",
    ("trl", '{"messages": [{"role": "user", "contnt": "b"}]}'): 'did you mean "content"',
    ("trl", '{"messages": []}'): "is empty",
    ("trl", '{"text": "a", "text": "b"}'): '"text" is there twice',
    ("trl", '{"prompt": "a", "x": 1, "x": 1}'): '"x" is there twice',
    ("trl", '{"chosen": [{"role": "user", "content": "b"}], "rejected": []}'): "no turn by the assistant",
    ("hh-rlhf", '{"chosen": "a", "rejected": "b"}'): 'no turn begins with "Human:"',
    ("hh-rlhf", '{"chosen": "\\n\\nHuman: a", "rejected": "\\n\\nHuman: a"}'): "no turn by the assistant",
    ("hh-rlhf", '{"chosen": "a", "rejectd": "b"}'): '"rejected" is missing; did you mean "rejectd"',
    ("hh-rlhf", '{"chosen": "a", "chosen": "a", "rejected": "b"}'): "twice",
    ("alpaca", '{"instrution": "a"}'): 'the key "instruction" is missing; did you mean "instrution"',
    ("alpaca", '{"instruction": 1}'): "instruction",
    ("alpaca", '{"instruction": "a", "chosen": "b"}'): "go together",
    ("alpaca", '{"instruction": "a", "instruction": "b"}'): "twice",
    ("alpaca", "[1]"): "object",
}


@pytest.mark.parametrize(("name", "line"), BROKEN)
def test_a_broken_foreign_row_is_named_or_set_aside(name: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    good = {
        "trl": {"text": "a"},
        "hh-rlhf": {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
        "alpaca": ALPACA_ROWS["plain"],
    }[name]
    path.write_text(f"{json.dumps(good)}\n{line}\n")
    with pytest.raises(UserError) as error:
        list(FORMATS[name].read(path))
    assert str(error.value).startswith(f"{path}, line 2: ")
    assert BROKEN[name, line] in str(error.value)
    rejects = Rejects(tmp_path / "a.rejected.jsonl")
    assert len(list(FORMATS[name].read(path, rejects))) == 1
    assert rejects.count == 1


@pytest.mark.parametrize("name", ["trl", "hh-rlhf", "alpaca"])
@settings(max_examples=40, deadline=None)
@given(row=records())
def test_any_record_is_written_or_its_losses_are_counted(name: str, row: Record) -> None:
    from alignment.data.formats.foreign import losses

    module = FORMATS[name]
    rows = module.rows(row, module.style_of(row)) if module is trl else module.rows(row)
    again = [module.decode(json.dumps(r).encode(), "written") for r in rows]
    lost = losses(row, again)
    if not rows:
        assert lost["prompt"] == 1
    for record in again:
        check_record(record, "written")
    kept = [message_dict(m) for r in again for m in r.prompt + [t for c in r.completions for t in c.turns()]]
    if not lost["prompt"] and again:
        assert all(message_dict(m) in kept for m in row.prompt)


@pytest.mark.parametrize(
    ("name", "file", "rows"),
    [
        ("hh-rlhf", "human/hh_harmless_test.jsonl.gz", 2312),
        ("alpaca", "sft/alpaca_5000.json", 5000),
        ("alpaca", "sft/rasbt_instruction.json", 1100),
        ("alpaca", "judge/rasbt_preference.json", 1100),
        ("alpaca", "formats/alpaca_en_demo.json", 999),
    ],
)
def test_real_files_come_back_row_by_row(
    shared_data: Path, tmp_path: Path, name: str, file: str, rows: int
) -> None:
    written = write_records(tmp_path / "native.jsonl", FORMATS[name].read(shared_data / file))
    assert written.rows == rows
    out = tmp_path / "out.json"
    assert FORMATS[name].write(read_records(tmp_path / "native.jsonl"), out) == Counter()
    assert load(out) == load(shared_data / file)
