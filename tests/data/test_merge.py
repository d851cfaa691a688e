"""Merging: records united by id, judgments by judge and time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import records

from alignment.data.files import read_records, write_records
from alignment.data.merge import Conflict, merge
from alignment.data.records import Completion, Judgment, Message, Record, with_id

Toy = Callable[..., list[Record]]


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
    said = {conflict.field for conflict in merged.conflicts()}
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
    conflicts = list(merged.conflicts())
    assert first.judgments == [ann, bob, later]
    assert first.meta == {"tags": ["a"], "x": 1, "y": 2}
    assert [second, third] == base[1:]
    assert [(c.id, c.field) for c in conflicts] == [
        (base[0].id, "meta.tags"),
        (base[0].id, "judgments by ann"),
        (base[1].id, "prompt"),
    ]
    assert conflicts[0] == Conflict(base[0].id or "", "meta.tags", ["a"], ["b"])
    assert conflicts[2].refused["prompt"] == [{"role": "user", "content": "other"}]


def test_two_anonymous_judges_who_agree_are_still_two_after_a_merge(tmp_path: Path) -> None:
    vote = Judgment(ranks=[1, 2])
    pair = [Completion(content="a"), Completion(content="b")]
    row = Record([Message("user", "q")], completions=pair, judgments=[vote, vote])
    write_records(tmp_path / "a.jsonl", [row])
    (merged,) = list(merge(read_records([tmp_path / "a.jsonl", tmp_path / "a.jsonl"])))
    assert merged.judgments == [vote, vote]
