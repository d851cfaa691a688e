"""Items in the forms that capability sets come in, and answers as SQuAD and GSM8K compare them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment.errors import UserError
from alignment.evaluation.matching import exact_match, last_number, normalised, number_match, token_f1
from alignment.evaluation.probe_items import Item, read_items


def read(tmp_path: Path, kind: str, *rows: Any, most: int | None = None) -> tuple[list[Item], int]:
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_items(kind, [str(file)], most, "probes.mine")


CHOICES = ["red", "green", "blue"]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Sky?", "choices": CHOICES, "answer": 2},  # MMLU
        {"question": "Sky?", "choices": CHOICES, "answer": "C"},
        {"question": "Sky?", "options": CHOICES, "answer": "blue"},
        {"question": "Sky?", "choices": {"text": CHOICES, "label": ["1", "2", "3"]}, "answerKey": "3"},  # ARC
        {"question_stem": "Sky?", "choices": {"text": CHOICES, "label": ["A", "B", "C"]}, "answerKey": "C"},
        {
            "question": {
                "stem": "Sky?",
                "choices": [{"text": t, "label": n} for t, n in zip(CHOICES, "ABC", strict=True)],
            },
            "answerKey": "C",
        },
        {"query": "Sky?", "choices": CHOICES, "gold": 2},
    ],
)
def test_choices_of_every_form_are_one_item(tmp_path: Path, row: dict[str, Any]) -> None:
    (item,), repeated = read(tmp_path, "choices", row)
    assert (item.text, list(item.choices), item.correct, repeated) == ("Sky?", CHOICES, 2, 0)
    assert not item.continued


def test_hellaswag_and_piqa(tmp_path: Path) -> None:
    swag = {
        "activity_label": "Cooking",
        "ctx": "A man stirs [title] a pot. He",
        "endings": ["runs.", "[step] eats."],
        "label": "1",
    }
    piqa = {"goal": "Open a jar.", "sol1": "Twist.", "sol2": "Sing.", "label": 0}
    items, _ = read(tmp_path, "choices", swag, piqa)
    assert items[0] == Item(
        items[0].id, "Cooking: A man stirs.  a pot. He".replace("  ", " "), ("runs.", " eats."), 1, (), True
    )
    assert (items[1].text, items[1].choices, items[1].correct) == ("Open a jar.", ("Twist.", "Sing."), 0)


def test_answers_of_every_form(tmp_path: Path) -> None:
    rows = [
        {"question": "How many?", "answer": "3 + 4 = 7\n#### 7"},  # GSM8K
        {
            "context": "Paris is in France.",
            "question": "Where?",
            "answers": {"text": ["France", "in France"]},
        },
        {"question": "Who?", "answer": {"value": "Bohr", "aliases": ["Niels Bohr"]}},  # TriviaQA
        {"question": "Two?", "target": 2},
    ]
    items, _ = read(tmp_path, "exact_match", *rows)
    assert items[0].answers == ("3 + 4 = 7\n#### 7",)
    assert items[1].text == "Paris is in France.\n\nWhere?"
    assert [item.answers for item in items[1:]] == [("France", "in France"), ("Bohr", "Niels Bohr"), ("2",)]


def test_own_records_are_questions_with_their_demonstrations(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"}]
    completions = [{"id": "a", "content": "Nowhere"}, {"id": "b", "content": "Here"}]
    row = {"prompt": turns, "completions": completions, "demonstrations": [1]}
    (item,), _ = read(tmp_path, "exact_match", row)
    assert (item.text, item.answers) == ("Be brief.\n\nWhere?", ("Here",))
    (item,), _ = read(tmp_path, "perplexity", row)
    assert item.text == "Be brief.\n\nWhere?\n\nHere"
    alpaca = {"instruction": "Add.", "input": "1 and 2", "output": "3"}
    (item,), _ = read(tmp_path, "exact_match", alpaca)
    assert (item.text, item.answers) == ("Add.\n\n1 and 2", ("3",))
    assert read(tmp_path, "perplexity", alpaca)[0][0].text == "Add.\n\n1 and 2\n\n3"
    with pytest.raises(UserError, match="the answer is empty"):
        read(tmp_path, "exact_match", {"prompt": turns})


def test_repeated_items_count_once_and_the_first_are_taken(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"text": "one"}, {"content": "two"}, {"text": "three"}]
    assert [item.text for item in read(tmp_path, "perplexity", *rows, most=2)[0]] == ["one", "two"]
    assert read(tmp_path, "perplexity", *rows)[1] == 1


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("choices", {"question": "Sky?", "answer": 1}, "no key for choices"),
        ("choices", {"question": "Sky?", "choices": CHOICES, "answer": 3}, "none of the 3 choices"),
        ("choices", {"question": "Sky?", "choices": ["red"], "answer": 0}, "two texts or more"),
        ("exact_match", {"question": "Sky?", "answers": []}, "the answer is empty"),
        ("perplexity", {"text": " "}, "the text is empty"),
        ("perplexity", ["text"], "a row is an object"),
    ],
)
def test_a_row_of_another_kind_is_named(tmp_path: Path, kind: str, row: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read(tmp_path, kind, row)
    assert "items.jsonl, line 1" in str(caught.value)


def test_texts_match_as_squad_compares_them() -> None:
    assert normalised("The  Eiffel-Tower, a tower!") == "eiffeltower tower"
    assert exact_match("An Apple.", ["pear", "apple"])
    assert not exact_match("red apple", ["apple"])
    # 2 shared words, precision 2/3, recall 2/2: F1 = 0.8
    assert token_f1("the big red dog", ["red dog", "cat"]) == pytest.approx(0.8)
    assert (token_f1("", ["the"]), token_f1("", ["dog"])) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 + 4 = 7\n#### 7", "7"),
        ("so it costs $1,234.50 in all.", "1234.50"),
        ("between -5 and 10-3", "3"),
        ("it is -5", "-5"),
        ("a half, .5", ".5"),
        ("1,2,3", "3"),
        ("#### none, 4", "4"),
        ("He has 12 left. #### ", "12"),
    ],
)
def test_the_last_number(text: str, number: str) -> None:
    from decimal import Decimal

    assert last_number(text) == Decimal(number)


def test_numbers_match_by_value() -> None:
    assert number_match("The answer is 1,000.0 metres", ["#### 1000"])
    assert not number_match("no idea", ["#### 1000"])
    assert last_number("none") is None


def test_every_answer_of_gsm8k_has_a_number_that_matches_itself(shared_data: Path) -> None:
    from alignment.evaluation.probe_items import rows_of

    file = shared_data / "sft" / "gsm8k_train.jsonl.gz"
    items, _ = read_items("exact_match", [str(file)], None, "probes.gsm8k")
    assert len(items) > 7_000
    raw = [row["answer"] for _, row in rows_of([str(file)])]
    expected = {answer.split("####")[1].strip().replace(",", "") for answer in raw}
    assert {str(last_number(item.answers[0])) for item in items} == expected
