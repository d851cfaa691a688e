"""Views: what a trainer gets from judgments, and what is left out, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import records

from alignment.data.pairs import Vote, best_completion, judgment_votes
from alignment.data.records import Comparison, Completion, Judgment, Message, Record
from alignment.data.views import (
    VIEWS,
    messages_view,
    pairs_view,
    prompts_view,
    rankings_view,
    unpaired_view,
)
from alignment.errors import UserError

ASK = [Message("user", "hi")]


def record(*judgments: Judgment, texts: str = "abc", **fields: Any) -> Record:
    return Record(
        ASK, id="r", completions=[Completion(content=t) for t in texts], judgments=list(judgments), **fields
    )


def sides(row: dict[str, Any]) -> str:
    return row["chosen"][0]["content"] + row["rejected"][0]["content"]


def test_every_strict_order_of_a_ranking_is_a_pair_and_nulls_are_not_worst() -> None:
    counts: Counter[str] = Counter()
    rows = list(pairs_view([record(Judgment(ranks=[2, 1, None, 2]), texts="abcd")], counts=counts))
    assert sorted(map(sides, rows)) == ["ba", "bd"]
    assert counts == {"tie": 1}
    assert rows[0] == {
        "id": "r",
        "prompt": [{"role": "user", "content": "hi"}],
        "chosen": [{"role": "assistant", "content": "b"}],
        "rejected": [{"role": "assistant", "content": "a"}],
        "weight": 1.0,
        "judges": 1,
    }


def test_each_keeps_both_directions_majority_one_and_an_even_split_none() -> None:
    judged = record(Judgment(ranks=[1, 2]), Judgment(ranks=[1, 2]), Judgment(ranks=[2, 1]), texts="ab")
    each = {sides(row): (row["weight"], row["judges"]) for row in pairs_view([judged], "each")}
    assert each == {"ab": (pytest.approx(2 / 3), 2), "ba": (pytest.approx(1 / 3), 1)}
    majority = list(pairs_view([judged], "majority"))
    assert [(sides(row), row["judges"]) for row in majority] == [("ab", 2)]
    assert majority[0]["weight"] == pytest.approx(2 / 3)
    counts: Counter[str] = Counter()
    even = record(Judgment(ranks=[1, 2]), Judgment(ranks=[2, 1]), texts="ab")
    assert list(pairs_view([even], "majority", counts=counts)) == []
    assert list(pairs_view([even], "model", counts=counts)) == []
    assert counts == {"judges split evenly": 2}


def test_comparisons_override_ranks_and_carry_their_probability_and_strength() -> None:
    judgment = Judgment(
        ranks=[1, 2, 3], comparisons=[Comparison(1, 0, p=0.8, strength=2.0), Comparison(2, 1, p=0.5)]
    )
    assert judgment_votes(judgment) == [
        Vote(0, 1, pytest.approx(0.2), 2.0),
        Vote(0, 2, 1.0, 2.0),
        Vote(1, 2, 0.5, 1.0),
    ]
    counts: Counter[str] = Counter()
    rows = list(pairs_view([record(judgment)], margin=True, counts=counts))
    assert {sides(row): (round(row["weight"], 6), row["margin"]) for row in rows} == {
        "ba": (0.8, 2.0),
        "ac": (1.0, 2.0),
    }
    assert counts == {"tie": 1}


def test_pairs_have_no_margin_unless_asked() -> None:
    row = next(pairs_view([record(Judgment(ranks=[1, 2]), texts="ab")]))
    assert "margin" not in row


def test_the_farthest_pairs_come_first_and_empty_ones_take_no_place() -> None:
    counts: Counter[str] = Counter()
    ranked = record(Judgment(ranks=[2, 3, 1, 4]), texts="abc ")
    rows = list(pairs_view([ranked], most=1, counts=counts))
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [("c", "b")]
    assert counts == {"empty completion": 3, "pair closer in rank": 2}


def test_what_makes_no_pair_is_counted_by_reason() -> None:
    rows = [
        record(texts="a"),
        record(texts="ab"),
        record(Judgment(all_bad=True, ranks=[1, 2]), texts="ab"),
        record(Judgment(ranks=[1, 1]), texts="ab"),
        record(Judgment(labels=[True, False]), texts="ab"),
        record(Judgment(ranks=[1, 2]), texts="aa"),
        record(Judgment(ranks=[1, 2]), texts="a "),
        Record([], completions=[Completion(content="a"), Completion(content="b")]),
    ]
    counts: Counter[str] = Counter()
    assert list(pairs_view(rows, counts=counts)) == []
    assert counts == {
        "fewer than two completions": 1,
        "not judged": 1,
        "all bad": 1,
        "tie": 1,
        "no order given": 1,
        "equal completions": 1,
        "empty completion": 1,
        "empty prompt": 1,
    }


def test_messages_are_the_demonstration_else_the_best_ranked() -> None:
    def said(*rows: Record, counts: Counter[str] | None = None) -> str:
        return "".join(row["messages"][-1]["content"] for row in messages_view(rows, counts))

    assert said(record(Judgment(ranks=[1, 2, 3]), demonstrations=[2, 1])) == "cb"
    assert (
        said(record(Judgment(ranks=[2, 1, 3]), Judgment(ranks=[2, 1, 3]), Judgment(ranks=[1, 2, 3]))) == "b"
    )
    assert said(record(Judgment(ranks=[None, 1, 2]))) == "b"
    assert said(record(texts="a")) == "a"
    assert said(record(Judgment(labels=[False, True, None]))) == "b"
    counts: Counter[str] = Counter()
    empty = record(texts=" ", demonstrations=[0])
    bad = record(Judgment(labels=[False]), texts="a")
    nothing = [record(texts=""), record(), record(Judgment(all_bad=True)), bad, empty]
    assert said(*nothing, counts=counts) == ""
    assert counts == {"no completion": 1, "no demonstration and no best completion": 3, "empty completion": 1}
    assert said(record(demonstrations=[]), counts=counts) == ""


def test_messages_hold_whole_conversations_with_tools() -> None:
    turns = [
        Message("assistant", "", tool_calls=[{"name": "f"}]),
        Message("tool", "4"),
        Message("assistant", "Four"),
    ]
    row = next(messages_view([Record(ASK, completions=[Completion(messages=turns)], tools=[{"f": 1}])]))
    assert [message["role"] for message in row["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert row["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}
    assert row["tools"] == [{"f": 1}]


def test_the_best_completion_needs_half_of_the_judges_not_to_call_all_bad() -> None:
    ranked, bad = Judgment(ranks=[2, 1]), Judgment(all_bad=True)
    assert best_completion(record(ranked, ranked, bad, texts="ab")) == 1
    assert best_completion(record(ranked, bad, texts="ab")) is None
    assert best_completion(record(Judgment(ranks=[None, None]), texts="ab")) is None


def test_rankings_keep_ties_and_leave_out_what_was_not_ranked() -> None:
    counts: Counter[str] = Counter()
    judgments = [
        Judgment(ranks=[2, None, 1]),
        Judgment(ranks=[1, 1, 1]),
        Judgment(ranks=[None, 1, None]),
        Judgment(all_bad=True),
        Judgment(labels=[True, None, None]),
    ]
    rows = list(rankings_view([record(*judgments), record()], counts))
    assert len(rows) == 1
    assert [completion[0]["content"] for completion in rows[0]["completions"]] == ["a", "c"]
    assert rows[0]["ranks"] == [2, 1]
    assert counts == {
        "all tied": 1,
        "fewer than two ranked": 1,
        "all bad": 1,
        "no ranks": 1,
        "not judged": 1,
    }


def test_unpaired_labels_are_the_majority_of_the_judges() -> None:
    counts: Counter[str] = Counter()
    judgments = [
        Judgment(labels=[True, True, None]),
        Judgment(labels=[True, False, None]),
        Judgment(all_bad=True),
    ]
    rows = list(unpaired_view([record(*judgments), record(texts="")], counts))
    assert [(row["completion"][0]["content"], row["label"]) for row in rows] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]
    assert counts == {"no completion": 1}
    list(
        unpaired_view(
            [record(Judgment(labels=[True, None]), Judgment(labels=[False, None]), texts="ab")], counts
        )
    )
    assert counts["no label, or as many good as bad"] == 2


def test_prompts_need_neither_completions_nor_judgments() -> None:
    counts: Counter[str] = Counter()
    rows = list(prompts_view([record(texts=""), Record([], completions=[Completion(content="x")])], counts))
    assert rows == [{"id": "r", "prompt": [{"role": "user", "content": "hi"}]}]
    assert counts == {"empty prompt": 1}


def test_an_unknown_way_to_make_pairs_is_refused() -> None:
    with pytest.raises(UserError, match="each, majority, model"):
        list(pairs_view([record(Judgment(ranks=[1, 2]), texts="ab")], how="vote"))  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.lists(records(), max_size=3), st.sampled_from(["each", "majority", "model"]))
def test_views_take_any_valid_record(rows: list[Record], how: str) -> None:
    for name, view in VIEWS.items():
        options: dict[str, Any] = {"how": how, "margin": True} if name == "pairs" else {}
        for row in view(rows, counts=Counter(), **options):
            assert row["id"]
            if name == "pairs":
                assert row["chosen"] != row["rejected"]
                assert 0 <= row["weight"] <= 1


def test_the_toy_records_fill_every_view_but_unpaired(toy_records: Callable[..., list[Record]]) -> None:
    rows = toy_records(20)
    assert rows == toy_records(20) != toy_records(20, seed=1)
    for name in ("messages", "prompts", "pairs", "rankings"):
        assert len(list(VIEWS[name](rows))) >= 20
