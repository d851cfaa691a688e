"""The record's rules, and the sentences that a broken row gets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from record_strategies import records

from alignment.data.records import (
    Completion,
    Judgment,
    Message,
    Record,
    decode_record,
    encode_record,
    json_schema,
    record_id,
    with_id,
)
from alignment.errors import UserError

# The example of the format's specification, every field of it.
EXAMPLE = {
    "v": 1,
    "id": "a1f3",
    "prompt": [{"role": "user", "content": "Why is the sky blue?"}],
    "completions": [
        {
            "id": "c0",
            "content": "Scattering.",
            "source": {"kind": "model", "name": "smollm2-sft", "params": {"temperature": 0.7}},
            "license": "MIT",
            "rewards": [0.2, 1.3],
            "meta": {"a": [1, {"b": None}]},
        },
        {"id": "c1", "messages": [{"role": "assistant", "content": "Paint."}]},
        {"content": "Sky."},
        {"content": ""},
    ],
    "demonstrations": [0],
    "judgments": [
        {
            "by": "ann-7",
            "ranks": [1, 2, 2, None],
            "comparisons": [{"a": 0, "b": 2, "p": 0.8, "strength": 2.0}],
            "ratings": {"helpful": [5.0, 3.0, 3.0, None]},
            "labels": [True, None, None, False],
            "all_bad": False,
            "rationale": "Says why.",
            "at": "2026-11-22T09:00:00Z",
            "seconds": 12.4,
            "presented": [2, 0, 1, 3],
            "guideline": "v2",
            "meta": {"page": 1},
        }
    ],
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "parent": {"id": "b2", "completion": 1},
    "meta": {"source": "hh-rlhf", "license": "MIT", "split": "train", "tags": ["harmless"]},
}


def test_the_example_of_the_format_is_kept_field_by_field() -> None:
    record = decode_record(json.dumps(EXAMPLE).encode(), "example")
    assert json.loads(encode_record(record)) == EXAMPLE


@given(records())
def test_encode_and_decode_are_inverse(record: Record) -> None:
    assert decode_record(encode_record(record), "here") == record


@pytest.mark.parametrize("content", ["", "plain"])
def test_version_and_empty_content_are_written(content: str) -> None:
    line = json.loads(encode_record(Record([Message("user", content)])))
    assert line == {"v": 1, "prompt": [{"role": "user", "content": content}]}


TURN = '{"role": "user", "content": "hi"}'
TWO = '"completions": [{"content": "a"}, {"content": "b"}]'
BROKEN = {
    '{"promt": []}': ['"promt"', 'did you mean "prompt"?'],
    '{"prompt": [{"role": "user", "contnt": "a"}]}': ['"contnt"', "prompt[0]", 'did you mean "content"?'],
    f'{{"prompt": [{TURN}], "completions": [{{"sorce": {{}}}}]}}': ['"sorce"', 'did you mean "source"?'],
    f'{{"prompt": [{TURN}], "judgments": [{{"rank": [1]}}]}}': ['"rank"', 'did you mean "ranks"?'],
    f'{{"prompt": [{TURN}], "completions": [{{"source": {{"knd": "x"}}}}]}}': ['"knd"', '"kind"'],
    f'{{"prompt": [{TURN}], "id": "a", "id": "b"}}': ['"id" is there twice'],
    f'{{"prompt": [{TURN}], "meta": {{"a": {{"k": 1, "k": 1}}}}}}': ['"k" is there twice'],
    '{"prompt": [{"role": "user", "content": "a", "\\u0063ontent": "b"}]}': ['"content" is there twice'],
    f'{{"prompt": [{TURN}], "completions": [{{"content": 1}}]}}': ["completions[0].content", "expected str"],
    '{"prompt": [{"role": "usr", "content": "a"}]}': ["prompt[0].role", "'usr'"],
    f'{{"prompt": [{TURN}], "v": 2}}': ["v", "2"],
    '{"prompt": [': ["not valid JSON"],
    "[]": ["expected object, got array"],
    '{"prompt": []}': ["neither a prompt nor completions"],
    f'{{"prompt": [{TURN}, {{"role": "assistant", "content": "a"}}]}}': ["ends with the assistant"],
    f'{{"prompt": [{TURN}], {TWO}, "judgments": [{{"ranks": [1]}}]}}': ["judgments[0].ranks", "1", "2"],
    f'{{"prompt": [{TURN}], {TWO}, "judgments": [{{"ranks": [0, 1]}}]}}': ["the best rank is 1"],
    f'{{"prompt": [{TURN}], {TWO}, "judgments": [{{"labels": [true]}}]}}': ["judgments[0].labels"],
    f'{{"prompt": [{TURN}], {TWO}, "judgments": [{{"ratings": {{"q": [1]}}}}]}}': ["ratings.q"],
    f'{{"prompt": [{TURN}], {TWO}, "judgments": [{{"presented": [0, 0]}}]}}': ["presented", "twice"],
    f'{{"prompt": [{TURN}], {TWO}, "judgments": [{{"comparisons": [{{"a": 0, "b": 2}}]}}]}}': [
        "completion 2"
    ],
    f'{{"prompt": [{TURN}], {TWO}, "judgments": [{{"comparisons": [{{"a": 0, "b": 0}}]}}]}}': ["twice"],
    f'{{"prompt": [{TURN}], {TWO}, "judgments": [{{"comparisons": [{{"a": 0, "b": 1, "p": 2}}]}}]}}': [
        "p = 2"
    ],
    f'{{"prompt": [{TURN}], {TWO}, "judgments": [{{"seconds": -1}}]}}': ["seconds"],
    f'{{"prompt": [{TURN}], {TWO}, "demonstrations": [5]}}': ["demonstrations", "completion 5"],
    f'{{"prompt": [{TURN}], "completions": [{{}}]}}': ["completions[0]", '"content" or "messages"'],
    f'{{"prompt": [{TURN}], "completions": [{{"content": "a", "messages": []}}]}}': [
        '"content" or "messages"'
    ],
    f'{{"prompt": [{TURN}], "completions": [{{"messages": [{TURN}]}}]}}': ["no assistant turn"],
    f'{{"prompt": [{TURN}], "completions": [{{"id": "c", "content": ""}}, {{"id": "c", "content": ""}}]}}': [
        'two completions have the id "c"'
    ],
}


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_row_gets_one_sentence_that_names_the_place(line: str) -> None:
    with pytest.raises(UserError) as error:
        decode_record(line.encode(), "train.jsonl, line 7")
    sentence = str(error.value)
    assert sentence.startswith("train.jsonl, line 7: ")
    assert "\n" not in sentence
    for part in BROKEN[line]:
        assert part in sentence


def test_invalid_utf8_is_a_user_error() -> None:
    with pytest.raises(UserError, match="line 1: not valid JSON"):
        decode_record(b'{"prompt": [{"role": "user", "content": "\xff"}]}', "f, line 1")


def test_a_quoted_object_inside_a_text_is_no_duplicate_key() -> None:
    record = Record([Message("user", '{"a": 1, "a": 2} \\" "id": "id":')], meta={"k": '"k": "k"'})
    spaced = json.dumps(json.loads(encode_record(record)), indent=1).encode()
    assert decode_record(spaced, "here") == record


def test_the_id_is_kept_or_made_of_prompt_and_completions_alone() -> None:
    record = Record([Message("user", "a")], completions=[Completion(content="b")])
    judged = Record(record.prompt, completions=record.completions, judgments=[Judgment(labels=[True])])
    spelled = Record(record.prompt, completions=[Completion(messages=[Message("assistant", "b")])])
    assert record_id(record) == record_id(judged) == record_id(spelled) == "922018b12eebb29ef3ab7644"
    assert record_id(Record([Message("user", "b")])) != record_id(Record([Message("user", "a")]))
    assert with_id(record).id == record_id(record)
    assert record.id is None
    assert record_id(Record([Message("user", "a")], id="mine")) == "mine"


def test_a_completion_as_text_and_as_turns() -> None:
    turns = [
        Message("assistant", "", tool_calls=[{"name": "f"}]),
        Message("tool", "4"),
        Message("assistant", "Four"),
    ]
    assert Completion(messages=turns).text == "Four"
    assert Completion(messages=turns).turns() == turns
    assert Completion(content="x").turns() == [Message("assistant", "x")]


def test_the_json_schema_is_closed_and_names_every_field() -> None:
    definitions = json_schema()["$defs"]
    assert definitions["Record"]["additionalProperties"] is False
    assert set(definitions["Record"]["properties"]) == set(EXAMPLE)
    assert set(definitions["Judgment"]["properties"]) == set(EXAMPLE["judgments"][0])  # type: ignore[index]
