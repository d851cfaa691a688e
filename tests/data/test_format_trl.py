"""TRL's rows: every column style comes back, and means what TRL means by it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_strategies import json_values, load, names, texts, there_and_back, write_lines

from alignment.data.files import read_records, write_records
from alignment.data.formats import trl
from alignment.data.records import Judgment, Record, message_dict
from alignment.data.views import messages_view, pairs_view
from alignment.errors import UserError

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def bot(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


TRL_ROWS: dict[str, dict[str, Any]] = {
    "text": {"text": "The sky is blue."},
    "messages": {"messages": [user("a"), bot("b"), user("c"), bot("d")]},
    "messages, the user last": {"messages": [user("a"), bot("b"), user("c")]},
    "messages, no reply": {"messages": [user("a")]},
    "messages with tools": {
        "messages": [
            user("a"),
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]},
            {"role": "tool", "name": "f", "content": "4"},
            bot("4"),
        ],
        "tools": [{"type": "function"}],
    },
    "prompt, standard": {"prompt": "The sky is"},
    "prompt, conversational": {"prompt": [{"role": "system", "content": "s"}, user("a")]},
    "completion, standard": {"prompt": "The sky is", "completion": " blue."},
    "completion, conversational": {"prompt": [user("a")], "completion": [bot("b")]},
    "preference, standard": {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
    "preference, conversational": {"prompt": [user("a")], "chosen": [bot("b")], "rejected": [bot("c")]},
    "preference, several turns": {
        "prompt": [user("a")],
        "chosen": [bot("b"), user("x"), bot("y")],
        "rejected": [bot("c")],
    },
    "implicit, standard": {"chosen": "The sky is blue.", "rejected": "The sky is green."},
    "implicit, conversational": {"chosen": [user("a"), bot("b")], "rejected": [user("a"), bot("c")]},
    "implicit, parted early": {
        "chosen": [user("a"), bot("b"), user("x"), bot("y")],
        "rejected": [user("a"), bot("c")],
    },
    "implicit beside a text": {
        "prompt": "a",
        "chosen": [user("a"), bot("b")],
        "rejected": [user("a"), bot("c")],
    },
    "unpaired, standard": {"prompt": "The sky is", "completion": " blue.", "label": True},
    "unpaired, conversational": {"prompt": [user("a")], "completion": [bot("b")], "label": False},
    "further columns": {"prompt": [user("a")], "completion": [bot("b")], "id": 7, "score": {"x": [1.5]}},
    "parts": {
        "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}],
        "completion": [bot("b")],
    },
}


@pytest.mark.parametrize("style", TRL_ROWS)
def test_every_trl_style_comes_back(style: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", [TRL_ROWS[style]] * 2)
    records_in = list(trl.read(path))
    assert len(records_in) == 2  # equal rows are kept, not merged
    write_records(tmp_path / "native.jsonl", records_in)
    lost = trl.write(read_records(tmp_path / "native.jsonl"), tmp_path / "out.jsonl")
    assert lost == Counter()
    assert load(tmp_path / "out.jsonl") == [TRL_ROWS[style]] * 2


def test_trl_rows_become_what_they_mean() -> None:
    def record(style: str) -> Record:
        return trl.decode(json.dumps(TRL_ROWS[style]).encode(), "here")

    conversation = record("messages")
    assert [m.content for m in conversation.prompt] == ["a", "b", "c"]
    assert [c.text for c in conversation.completions] == ["d"]
    assert next(messages_view([conversation]))["messages"] == TRL_ROWS["messages"]["messages"]
    implicit = record("implicit, standard")
    assert [m.content for m in implicit.prompt] == ["The sky is"]
    assert [c.text for c in implicit.completions] == [" blue.", " green."]
    parted = record("implicit, parted early")
    assert [m.content for m in parted.prompt] == ["a"]
    assert [len(c.turns()) for c in parted.completions] == [3, 1]
    assert record("unpaired, conversational").judgments == [Judgment(labels=[False])]
    assert record("parts").prompt[0].content == "What?"
    row = next(pairs_view([record("preference, conversational")]))
    assert {key: row[key] for key in ("prompt", "chosen", "rejected")} == TRL_ROWS[
        "preference, conversational"
    ]


@pytest.mark.slow
def test_trl_itself_reads_our_pairs_as_it_reads_the_source() -> None:
    from trl.data_utils import extract_prompt

    row = TRL_ROWS["implicit, conversational"]
    ours = next(pairs_view([trl.decode(json.dumps(row).encode(), "here")]))
    assert {key: ours[key] for key in ("prompt", "chosen", "rejected")} == extract_prompt(row)


trl_turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": texts}),
    min_size=1,
    max_size=3,
)
replies = texts.map(lambda text: [bot(text)])
extras = st.dictionaries(names.map(lambda name: f"x_{name}"), json_values, max_size=1)


@QUICK
@given(
    st.one_of(
        st.fixed_dictionaries({"text": texts}),
        st.fixed_dictionaries({"prompt": trl_turns}),
        st.fixed_dictionaries({"prompt": texts}),
        st.fixed_dictionaries({"prompt": trl_turns, "completion": replies}),
        st.fixed_dictionaries({"prompt": texts, "completion": texts}),
        st.fixed_dictionaries({"prompt": texts, "chosen": texts, "rejected": texts}),
        st.fixed_dictionaries({"prompt": trl_turns, "chosen": replies, "rejected": replies}),
        st.fixed_dictionaries({"chosen": texts, "rejected": texts}),
        st.fixed_dictionaries({"prompt": trl_turns, "completion": replies, "label": st.booleans()}),
        st.fixed_dictionaries({"prompt": texts, "completion": texts, "label": st.booleans()}),
        st.builds(
            lambda one, two, three: {"chosen": one + two, "rejected": one + three},
            trl_turns,
            replies,
            replies,
        ),
        st.builds(lambda one, two: {"messages": one + two}, trl_turns, replies),
    ),
    extras,
)
def test_trl_round_trip_of_any_text(row: dict[str, Any], extra: dict[str, Any]) -> None:
    assert there_and_back("trl", [row | extra]) == [row | extra]


def test_trl_mixed_styles_are_refused_and_a_style_can_be_named(tmp_path: Path) -> None:
    rows = [TRL_ROWS["preference, conversational"], TRL_ROWS["prompt, conversational"]]
    source = list(trl.read(write_lines(tmp_path / "in.jsonl", rows)))
    with pytest.raises(UserError, match="several styles"):
        trl.write(source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    lost = trl.write(source, tmp_path / "out.jsonl", style="preference")
    assert load(tmp_path / "out.jsonl") == rows[:1]
    assert lost == {"prompt": 1}
    with pytest.raises(UserError, match="choose one of"):
        trl.write(source, tmp_path / "out2.jsonl", style="pairs")


def test_what_trl_cannot_hold_is_said_field_by_field(
    tmp_path: Path, toy_records: Callable[..., list[Record]]
) -> None:
    rows = toy_records(10)
    ranked = [r for r in rows if len(r.completions) == 3]
    lost = trl.write(ranked, tmp_path / "out.jsonl")
    n = len(ranked)
    assert lost["id"] == n
    assert lost["completion.id"] == lost["completion.source"] == 3 * n
    assert lost["judgment.by"] == 2 * n
    assert lost["demonstration"] == n
    assert lost["prompt"] == lost["completion"] == lost["preference"] == 0
    assert len(load(tmp_path / "out.jsonl")) == len(list(pairs_view(ranked)))


def test_a_parquet_file_of_trl_columns_is_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [TRL_ROWS["messages with tools"], TRL_ROWS["messages"] | {"tools": None}]
    table = pa.Table.from_pylist([row | {"tools": json.dumps(row["tools"])} for row in rows])
    pq.write_table(table, tmp_path / "a.parquet")
    found = list(trl.read(tmp_path / "a.parquet"))
    assert [message_dict(m) for m in found[0].prompt] == TRL_ROWS["messages with tools"]["messages"][:-1]
    assert [r.tools for r in found] == [[{"type": "function"}], None]
