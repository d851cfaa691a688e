"""Open-Assistant's trees and flat messages: every message arrives, and the trees come back."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import json_values, load, maybe, texts, write_lines

from alignment.data.files import Rejects
from alignment.data.formats import oasst
from alignment.data.formats.oasst_trees import tree_records, trees_of
from alignment.data.records import Completion, Judgment, Message, Parent, Record, check_record
from alignment.errors import UserError

SAMPLES = Path(__file__).parent / "samples"
QUICK = settings(max_examples=60, deadline=None)


def test_oasst_trees_become_rankings(tmp_path: Path) -> None:
    found = {record.id: record for record in oasst.read(SAMPLES / "oasst.jsonl")}
    first, second = found["t1"], found["t1a1"]
    assert first.judgments == [Judgment(ranks=[1, 3, 2])]
    assert [c.source and (c.source.kind, c.source.name) for c in first.completions] == [
        ("human", None), None, ("model", "small-model"),
    ]  # fmt: skip
    assert [turn.content for turn in second.prompt] == [
        "How do I boil an egg?", "Eight minutes in boiling water.", "And a soft one?",
    ]  # fmt: skip
    assert second.parent == Parent("t1", 0)
    assert found["t1a2"].completions == []
    assert not found["t3"].judgments
    assert found["t4"].judgments == [Judgment(ranks=[1, 1, None])]
    assert found["t6a"].parent == Parent("t6", None)
    assert first.completions[0].meta["oasst"]["labels"] == {"quality": {"value": 0.8, "count": 3}}


def test_flat_messages_become_the_same_records_and_come_back(tmp_path: Path) -> None:
    rows = load(SAMPLES / "oasst-flat.jsonl")
    found = list(oasst.read(SAMPLES / "oasst-flat.jsonl"))
    assert {record.id: [c.id for c in record.completions] for record in found} == {
        "f1": ["f1a", "f1b"], "f1a1": ["f1a1a", "f1a1b"], "f2": [],
        "f3-gone": ["f3x", "f3y"], "f3x1": ["f3x1a"],
    }  # fmt: skip
    orphans = found[3]
    assert (orphans.prompt, orphans.judgments) == ([], [Judgment(ranks=[2, 1])])
    assert found[4].parent == Parent("f3-gone", 0)
    turned = [rows[4], rows[6], *rows[:4]]  # the tree in two places
    rejects = Rejects(tmp_path / "rejected.jsonl")
    again = list(oasst.read(write_lines(tmp_path / "turned.jsonl", turned), rejects))
    assert rejects.count == 4
    assert [c.id for record in again for c in record.completions] == ["f1a1b"]
    # Children before their parents:
    nearer = list(oasst.read(write_lines(tmp_path / "nearer.jsonl", rows[:6][::-1])))
    assert [(r.id, len(r.completions)) for r in nearer] == [("f1", 2), ("f1a1", 2)]
    assert oasst.write(found, tmp_path / "out.jsonl") == Counter()
    key = lambda row: row["message_id"]  # noqa: E731
    assert sorted(load(tmp_path / "out.jsonl"), key=key) == sorted(rows, key=key)


def test_oasst_of_other_records(tmp_path: Path) -> None:
    asked = Record(
        [Message("user", "q")],
        id="r",
        completions=[Completion(content="a"), Completion(content="b", license="MIT")],
        judgments=[Judgment(by="ann", ranks=[2, 1])],
    )
    follows = Record(
        [Message("user", "q"), Message("assistant", "b"), Message("user", "and?")],
        id="s",
        completions=[Completion(content="c")],
        parent=Parent("r", 1),
    )
    elsewhere = Record([Message("system", "s"), Message("user", "q")], completions=[Completion(content="a")])
    lost = oasst.write([asked, follows, elsewhere], tmp_path / "out.jsonl")
    assert lost == {"completion.license": 1, "judgment.by": 1, "prompt": 1, "completion": 1}
    (tree,) = load(tmp_path / "out.jsonl")
    assert [reply["rank"] for reply in tree["prompt"]["replies"]] == [1, 0]
    again = list(oasst.read(tmp_path / "out.jsonl"))
    assert again[1].prompt == follows.prompt
    assert again[1].parent == follows.parent
    with pytest.raises(UserError, match="no record has what this format holds"):
        oasst.write([elsewhere], tmp_path / "none.jsonl")


def test_every_assistant_message_of_the_real_trees_arrives(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "formats/oasst_en_100_tree.jsonl.gz"
    text = gzip.decompress(source.read_bytes()).decode()
    # Counted without any of our code, and without walking the trees.
    said = Counter(json.loads(line)["message_tree_id"] for line in text.splitlines())
    messages = text.count('"role": "assistant"') or text.count('"role":"assistant"')
    ranked = text.count('"rank":')
    assert (len(said), messages, ranked) == (100, 687, 641)
    found = list(oasst.read(source))
    assert len({c.id for record in found for c in record.completions}) == messages
    ranks = [rank for r in found for j in r.judgments for rank in j.ranks or () if rank is not None]
    assert len(ranks) == ranked
    assert oasst.write(found, tmp_path / "out.jsonl.gz") == Counter()
    assert load(tmp_path / "out.jsonl.gz") == load(source)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    ids = iter(range(1000))

    def node(role: str, depth: int) -> dict[str, Any]:
        row = {"message_id": f"m{next(ids)}", "text": draw(texts), "role": role}
        row |= draw(st.fixed_dictionaries({}, optional={"lang": st.just("en"), "x": json_values}))
        if role == "assistant":
            row |= draw(st.fixed_dictionaries({}, optional={"rank": maybe(st.integers(0, 3))}))
        count = draw(st.integers(0, 3 if role == "prompter" else 2)) if depth else 0
        other = "assistant" if role == "prompter" else "prompter"
        row["replies"] = [node(other, depth - 1) | {"parent_id": row["message_id"]} for _ in range(count)]
        return row

    return {"message_tree_id": "t", "prompt": node("prompter", 4)}


@QUICK
@given(trees())
def test_any_tree_comes_back(tree: dict[str, Any]) -> None:
    found = tree_records([json.loads(json.dumps(tree))], "here")
    for record in found:
        check_record(record, "here")
    assert json.dumps(tree).count('"role": "assistant"') == sum(len(r.completions) for r in found)
    assert trees_of(found) == [tree]
