"""How several judges' verdicts become pairs: each, majority, and the models over a whole dataset."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import records

from alignment.data.consensus import Ballot, record_pairs
from alignment.data.pairs import HOW, MODELS, Pair, Vote, agreed_pairs, pair_votes
from alignment.data.records import Completion, Judgment, Message, Record
from alignment.data.views import pairs_view
from alignment.errors import UserError


def record(*judgments: Judgment, texts: str = "ab", name: str = "r") -> Record:
    completions = [Completion(content=text) for text in texts]
    return Record([Message("user", name)], id=name, completions=completions, judgments=list(judgments))


def says(by: str | None, *ranks: int | None) -> Judgment:
    return Judgment(by=by, ranks=list(ranks))


def directions(rows: list[Record], how: str) -> list[list[tuple[int, int]]]:
    return [[(pair.chosen, pair.rejected) for pair in pairs] for _, pairs in record_pairs(rows, how)]


def crowd(how_many: int, seed: int = 0) -> tuple[list[Record], list[bool]]:
    """Pairs judged by 3 of 6 judges; two judges are right in 1 of 5, the others in 9 of 10."""
    dice = np.random.default_rng(seed)
    rows, truth = [], []
    for number in range(how_many):
        first_better = bool(dice.integers(2))
        judgments = []
        for judge in dice.permutation(6)[:3]:
            says_first = first_better == (dice.random() < (0.2 if judge < 2 else 0.9))
            judgments.append(says(f"j{judge}", *((1, 2) if says_first else (2, 1))))
        rows.append(record(*judgments, name=f"r{number}"))
        truth.append(first_better)
    return rows, truth


@pytest.mark.parametrize("how", MODELS)
def test_a_model_of_judges_is_right_more_often_than_the_majority(how: str) -> None:
    rows, truth = crowd(1500)

    def right(how: str) -> float:
        expected = [[(0, 1) if first_better else (1, 0)] for first_better in truth]
        return float(np.mean([a == b for a, b in zip(expected, directions(rows, how), strict=True)]))

    assert right(how) > right("majority") + 0.05


@pytest.mark.parametrize("how", MODELS)
def test_weight_is_a_probability_and_margin_its_log_odds(how: str) -> None:
    rows, _ = crowd(100)
    found = [pair for _, pairs in record_pairs(rows, how) for pair in pairs]
    assert len(found) > 90
    for pair in found:
        assert 0.5 < pair.weight < 1
        assert pair.margin == pytest.approx(math.log(pair.weight / (1 - pair.weight)), rel=1e-6)


def test_bradley_terry_carries_an_order_over_to_pairs_that_judges_split_on() -> None:
    rows = [
        record(says("x", 1, 2, 3), says("y", 1, 2, 3), says("x", None, 2, 1), says("y", 1, 3, 2), texts="abc")
    ]
    ((_, pairs),) = record_pairs(rows, "model")
    assert [(pair.chosen, pair.rejected) for pair in pairs][:2] == [(0, 1), (0, 2)]
    # A cycle has equal strengths: nothing is better than anything.
    counts: Counter[str] = Counter()
    cycle = [record(says("x", 1, 2, None), says("x", None, 1, 2), says("x", 2, None, 1), texts="abc")]
    assert [pairs for _, pairs in record_pairs(cycle, "model", counts)] == [[]]
    assert counts == {"judges split evenly": 3}


@pytest.mark.parametrize("how", HOW)
def test_ties_and_all_bad_are_counted_alike_and_make_no_pair(how: str) -> None:
    counts: Counter[str] = Counter()
    rows = [
        record(says("x", 1, 1), says("y", 1, 1), name="tie"),
        record(Judgment(by="x", all_bad=True, ranks=[1, 2]), name="bad"),
        record(Judgment(by="x", labels=[True, False]), name="label"),
        record(says("x", 1, 2), says("y", 1, 2), says("z", 1, 1), name="pair"),
    ]
    found = {row.id: pairs for row, pairs in record_pairs(rows, how, counts)}
    assert counts == {"tie": 3, "all bad": 1, "no order given": 1}
    assert [len(pairs) for pairs in found.values()] == [0, 0, 0, 1]
    assert found["pair"][0][:2] == (0, 1)
    assert found["pair"][0].judges == 2


@pytest.mark.parametrize("how", MODELS)
def test_a_tie_makes_a_model_less_sure(how: str) -> None:
    def weight(*judgments: Judgment) -> float:
        ((_, (pair,)),) = record_pairs([record(*judgments)], how)
        return pair.weight

    sure = [says("x", 1, 2), says("y", 1, 2)]
    assert weight(*sure, says("z", 1, 1)) < weight(*sure)


@pytest.mark.parametrize("how", MODELS)
def test_where_a_completion_is_stored_tells_a_model_nothing(how: str) -> None:
    # As in files with the chosen completion first: one vote against that order is still a vote.
    first = [record(says("x", 1, 2), name=f"r{k}") for k in range(50)]
    pairs = [pair for _, pairs in record_pairs([*first, record(says("x", 2, 1))], how) for pair in pairs]
    assert [pair.chosen for pair in pairs] == [0] * 50 + [1]
    assert pairs[-1].weight == pytest.approx(pairs[0].weight, abs=1e-4)


@settings(max_examples=60)
@given(st.lists(records(), max_size=4), st.sampled_from(MODELS))
def test_a_model_sees_the_pairs_that_the_majority_sees(rows: list[Record], how: str) -> None:
    strict = [{(vote.a, vote.b) for vote in pair_votes(row)} for row in rows]
    found = list(record_pairs(iter(rows), how))
    assert [row for row, _ in found] == rows
    for (_, pairs), judged in zip(found, strict, strict=True):
        places = [(min(pair[:2]), max(pair[:2])) for pair in pairs]
        assert len(set(places)) == len(places)
        assert set(places) <= judged
    counts: list[Counter[str]] = [Counter(), Counter()]
    for counted, way in zip(counts, (how, "majority"), strict=True):
        list(record_pairs(iter(rows), way, counted))
        del counted["judges split evenly"]
    assert counts[0] == counts[1]


def test_the_order_of_the_records_and_of_their_judgments_does_not_matter() -> None:
    rows, _ = crowd(200)
    around = [
        Record(r.prompt, id=r.id, completions=r.completions, judgments=r.judgments[::-1]) for r in rows[::-1]
    ]
    for how in MODELS:
        one = {row.id: pairs[0].weight for row, pairs in record_pairs(rows, how) if pairs}
        two = {row.id: pairs[0].weight for row, pairs in record_pairs(around, how) if pairs}
        assert one == pytest.approx(two, abs=1e-3)


def test_the_view_takes_a_stream_and_gives_the_models_weight_and_margin() -> None:
    rows, _ = crowd(30)
    given_: list[dict[str, Any]] = list(pairs_view(iter(rows), "model", margin=True))
    pairs = [pair for _, pairs in record_pairs(rows, "model") for pair in pairs]
    assert [(row["weight"], row["margin"], row["judges"]) for row in given_] == [
        (pair.weight, pair.margin, pair.judges) for pair in pairs
    ]
    assert list(record_pairs([], "model")) == []


def test_another_how_is_refused() -> None:
    with pytest.raises(UserError, match="choose one of each, majority, model, dawid-skene"):
        list(record_pairs([record(says("x", 1, 2))], "best"))


def test_each_and_majority_against_counts_by_hand() -> None:
    votes = [Vote(0, 1, 1.0, 1.0), Vote(0, 1, 1.0, 3.0), Vote(0, 1, 0.2, 2.0)]
    assert agreed_pairs(votes) == [
        Pair(0, 1, pytest.approx(2.2 / 3), 2, 2.0),
        Pair(1, 0, pytest.approx(0.8 / 3), 1, 2.0),
    ]
    assert agreed_pairs(votes, "majority") == [Pair(0, 1, pytest.approx(2.2 / 3), 2, 2.0)]


def test_memory_holds_numbers_only() -> None:
    ballot = Ballot()
    row = record(says("x", 1, 2), says("y", 1, 2))
    row.completions[0].content = "long " * 10_000
    for _ in range(100):
        ballot.add(row)
    arrays = [value for value in vars(ballot).values() if not isinstance(value, dict)]
    assert sum(len(value) * value.itemsize for value in arrays) < 100 * 50
