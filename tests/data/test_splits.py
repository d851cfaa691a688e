"""Splits by prompt."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import texts

from alignment.data.records import Completion, Message, Record, record_id
from alignment.data.splits import Splitter, in_validation, prompt_key, split, stratum
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


def tagged(number: int, tags: list[str] | None) -> Record:
    return Record([Message("user", f"prompt {number}")], meta={} if tags is None else {"tags": tags})


def test_two_shares_split_as_a_fraction_does() -> None:
    splitter = Splitter([0.75, 0.25], seed=3)
    for number in range(200):
        row = asked(f"prompt {number}")
        assert splitter.part(row) == in_validation(row, 0.25, seed=3)


def test_parts_have_their_shares_and_hold_no_prompt_twice() -> None:
    splitter = Splitter([0.7, 0.2, 0.1])
    parts = {number: splitter.part(asked(f"prompt {number}")) for number in range(5000)}
    for part, share in enumerate([0.7, 0.2, 0.1]):
        assert sum(found == part for found in parts.values()) == pytest.approx(5000 * share, rel=0.1)
    again = Splitter([0.7, 0.2, 0.1])
    assert all(again.part(asked(f"  PROMPT {n}\n")) == parts[n] for n in reversed(range(5000)))


shares_of = st.lists(st.integers(1, 20), min_size=2, max_size=4).map(lambda x: [n / sum(x) for n in x])
strata_of = st.lists(
    st.tuples(st.integers(0, 80), st.sampled_from([None, ["a"], ["b", "a"], ["b"]])), max_size=150
)


@settings(max_examples=80)
@given(shares_of, strata_of, st.integers(0, 3))
def test_every_stratum_is_split_to_within_a_prompt_at_every_point_and_rows_at_the_end_move_none(
    shares: list[float], rows: list[tuple[int, list[str] | None]], seed: int
) -> None:
    splitter, parts = Splitter(shares, seed, "meta.tags"), {}
    for number, tags in rows:
        part = splitter.part(tagged(number, tags))
        assert parts.setdefault(number, part) == part  # also where the prompt comes again in another stratum
        for counts in splitter.strata.values():
            for count, share in zip(counts, shares, strict=True):
                assert count - share * sum(counts) <= 1 + 1e-9
    assert sum(map(sum, splitter.strata.values())) == len(parts)
    assert set(splitter.strata) <= {"(none)", "a", "a, b", "b"}


def test_stratified_or_not_most_prompts_are_on_the_same_side() -> None:
    plain, strict = Splitter([0.9, 0.1]), Splitter([0.9, 0.1], stratify="meta.tags")
    rows = [tagged(number, [f"t{number % 5}"]) for number in range(5000)]
    moved = sum(plain.part(row) != strict.part(row) for row in rows)
    assert moved < 0.2 * len(rows)
    around = Splitter([0.9, 0.1], stratify="meta.tags")
    other = {prompt_key(row): around.part(row) for row in reversed(rows)}
    assert sum(other[prompt_key(row)] != strict.part(row) for row in rows) < 0.2 * len(rows)


def test_a_stratum_is_the_value_at_any_path() -> None:
    row = Record(
        [Message("user", "x")], meta={"source": "hh", "n": 3, "deep": {"b": 1, "a": 2}, "tags": ["z", "a"]}
    )
    found = {path: stratum(row, f"meta.{path}") for path in ("source", "n", "deep", "tags", "deep.a", "n.n")}
    assert found == {
        "source": "hh",
        "n": "3",
        "deep": '{"a":2,"b":1}',
        "tags": "a, z",
        "deep.a": "2",
        "n.n": "(none)",
    }
    with pytest.raises(UserError, match='no "metta"; did you mean "meta"'):
        Splitter([0.5, 0.5], stratify="metta.tags")
    with pytest.raises(UserError, match="add up to 1"):
        Splitter([0.5, 0.4])
    with pytest.raises(UserError, match="add up to 1"):
        Splitter([1.5, -0.5])
    with pytest.raises(UserError, match="seed"):
        Splitter([0.5, 0.5], seed=-1)
