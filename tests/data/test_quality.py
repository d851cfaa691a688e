"""Statistics of a dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from alignment.data.formats import hh_rlhf
from alignment.data.quality import statistics
from alignment.data.records import Completion, Judgment, Message, Record

Toy = Callable[..., list[Record]]


def asked(text: str) -> Record:
    return Record([Message("user", text)])


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
