"""Contamination, faulty completions, languages, judges, and the overview of them all."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.data.completions import completion_faults
from alignment.data.contamination import Evaluation, words
from alignment.data.labels import LabelStatistics
from alignment.data.languages import TOO_SHORT, language
from alignment.data.overview import overview
from alignment.data.records import Completion, Judgment, Message, Record, Source
from alignment.errors import UserError

Toy = Callable[..., list[Record]]
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def asked(text: str, *replies: str, name: str | None = None) -> Record:
    return Record([Message("user", text)], id=name, completions=[Completion(content=t) for t in replies])


def test_thirteen_words_in_a_row_are_contamination_and_twelve_are_not() -> None:
    known = Evaluation([asked(LONG, name="e1"), asked("What is 2+2?", name="e2")])
    assert known.rows == 2
    thirteen, twelve = (" ".join(LONG.split()[1 : 1 + n]) for n in (13, 12))
    overlap = known.overlap(asked(f"Please: {thirteen.upper().replace(' ', ', ')}!"))
    assert overlap is not None
    assert overlap == ("e1", thirteen, "prompt", False)
    assert known.overlap(asked(f"Please: {twelve}.")) is None
    # In a completion too; a short one only as a whole turn; never by a system turn.
    assert known.overlap(asked("x", "no", f"so {LONG} so")).place == "completions[1]"  # type: ignore[union-attr]
    assert known.overlap(asked("what is 2 + 2")) == ("e2", "what is 2 2", "prompt", True)
    assert known.overlap(asked("Tell me, what is 2 + 2")) is None
    assert known.overlap(Record([Message("system", LONG), Message("user", "x")])) is None


def test_a_whole_prompt_is_told_from_a_run_of_its_words() -> None:
    longer = f"{LONG} sixteen"
    known = Evaluation([asked(LONG, name="e1"), asked(longer, name="e2")])
    first = " ".join(LONG.split()[:13])
    assert known.overlap(asked(f"{first} and no more")) == ("e1", first, "prompt", False)
    assert known.overlap(asked(f"so {LONG}")) == ("e1", first, "prompt", True)
    assert known.overlap(asked(f"{first} and", f"{LONG} again")) == ("e1", first, "completions[0]", True)
    assert known.overlap(asked(longer)).whole  # type: ignore[union-attr]


def test_characters_are_words_where_words_are_not_spaced() -> None:
    assert words("Ｈｉ 我想, you") == ["hi", "我", "想", "you"]
    with pytest.raises(UserError, match="--n is 0"):
        Evaluation([], 0)


SMALL = st.lists(st.sampled_from("a b c".split()), max_size=12)


@given(SMALL, SMALL, st.integers(1, 4))
def test_overlap_is_that_of_brute_force(train: list[str], evaluation: list[str], n: int) -> None:
    def runs(turn: list[str]) -> set[tuple[str, ...]]:
        return {tuple(turn[k : k + n]) for k in range(len(turn) - n + 1)} or {tuple(turn)} - {()}

    found = Evaluation([asked(" ".join(evaluation))], n).overlap(asked(" ".join(train)))
    assert (found is not None) == bool(runs(train) & runs(evaluation))


REPEATED = "the same four words again " * 12


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (" \n", ["empty"]),
        ("The sky is blue. Air scatters blue light more than red, and therefore the", ["truncated"]),
        ("Here it is:\n```python\nprint(1)", ["truncated"]),
        ("Paris", []),
        ("1. Milk is good.\n2. Eggs are good.\n3. Bread and butter", []),
        ("Vote now! Every voice counts. Join us today #vote", []),
        ("Here:\n```\nx = 1\n```", []),
        (REPEATED, ["repetitive"]),
        ("no\n" * 9, ["repetitive"]),
        ("I’m sorry, but I can't help with that.", ["refusal"]),
        ("As an AI language model, I cannot assist with crimes.", ["refusal"]),
        ("I can help with that.", []),
        ("why is  the sky blue?", ["copy of the prompt"]),
    ],
)
def test_faults_of_completions(text: str, faults: list[str]) -> None:
    assert completion_faults([Message("user", "Why is the sky blue?")], Completion(content=text)) == faults


def test_the_source_knows_best_whether_a_reply_was_cut() -> None:
    cut = "It rains. It pours. The old man is snoring, and"
    prompt = [Message("user", "?")]
    assert completion_faults(prompt, Completion(content=cut, meta={"finish_reason": "stop"})) == []
    by_limit = Completion(content="Done.", source=Source("model", params={"finish_reason": "length"}))
    assert completion_faults(prompt, by_limit) == ["truncated"]
    call = Completion(messages=[Message("assistant", "", tool_calls=[{"id": "1"}])])
    assert completion_faults(prompt, call) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("This is a plain English sentence about the weather.", "en"),
        ("Das ist ein deutscher Satz über das Wetter von heute.", "de"),
        ("我想知道今天天气怎么样", "zh"),
        ("Hi", TOO_SHORT),
        ("2 + 2 = 4", TOO_SHORT),
    ],
)
def test_languages(text: str, code: str) -> None:
    assert language(text) == code


def judged(*judgments: Judgment, **meta: object) -> Record:
    record = asked("?", "long one", "short")
    record.judgments, record.meta = list(judgments), dict(meta)
    return record


def test_judges_against_counts_by_hand() -> None:
    found = LabelStatistics()
    found.add(
        judged(
            Judgment(by="x", ranks=[1, 2], presented=[1, 0], seconds=2.0),
            Judgment(by="y", ranks=[2, 1], seconds=3.0),
            Judgment(by="z", ranks=[1, 1], labels=[True, False], ratings={"fun": [3, None]}),
            gold={"ranks": [1, 2]},
            tags=["a", "b"],
            split="train",
        )
    )
    found.add(judged(Judgment(by="x", ranks=[1, 2], seconds=8.0), Judgment(by="x", ranks=[1, 2]), tags="a"))
    found.add(judged(Judgment(all_bad=True), gold={"all_bad": True}))
    found.add(judged(gold={"ranks": [1, 2, 3]}))  # does not fit, and is no gold
    plain = json.loads(json.dumps(found.as_dict()))
    x, y, z = (plain["judges"][name] for name in "xyz")
    assert (x["judgments"], x["pairs"], x["ties"], x["seconds"]) == (3, 3, 0, 5.0)
    assert (x["longer_wins"]["value"], y["longer_wins"]["value"], z["longer_wins"]) == (1.0, 0.0, None)
    assert (x["first_shown_wins"]["value"], x["first_shown_wins"]["n"]) == (0.0, 1)
    # x with y and with z; x with x is no second opinion.
    assert (x["agreement"]["value"], x["agreement"]["n"]) == (0.0, 2)
    assert [judge["gold"]["value"] for judge in (x, y, z)] == [1.0, 0.0, 0.0]
    assert plain["judges"]["(anonymous)"]["gold"]["value"] == 1.0
    assert plain["gold_rows"] == 2
    assert plain["labels"] == {"good": 1, "bad": 1}
    assert plain["ratings"] == {"fun": {"3": 1}}
    assert plain["tags"] == {"a": 2, "b": 1}
    assert plain["splits"] == {"train": 1}
    assert plain["judgments_per_row"] == {"0": 1, "1": 1, "2": 1, "3": 1}


def test_alpha_does_not_depend_on_which_completion_is_stored_first() -> None:
    def two(first: list[int], second: list[int]) -> Record:
        return judged(Judgment(by="x", ranks=first), Judgment(by="y", ranks=second))

    chosen_first, mixed = LabelStatistics(), LabelStatistics()
    for k in range(40):
        a, b = ([1, 2], [2, 1]) if k % 2 else ([2, 1], [1, 2])
        chosen_first.add(two([1, 2], [1, 2] if k < 30 else [2, 1]))
        mixed.add(two(a, a if k < 30 else b))
    assert chosen_first.alpha == pytest.approx(mixed.alpha)
    assert chosen_first.alpha == pytest.approx(1 - 0.25 * 159 / 80)  # a quarter disagrees; n is 160
    assert LabelStatistics().alpha is None


def test_the_overview_counts_everything_once(toy_records: Toy) -> None:
    rows = toy_records(60)
    rows[3].completions[0].content = ""
    rows[5].prompt[0].content = "Mail ann@example.org now"
    rows[7].prompt = [Message("user", LONG)]
    found = overview(iter([*rows, rows[0]]), Evaluation([asked(LONG)]))
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["statistics"]["rows"] == 61
    assert plain["faults"]["empty"] == 1
    assert plain["personal"] == [{"kind": "EMAIL", "field": "prompt.content", "count": 1}]
    assert (plain["contaminated"], plain["evaluation_rows"]) == (1, 1)
    assert (plain["exact_clusters"], plain["exact_repeats"]) == (1, 1)
    assert plain["near_repeats"] >= 1
    assert len(found.sample) == 61
