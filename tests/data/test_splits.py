"""Splits by prompt."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import texts

from alignment.data.records import Completion, Message, Record, record_id
from alignment.data.splits import in_validation, prompt_key, split
from alignment.errors import UserError

Toy = Callable[..., list[Record]]


def asked(text: str) -> Record:
    return Record([Message("user", text)])


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=8), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_split_is_stable_and_no_prompt_is_on_both_sides(
    prompts: list[str], fraction: float, seed: int
) -> None:
    rows = [asked(text) for text in prompts] + [asked(f"  {text.upper()}\n") for text in prompts]
    sides = {prompt_key(row): in_validation(row, fraction, seed) for row in rows}
    for row in reversed(rows):
        assert in_validation(row, fraction, seed) == sides[prompt_key(row)]
        assert not in_validation(row, fraction / 2, seed) or in_validation(row, fraction, seed)


def test_the_sides_of_a_split_are_the_same_on_every_machine() -> None:
    chosen = [n for n in range(40) if in_validation(asked(f"prompt {n}"), 0.25)]
    assert chosen == [4, 5, 10, 11, 14, 16, 28, 29, 31, 33, 34]
    assert chosen != [n for n in range(40) if in_validation(asked(f"prompt {n}"), 0.25, seed=1)]


def test_prompts_that_differ_only_in_spacing_case_or_width_are_one_prompt() -> None:
    keys = {prompt_key(asked(text)) for text in ("What is  it?", " what is\nIT? ", "What is it\uff1f")}
    assert len(keys) == 1
    assert prompt_key(asked("What was it?")) not in keys
    alone = [Record([], completions=[Completion(content=text)]) for text in ("a", "b")]
    assert prompt_key(alone[0]) != prompt_key(alone[1])


def test_split_keeps_every_record_and_about_the_fraction(toy_records: Toy) -> None:
    rows = toy_records(1000)
    train, validation = split(rows, 0.2)
    assert sorted(train + validation, key=record_id) == sorted(rows, key=record_id)
    assert 150 < len(validation) < 250
    for fraction in (0.0, 1.0, -1.0):
        with pytest.raises(UserError, match="between 0 and 1"):
            split(rows, fraction)
    with pytest.raises(UserError, match="no record for validation"):
        split(rows[:1], 0.0001)
    with pytest.raises(UserError, match="seed"):
        split(rows, 0.5, seed=-1)
