"""Splits, statistics and merging."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import records, texts

from alignment.data.files import read_records, write_records
from alignment.data.formats import hh_rlhf
from alignment.data.merge import Conflict, merge
from alignment.data.quality import in_validation, prompt_key, split, statistics
from alignment.data.records import Completion, Judgment, Message, Record, record_id, with_id
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


def test_statistics_against_counts_by_hand() -> None:
    def record(name: str, texts: list[str], *judgments: Judgment) -> Record:
        completions = [Completion(content=text) for text in texts]
        return Record(
            [Message("user", "Hi there")], id=name, completions=completions, judgments=list(judgments)
        )

    rows = [
        record(
            "a",
            ["long one", "short", ""],
            Judgment(by="x", ranks=[1, 2, 2], presented=[1, 0, 2]),
            Judgment(by="y", ranks=[1, 2, 3]),
            Judgment(labels=[True, False, None]),
        ),
        record(
            "b",
            ["aa", "bbb"],
            Judgment(by="x", ranks=[2, 1], presented=[0, 1]),
            Judgment(by="x", all_bad=True),
        ),
        record("b", [], *[]),
    ]
    found = statistics(rows)
    plain = json.loads(json.dumps(found.as_dict()))
    counts = {key: value for key, value in plain.items() if isinstance(value, int)}
    assert counts == {
        "rows": 3,
        "prompts": 1,
        "repeated_ids": 1,
        "completions": 5,
        "empty_completions": 1,
        "demonstrations": 0,
        "judgments": 5,
        "all_bad": 1,
        "pairs": 6,
        "ties": 1,
    }
    assert plain["judges"] == {"x": 3, "y": 1, "(anonymous)": 1}
    assert plain["completions_per_row"] == {"3": 1, "2": 1, "0": 1}
    assert plain["labels"] == {"good": 1, "bad": 1}
    assert plain["prompt_lengths"] == {"mean": 8.0, "median": 8.0, "p95": 8.0, "max": 8}
    # x says 0>1, 0>2, 1=2 and 1>0 of b; y says 0>1, 0>2, 1>2. The longer wins every time.
    assert (found.longer_wins.hits, found.longer_wins.n) == (6, 6)
    # Shown: 1, 0, 2, so 0>1 lost the first place and 0>2 had it; of b the second shown won.
    assert (found.first_shown_wins.hits, found.first_shown_wins.n) == (1, 3)
    assert (found.first_stored_wins.hits, found.first_stored_wins.n) == (5, 6)
    assert (found.agreement.hits, found.agreement.n) == (2, 3)
    assert (found.agreement_without_ties.hits, found.agreement_without_ties.n) == (2, 2)
    assert plain["agreement"]["value"] == pytest.approx(2 / 3)
    assert plain["agreement"]["low"] < 2 / 3 < plain["agreement"]["high"]
    assert statistics([asked("x")]).as_dict()["longer_wins"] is None


def test_the_longer_reply_wins_as_often_as_is_known_of_real_data(shared_data: Path) -> None:
    found = statistics(hh_rlhf.read(shared_data / "human" / "hh_harmless_test.jsonl.gz"))
    assert found.pairs == found.rows == 2312
    assert found.as_dict()["longer_wins"]["value"] == pytest.approx(0.445, abs=0.001)


@settings(max_examples=60, deadline=None)
@given(st.lists(records(), max_size=3), st.lists(records(), max_size=3))
def test_merging_again_changes_nothing(first: list[Record], second: list[Record]) -> None:
    once = list(merge([*first, *second]))
    assert list(merge(once)) == once
    assert list(merge([*once, *once])) == once
    assert list(merge([*once, *second])) == once
    assert list(merge([*once, *first, *second])) == once
    assert len({record.id for record in once}) == len(once)


@settings(max_examples=40, deadline=None)
@given(records(), records())
def test_merging_unites_the_judgments_of_all(one: Record, other: Record) -> None:
    one.id = other.id = "r"
    other.prompt, other.completions = one.prompt, one.completions
    other.judgments = [j for j in other.judgments if _fits(j, len(one.completions))]
    other.demonstrations = None
    merged = merge([one, other])
    (row,) = list(merged)
    said = {conflict.field for conflict in merged.conflicts}
    for judgment in one.judgments:
        assert judgment in row.judgments
    for judgment in other.judgments:
        assert judgment in row.judgments or f"judgments by {judgment.by}" in said


def _fits(judgment: Judgment, count: int) -> bool:
    columns = [judgment.ranks, judgment.labels, *(judgment.ratings or {}).values()]
    indices = [i for c in judgment.comparisons or () for i in (c.a, c.b)] + list(judgment.presented or ())
    return all(c is None or len(c) == count for c in columns) and all(i < count for i in indices)


def test_two_annotators_files_become_one_and_conflicts_are_listed(toy_records: Toy) -> None:
    rows = toy_records(3)
    count = len(rows[0].completions)
    base = [with_id(Record(r.prompt, id=r.id, completions=r.completions)) for r in rows]

    def judged(index: int, **fields: object) -> Record:
        record = base[index]
        return Record(record.prompt, id=record.id, completions=record.completions, **fields)  # type: ignore[arg-type]

    ann = Judgment(by="ann", ranks=list(range(1, count + 1)), at="2026-01-01")
    bob = Judgment(by="bob", ranks=list(range(count, 0, -1)))
    changed = Judgment(by="ann", ranks=[1] * count, at="2026-01-01")
    later = Judgment(by="ann", ranks=[1] * count, at="2026-01-02")
    merged = merge(
        [
            judged(0, judgments=[ann], meta={"tags": ["a"], "x": 1}),
            *base,
            judged(0, judgments=[ann, bob], meta={"tags": ["b"], "y": 2}),
            judged(0, judgments=[changed, later]),
            Record([Message("user", "other")], id=base[1].id),
        ]
    )
    first, second, third = list(merged)
    assert first.judgments == [ann, bob, later]
    assert first.meta == {"tags": ["a"], "x": 1, "y": 2}
    assert [second, third] == base[1:]
    assert [(c.id, c.field) for c in merged.conflicts] == [
        (base[0].id, "meta.tags"),
        (base[0].id, "judgments by ann"),
        (base[1].id, "prompt"),
    ]
    assert merged.conflicts[0] == Conflict(base[0].id or "", "meta.tags", ["a"], ["b"])
    assert merged.conflicts[2].refused["prompt"] == [{"role": "user", "content": "other"}]


def test_two_anonymous_judges_who_agree_are_still_two_after_a_merge(tmp_path: Path) -> None:
    vote = Judgment(ranks=[1, 2])
    pair = [Completion(content="a"), Completion(content="b")]
    row = Record([Message("user", "q")], completions=pair, judgments=[vote, vote])
    write_records(tmp_path / "a.jsonl", [row])
    (merged,) = list(merge(read_records([tmp_path / "a.jsonl", tmp_path / "a.jsonl"])))
    assert merged.judgments == [vote, vote]
