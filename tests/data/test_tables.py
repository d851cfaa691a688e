"""Tables as other programs save them: lists of messages in cells, numbers as texts, a tool's own columns."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment.data.detect import detect
from alignment.data.files import Rejects
from alignment.data.formats import FORMATS
from alignment.data.records import Message, Record
from alignment.errors import UserError

ASKED = {"content": 'It\'s "q"?', "role": "user"}
CHAT = [ASKED, {"content": "a\n} {", "role": "assistant"}]
OTHER = [ASKED, {"content": "b", "role": "assistant"}]
PRINTED = {
    "json": json.dumps,
    "python": str,
    "numpy": lambda chat: str(np.array(chat, dtype=object)),  # what pandas makes of Parquet's lists
}


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path, rejects: Rejects | None = None) -> tuple[str, list[Record]]:
    name = detect(path).format
    return name, list(FORMATS[name].read(path, rejects))


@pytest.mark.parametrize("how", PRINTED)
def test_lists_of_messages_in_cells(how: str, tmp_path: Path) -> None:
    printed = PRINTED[how]
    rows = [{"prompt": "q", "chosen": printed(CHAT), "rejected": printed(OTHER), "score_chosen": "7.5"}]
    name, (record,) = read(table(tmp_path / "in.csv", rows))
    assert name == "trl"
    assert record.prompt == [Message("user", 'It\'s "q"?')]
    assert [completion.content for completion in record.completions] == ["a\n} {", "b"]
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    name, (record,) = read(table(tmp_path / "in.csv", [{"conversations": printed(turns), "id": "1"}]))
    assert name == "sharegpt"
    assert record.completions[0].content == "a"


def test_a_list_of_messages_that_cannot_be_read_is_no_text(tmp_path: Path) -> None:
    cut = "[{'role': 'user', 'content': array(['q'])}]"
    rows = [{"prompt": "q", "completion": "a"}, {"prompt": cut, "completion": "a"}]
    path = table(tmp_path / "in.csv", rows)
    with pytest.raises(UserError, match=r'line 3 \("prompt" seems to be a list of messages, and is neither'):
        read(path)
    rejects = Rejects()
    assert len(read(path, rejects)[1]) == rejects.count == 1


def test_other_lists_in_cells_stay_texts(tmp_path: Path) -> None:
    answers = ['[{"name": "x"}]', "[{'role': 'x'}]", '[{"role": "user"} and more', "[]", "[1]"]
    path = table(tmp_path / "in.csv", [{"question": "q", "answer": answer} for answer in answers])
    assert [record.completions[0].content for record in read(path)[1]] == answers


def test_messages_of_trees_in_a_table(tmp_path: Path) -> None:
    said = [("m1", "", "prompter", "hi", ""), ("m2", "m1", "assistant", "yo", "1.0"),
            ("m3", "m1", "assistant", "hello", "0.0")]  # fmt: skip
    keys = ("message_id", "parent_id", "role", "text", "rank")
    rows = [dict(zip(keys, one, strict=True)) | {"message_tree_id": "m1"} for one in said]
    name, (record,) = read(table(tmp_path / "in.csv", rows))
    assert (name, record.judgments[0].ranks) == ("oasst", [2, 1])
    rows[1]["rank"] = "first"
    with pytest.raises(UserError, match="\"rank\" is 'first'"):
        read(table(tmp_path / "in.csv", rows))


@pytest.mark.parametrize("said", ["left", '{"selected": "left"}', '[{"selected": "left"}]'])
def test_a_table_of_label_studio(said: str, tmp_path: Path) -> None:
    row = {
        "annotation_id": 1, "annotator": 2, "prompt": "q", "answer1": "a", "answer2": "b",
        "comparison": said, "rating": '[{"rating": 4}]', "lead_time": "8.5",
    }  # fmt: skip
    name, (record,) = read(table(tmp_path / "in.csv", [row]))
    judgment = record.judgments[0]
    assert name == "label-studio"
    assert (judgment.by, judgment.ranks, judgment.seconds) == ("2", [1, 2], 8.5)
    assert FORMATS[name].rows(record) == [{key: str(value) for key, value in row.items()}]


def test_a_rated_chat_of_label_studio_is_a_prompt_and_its_reply(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    result = [
        {"from_name": "rating", "to_name": "chat", "type": "rating", "value": {"rating": 4}},
        {"from_name": "quality", "to_name": "chat", "type": "choices", "value": {"choices": ["Good"]}},
    ]
    data = {"system": "Be brief.", "messages": chat, "topic": "x"}
    task = {"id": 7, "data": data, "annotations": [{"completed_by": 1, "result": result}]}
    (tmp_path / "in.json").write_text(json.dumps([task]))
    name, (record,) = read(tmp_path / "in.json")
    assert [message.role for message in record.prompt] == ["system", "user"]
    assert record.completions[0].content == "a"
    assert (record.judgments[0].ratings, record.judgments[0].labels) == ({"rating": [4.0]}, [True])
    assert FORMATS[name].rows(record) == [task]
