"""Merging: records united by id, judgments by judge and time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import records

from alignment.data.files import read_records, write_records
from alignment.data.merge import Conflict, Merged, merge
from alignment.data.records import Completion, Judgment, Message, Record, with_id
from alignment.errors import UserError

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


def judged(name: str, *judgments: Judgment, **fields: Any) -> Record:
    pair = [Completion(content="a"), Completion(content="b")]
    return Record([Message("user", "q")], id=name, completions=pair, judgments=list(judgments), **fields)


votes = st.builds(
    Judgment,
    by=st.sampled_from([None, "x", "y"]),
    ranks=st.sampled_from([[1, 2], [2, 1]]),
    at=st.sampled_from([None, "2026-01-01", "2026-01-02"]),
)
rows = st.lists(
    st.builds(
        lambda name, own, meta: judged(name, *own, meta=meta),
        st.sampled_from("abc"),
        st.lists(votes, max_size=3),
        st.dictionaries(st.sampled_from("mn"), st.sampled_from([1, 2]), max_size=2),
    ),
    max_size=5,
)


def content(merged: Iterable[Record]) -> dict[str | None, tuple[Any, ...]]:
    """What is in a merged dataset, whatever the order of its rows, judgments and keys."""
    return {
        record.id: (sorted(encode_judgment(j) for j in record.judgments), record.meta) for record in merged
    }


def encode_judgment(judgment: Judgment) -> bytes:
    return msgspec.json.encode(judgment)


@settings(max_examples=150)
@given(rows, rows, rows)
def test_without_conflicts_neither_grouping_nor_order_matters(
    first: list[Record], second: list[Record], third: list[Record]
) -> None:
    whole = merge([*first, *second, *third])
    around = merge([*third, *first, *second])
    left = merge([*merge([*first, *second]), *third])
    right = merge([*first, *merge([*second, *third])])
    if whole.conflict_fields.total() == around.conflict_fields.total() == 0:
        assert content(whole) == content(around) == content(left) == content(right)
    assert [record.id for record in whole] == list(dict.fromkeys(r.id for r in [*first, *second, *third]))


@settings(max_examples=150)
@given(rows)
def test_nothing_is_lost(given_rows: list[Record]) -> None:
    merged = merge(given_rows)
    kept = {record.id: record for record in merged}
    refused = Counter((conflict.id, conflict.field) for conflict in merged.conflicts())
    assert refused.total() == merged.conflict_fields.total()
    for row in given_rows:
        found = kept[row.id]
        for judgment in row.judgments:
            assert judgment in found.judgments or (row.id, f"judgments by {judgment.by}") in refused
        for key, value in row.meta.items():
            assert found.meta[key] == value or (row.id, f"meta.{key}") in refused


def test_rows_that_do_not_fit_in_the_cache_are_merged_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignment.data.merge._CACHE_KIB", 64)
    long = "text " * 200
    vote = {by: Judgment(by=by, ranks=[1, 2], rationale=long) for by in "xyz"}
    merged = merge(judged(f"r{k * 7 % 500}", vote[by]) for by in "xyz" for k in range(500))
    found = list(merged)
    assert len(merged) == len(found) == 500
    assert [record.id for record in found] == [f"r{k * 7 % 500}" for k in range(500)]
    assert all(record.judgments == list(vote.values()) for record in found)


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alignment.data.merge._CACHE_KIB", 64)
    merged = Merged()
    merged._database.execute("PRAGMA max_page_count = 30")
    rows = (judged(f"r{number}", Judgment(rationale="text " * 200)) for number in range(1000))
    with pytest.raises(UserError, match=r"disk is full after \d+ rows; set TMPDIR"):
        deque(map(merged.add, rows), maxlen=0)


def test_an_empty_field_is_filled_and_never_emptied() -> None:
    ranked, asked = judged("r"), judged("r", meta={"tags": []})
    ranked.completions[0].rewards = []
    for order in ([ranked, asked], [asked, ranked]):
        (once,) = list(merge(order))
        assert list(merge([once, *order])) == [once]
        assert (once.completions[0].rewards, once.meta) == ([], {"tags": []})


def test_why_records_are_united_is_counted() -> None:
    bare = Record([Message("user", "q")], completions=[Completion(content="a")])
    named = msgspec.structs.replace(bare, id="x")
    another = msgspec.structs.replace(named, prompt=[Message("user", "another")])
    merged = merge([bare, bare, named, named, named, another])
    assert (len(merged), merged.same_content, merged.same_id) == (2, 1, 2)
    assert merged.conflict_fields == {"prompt": 1}
