"""Chats: ShareGPT, Alpaca's kin and OpenAI's two formats, there and back."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import json_values, load, maybe, names, records, texts, there_and_back

from alignment.data.files import read_records, write_records
from alignment.data.formats import FORMATS, alpaca, hh_rlhf, native, openai_chat, sharegpt, trl
from alignment.data.formats.foreign import losses
from alignment.data.records import (
    Completion,
    Judgment,
    Message,
    Record,
    check_record,
    encode_record,
    message_dict,
)
from alignment.data.views import messages_view, pairs_view, unpaired_view
from alignment.errors import UserError

SAMPLES = Path(__file__).parent / "samples"
FILES = {
    "sharegpt.jsonl": "sharegpt",
    "openai-chat.jsonl": "openai-chat",
    "openai-preference.jsonl": "openai-preference",
    "oasst.jsonl": "oasst",
    "alpaca-kin.jsonl": "alpaca",
}
ROW_BY_ROW = ["sharegpt", "openai-chat", "openai-preference", "alpaca"]
QUICK = settings(max_examples=60, deadline=None)


@pytest.mark.parametrize("file", FILES)
def test_samples_come_back_as_the_same_rows(file: str, tmp_path: Path) -> None:
    module = FORMATS[FILES[file]]
    write_records(tmp_path / "native.jsonl", module.read(SAMPLES / file))
    lost = module.write(read_records(tmp_path / "native.jsonl"), tmp_path / "out.jsonl")
    assert load(tmp_path / "out.jsonl") == load(SAMPLES / file)
    assert lost == Counter()


@pytest.mark.parametrize("file", [*FILES, "oasst-flat.jsonl"])
def test_samples_are_recognised_by_their_own_format_alone(file: str) -> None:
    own = FILES.get(file, "oasst")
    checked = {"sharegpt", "openai-chat", "openai-preference", "oasst", "alpaca", "hh-rlhf", "native"}
    for row in load(SAMPLES / file):
        assert [name for name in FORMATS if name in checked and FORMATS[name].recognise(row)] == [own], row


def one(file: str, index: int) -> Record:
    return FORMATS[FILES[file]].decode(json.dumps(load(SAMPLES / file)[index]).encode(), "here")


def test_sharegpt_rows_become_what_they_mean() -> None:
    chat = one("sharegpt.jsonl", 1)
    assert [turn.role for turn in chat.prompt] == ["system", "user", "assistant", "user"]
    assert [c.content for c in chat.completions] == ["Stay on the ground."]
    assert chat.demonstrations == [0]
    tools = one("sharegpt.jsonl", 3)
    assert [turn.role for turn in tools.prompt] == ["system", "user", "assistant", "tool"]
    function = {"name": "tide", "arguments": {"harbour": "Husum", "day": "Friday"}}
    assert tools.prompt[2].tool_calls == [{"type": "function", "function": function}]
    assert tools.prompt[2].content == ""
    assert [tool["name"] for tool in tools.tools or ()] == ["tide"]
    pair = one("sharegpt.jsonl", 5)
    assert next(pairs_view([pair]))["rejected"] == [{"role": "assistant", "content": "Yes."}]
    several = one("sharegpt.jsonl", 8)
    assert [len(c.turns()) for c in several.completions] == [3, 1]
    good, bad = one("sharegpt.jsonl", 9), one("sharegpt.jsonl", 10)
    assert [row["label"] for row in unpaired_view([good, bad])] == [True, False]
    assert not good.demonstrations
    last = one("sharegpt.jsonl", 11)
    assert [turn.content for turn in last.completions[0].turns()] == ["Scones.", "Thank you."]
    assert [turn.weight for turn in one("sharegpt.jsonl", 13).completions[0].turns()] == [1]


def test_openai_rows_become_what_they_mean() -> None:
    weighed = one("openai-chat.jsonl", 1)
    assert next(messages_view([weighed]))["messages"][1]["weight"] == 0
    calls = one("openai-chat.jsonl", 4)
    assert calls.completions[0].turns()[0].tool_calls[0]["id"] == "call_1"  # type: ignore[index]
    old = one("openai-chat.jsonl", 5)
    assert old.prompt[1].tool_calls == [{"type": "function", "function": {"name": "tide", "arguments": "{}"}}]
    assert (old.prompt[2].role, old.prompt[2].name) == ("tool", "tide")
    assert [tool["type"] for tool in old.tools or ()] == ["function"]
    picture = one("openai-chat.jsonl", 6)
    assert picture.prompt[0].content == "What is this?"
    assert [part["type"] for part in picture.prompt[0].parts or ()] == ["text", "image_url"]
    begun = one("openai-preference.jsonl", 4)
    assert [turn.role for turn in begun.prompt] == ["user"]
    assert [[turn.content for turn in c.turns()] for c in begun.completions] == [
        ["The moor lay grey", "and under it the rain."],
        ["The moor lay grey", "lol"],
    ]
    assert begun.judgments == [Judgment(ranks=[1, 2])]


def test_alpaca_kin_become_what_they_mean() -> None:
    assert one("alpaca-kin.jsonl", 1).judgments == [Judgment(labels=[False])]
    two = one("alpaca-kin.jsonl", 2)
    assert next(pairs_view([two]))["chosen"][0]["content"] == "An oak."
    assert one("alpaca-kin.jsonl", 5).prompt[1].content == "Look up the tide.\n\nHusum"
    assert one("alpaca-kin.jsonl", 6).demonstrations == [0]
    assert one("alpaca-kin.jsonl", 7).tools == [{"name": "tide"}]


@pytest.mark.parametrize(("file", "rows"), [("dpo_en_demo", 299), ("kto_en_demo", 300)])
def test_real_sharegpt_files_come_back(shared_data: Path, tmp_path: Path, file: str, rows: int) -> None:
    source = shared_data / f"formats/{file}.json"
    found = list(sharegpt.read(source))
    assert len(found) == rows
    labels = [j.labels for r in found for j in r.judgments if j.labels]
    assert len(labels) == (300 if file == "kto_en_demo" else 0)
    assert len(list(pairs_view(found))) == (299 if file == "dpo_en_demo" else 0)
    assert sharegpt.write(found, tmp_path / "out.json") == Counter()
    assert load(tmp_path / "out.json") == load(source)


tags = st.sampled_from(["human", "gpt", "user", "chatgpt", "observation", "system", "function_call"])
further = st.fixed_dictionaries({}, optional={"weight": st.sampled_from([0, 1, 0.5]), "x": json_values})
spoken = st.builds(lambda tag, text, more: {"from": tag, "value": text} | more, tags, texts, further)
replied = texts.map(lambda text: {"from": "gpt", "value": text})
several = st.lists(replied, min_size=1, max_size=2)
chats = st.lists(spoken, min_size=1, max_size=4)
labelled = st.tuples(chats, replied).map(lambda both: [*both[0], both[1]])
sharegpt_rows = st.one_of(
    st.fixed_dictionaries({"conversations": chats}, optional={"system": texts, "id": json_values}),
    st.fixed_dictionaries({"conversations": labelled, "kto_tag": st.booleans()}),
    st.fixed_dictionaries({"conversations": chats, "chosen": replied, "rejected": replied}),
    st.fixed_dictionaries({"conversations": chats, "chosen": several, "rejected": several}),
    st.fixed_dictionaries({"conversations": chats, "chosen": texts, "rejected": texts, "tools": texts}),
)


@QUICK
@given(sharegpt_rows)
def test_sharegpt_round_trip_of_any_text(row: dict[str, Any]) -> None:
    assert there_and_back("sharegpt", [row]) == [row]


openai_turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "developer", "assistant", "tool"]), "content": texts},
        optional={"name": texts, "weight": st.sampled_from([0, 1]), "refusal": maybe(texts)},
    ),
    min_size=1,
    max_size=4,
)
said = st.builds(lambda text, more: [{"role": "assistant", "content": text} | more], texts, st.one_of(
    st.just({}), st.just({"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]}),
    st.just({"content": [{"type": "text", "text": "t"}]}),
))  # fmt: skip


@QUICK
@given(
    openai_turns,
    st.fixed_dictionaries({}, optional={"tools": json_values, "parallel_tool_calls": st.booleans()}),
)
def test_openai_chat_round_trip_of_any_text(turns: list[Any], more: dict[str, Any]) -> None:
    row = {"messages": turns} | more
    assert there_and_back("openai-chat", [row]) == [row]


@QUICK
@given(
    openai_turns, said, said, st.dictionaries(names.map(lambda name: f"x_{name}"), json_values, max_size=1)
)
def test_openai_preference_round_trip_of_any_text(
    turns: list[Any], good: list[Any], bad: list[Any], more: dict[str, Any]
) -> None:
    row = {"input": {"messages": turns} | more, "preferred_output": good, "non_preferred_output": bad} | more
    assert there_and_back("openai-preference", [row]) == [row]


@pytest.mark.parametrize("name", ROW_BY_ROW)
@settings(max_examples=40, deadline=None)
@given(row=records())
def test_any_record_is_written_or_its_losses_are_counted(name: str, row: Record) -> None:
    module = FORMATS[name]
    again = [module.decode(msgspec.json.encode(r), "written") for r in module.rows(row)]
    for record in again:
        check_record(record, "written")
    lost = losses(row, again)
    assert again or lost["prompt"] == 1
    kept = [message_dict(m) for r in again for m in r.prompt + [t for c in r.completions for t in c.turns()]]
    if not lost["prompt"]:
        assert all(message_dict(m) in kept for m in row.prompt)


plain_turns = st.builds(Message, st.sampled_from(["system", "user", "tool"]), texts)
held_prompts = st.lists(plain_turns, min_size=1, max_size=3)
held_replies = texts.map(lambda text: Completion(content=text))


@QUICK
@given(held_prompts, held_replies, held_replies, st.booleans())
def test_what_a_format_can_hold_is_the_same_when_it_is_read_again(
    prompt: list[Message], good: Completion, bad: Completion, label: bool
) -> None:
    shown = Record(prompt, completions=[good], demonstrations=[0])
    judged = Record(prompt, completions=[good], judgments=[Judgment(labels=[label])])
    pair = Record(prompt, completions=[good, bad], judgments=[Judgment(ranks=[1, 2])])
    bare = Record(prompt)
    holds = {
        "sharegpt": [shown, judged, pair, bare],
        "openai-chat": [shown, bare],
        "openai-preference": [pair],
    }
    for name, held in holds.items():
        for record in held:
            (row,) = FORMATS[name].rows(record)
            again = FORMATS[name].decode(msgspec.json.encode(row), "here")
            assert encode_record(again) == encode_record(record)


def test_calls_of_tools_go_from_openai_to_sharegpt_whole(tmp_path: Path) -> None:
    record = one("openai-chat.jsonl", 3)
    (row,) = sharegpt.rows(record)
    assert [turn["from"] for turn in row["conversations"]] == ["human", "function_call", "observation", "gpt"]
    call = json.loads(row["conversations"][1]["value"])
    assert call == {"name": "tide", "arguments": {"harbour": "Husum"}}  # as LLaMA-Factory reads it
    again = sharegpt.decode(json.dumps(row).encode(), "here")
    assert (again.prompt, again.completions) == (record.prompt, record.completions)


def test_ultrafeedback_binarized_keeps_its_pair_in_trl() -> None:
    user, good, bad = (
        {"role": r, "content": c} for r, c in (("user", "q"), ("assistant", "a"), ("assistant", "b"))
    )
    row = {"prompt": "q", "prompt_id": "1", "chosen": [user, good], "rejected": [user, bad],
           "messages": [user, good], "score_chosen": 8.0}  # fmt: skip
    assert trl.recognise(row)
    record = trl.decode(json.dumps(row).encode(), "here")
    assert len(list(pairs_view([record]))) == 1
    assert there_and_back("trl", [row]) == [row]


BROKEN = {
    ("sharegpt", '{"conversations": []}'): '"conversations" is empty',
    ("sharegpt", '{"conversatons": [{"from": "human", "value": "a"}]}'): "no list of turns",
    ("sharegpt", '{"conversations": [{"from": "alien", "value": "a"}]}'): '"from" is "alien"; known are',
    ("sharegpt", '{"conversations": [{"from": "human", "valeu": "a"}]}'): 'did you mean "valeu"',
    ("sharegpt", '{"conversations": [{"from": "human", "value": "a"}], "chosen": {}}'): "go together",
    ("sharegpt", '{"conversations": [{"from": "human", "value": "a"}], "kto_tag": "yes"}'): "true or false",
    ("sharegpt", '{"conversations": [{"from": "human", "value": "a"}], "kto_tag": true}'): "no turn by the",
    ("sharegpt", '{"conversations": ["a"]}'): "a list of turns",
    ("sharegpt", '{"conversations": [], "conversations": []}'): "twice",
    ("openai-chat", '{"messages": []}'): "is empty",
    ("openai-chat", '{"messages": [{"role": "user"}]}'): 'the key "content" is missing',
    ("openai-chat", '{"messages": [{"role": "user", "content": 5}]}'): "must be text or a list of parts",
    ("openai-chat", '{"mesages": []}'): 'did you mean "mesages"',
    ("openai-preference", '{"input": {"messages": []}, "preferred_output": []}'): '"non_preferred_output" is',
    ("openai-preference", '{"input": "a", "preferred_output": [], "non_preferred_output": []}'): '"messages"',
    ("oasst", '{"message_id": "1", "text": "a", "role": "robot"}'): "known are prompter and assistant",
    ("oasst", '{"prompt": {"message_id": "1", "text": "a", "role": "prompter", "replies": [1]}}'): "replies",
    ("oasst", '{"text": "a"}'): "neither a tree",
    ("alpaca", '{"instruction": "a", "output": "b", "kto_tag": "yes"}'): "kto_tag: expected bool",
    ("alpaca", '{"instruction": "a", "kto_tag": true}'): 'goes with "output"',
    ("alpaca", '{"instruction": "a", "output": ["b"]}'): "two answers",
    ("trl", '{"messages": [{"role": "user", "content": "b"}], "label": true}'): "--from sharegpt",
}  # fmt: skip


@pytest.mark.parametrize(("name", "line"), BROKEN)
def test_a_broken_row_is_named(name: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError) as error:
        list(FORMATS[name].read(path))
    assert str(error.value).startswith(f"{path}, line 1: ")
    assert BROKEN[name, line] in str(error.value)


def test_recognition_leaves_other_rows_alone() -> None:
    turn = {"role": "user", "content": "a"}
    assert openai_chat.recognise({"messages": [turn], "prompt_id": "1"}) is None
    assert trl.recognise({"messages": [turn], "prompt_id": "1"})
    assert sharegpt.recognise({"conversation_a": [turn], "conversation_b": [turn]}) is None
    assert alpaca.recognise({"instruction": "a", "response1": "b", "response2": "c"}) is None
    assert alpaca.recognise({"prompt": "a", "response": "b", "score": 1}) is None
    assert hh_rlhf.recognise({"chosen": "a", "rejected": "b"}) is None
    assert trl.recognise({"question": "q", "chosen": "a", "rejected": "b"}) is None
    assert native.recognise({"v": 1, "prompt": [turn]})
