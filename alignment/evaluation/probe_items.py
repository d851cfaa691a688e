"""Items of a probe from the files that such sets come in: JSONL, JSON, Parquet or tables, with usual keys.

    choices      question, choices, answer           MMLU, ARC, OpenBookQA, HellaSwag (ctx, endings), PIQA
    exact_match  question, answer                    GSM8K, SQuAD, TriviaQA, or any question and its answer
    perplexity   text                                or page, content, document

An answer among choices is a number from 0, a label (A, B …), or the text of the choice. Records of
alignkit's and Alpaca's are questions with their demonstrations as answers, and texts with the first of them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from alignment.data.files import FOREIGN_SUFFIXES, data_files, read_blocks
from alignment.errors import UserError

QUESTIONS = ("question", "question_stem", "query", "ctx", "goal", "problem", "prompt", "instruction", "input")
CONTEXTS = ("context", "passage", "support")
CHOICES = ("choices", "endings", "options")
CORRECT = ("answer", "answerKey", "label", "gold", "correct")
ANSWERS = ("answer", "answers", "target", "output", "solution", "reference")
TEXTS = ("text", "page", "content", "document")


@dataclass(frozen=True)
class Item:
    """One question or document. id: a hash of its content.

    choices: the texts to choose from, the right one at `correct`; answers: any of these is right;
    continued: the choices go on with the text itself (HellaSwag), so no template is put around it.
    """

    id: str
    text: str
    choices: tuple[str, ...] = ()
    correct: int = -1
    answers: tuple[str, ...] = ()
    continued: bool = False


def read_items(kind: str, files: Sequence[str], most: int | None, where: str) -> tuple[list[Item], int]:
    """The first `most` different items of the files, and how many repeated ones were passed over.

    kind: "perplexity", "choices" or "exact_match". where: the config's key, for errors.
    Raises UserError for a row that is not of the kind, naming file and line, and for files without an item.
    """
    items: dict[str, Item] = {}
    repeated = 0
    for place, row in rows_of(files):
        item = _READERS[kind](row if kind == "choices" else _plain(row), place)
        if item.id in items:
            repeated += 1
            continue
        items[item.id] = item
        if most is not None and len(items) == most:
            break
    if not items:
        raise UserError(f"{where}: {', '.join(files)} holds no item")
    return list(items.values()), repeated


def rows_of(files: Sequence[str]) -> Any:
    """(place, row) of every object in the files, whatever their form."""
    for file in data_files(files, FOREIGN_SUFFIXES):
        for block in read_blocks(file):
            for place, text in block.rows():
                try:
                    row = msgspec.json.decode(text)
                except msgspec.DecodeError as error:
                    raise UserError(f"{place}: {error}") from None
                if not isinstance(row, dict):
                    raise UserError(f"{place}: a row is an object with keys, not {type(row).__name__}")
                yield place, row
            if block.fault:
                raise UserError(block.fault)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A record of alignkit's or Alpaca's as a question with answers and a text; any other row as it is."""
    turns = row.get("prompt")
    if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns):
        asked = [turn.get("content") for turn in turns]
        completions = row.get("completions") or []
        answers = [completions[i].get("content") for i in row.get("demonstrations") or []]
    elif "instruction" in row and "output" in row:
        asked, answers = [row["instruction"], row.get("input")], [row["output"]]
    else:
        return row
    question = "\n\n".join(str(text) for text in asked if text)
    text = "\n\n".join([question, *(str(answer) for answer in answers[:1] if answer)])
    return {"question": question, "answers": answers, "text": text}


def _document(row: dict[str, Any], place: str) -> Item:
    text = row[_key(row, TEXTS, place, "a text")]
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{place}: the text is empty or no text; leave the row out")
    return Item(item_id(text), text)


def _choices(row: dict[str, Any], place: str) -> Item:
    if "sol1" in row and "sol2" in row:  # PIQA
        row = {**row, "choices": [row["sol1"], row["sol2"]]}
    if isinstance(
        row.get("question"), dict
    ):  # ARC's and OpenBookQA's own files: {"stem": …, "choices": [...]}
        row = {**row, **row["question"], "question": row["question"].get("stem")}
    found = row[_key(row, CHOICES, place, "choices")]
    labels: list[str] = [chr(ord("A") + i) for i in range(26)]
    if isinstance(found, dict):  # ARC: {"text": [...], "label": [...]}
        labels, found = [str(label) for label in found.get("label", labels)], found.get("text")
    elif (
        isinstance(found, list) and found and all(isinstance(one, dict) for one in found)
    ):  # OpenBookQA's source
        labels, found = [str(one.get("label")) for one in found], [one.get("text") for one in found]
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(one, str) for one in found):
        raise UserError(f"{place}: the choices are a list of two texts or more")
    question, continued = _question(row, place), "endings" in row
    if continued and "activity_label" in row:
        question = _hellaswag(f"{row['activity_label']}: {question}")
        found = [_hellaswag(one) for one in found]
    correct = _index(row[_key(row, CORRECT, place, "the right answer")], found, labels, place)
    return Item(item_id(question, *found), question, tuple(found), correct, continued=continued)


def _index(answer: Any, choices: Sequence[str], labels: Sequence[str], place: str) -> int:
    """Where the right choice stands: by its label, its text, or its number from 0."""
    if isinstance(answer, str):
        for names in (labels[: len(choices)], choices):
            if answer in names:
                return list(names).index(answer)
        answer = int(answer) if answer.isdecimal() else None
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        raise UserError(
            f"{place}: the right answer is none of the {len(choices)} choices; give its number from 0, its "
            "label or its text"
        )
    return answer


def _asked(row: dict[str, Any], place: str) -> Item:
    question = _question(row, place)
    found = row[_key(row, ANSWERS, place, "an answer")]
    if isinstance(found, dict):  # SQuAD: {"text": [...]}; TriviaQA: {"value": …, "aliases": [...]}
        found = found.get("text") or [found.get("value"), *found.get("aliases", [])]
    answers = tuple(dict.fromkeys(_text(one) for one in (found if isinstance(found, list) else [found])))
    if not answers or not all(answers):
        raise UserError(f"{place}: the answer is empty; leave the row out")
    return Item(item_id(question, *answers), question, answers=answers)


def _question(row: dict[str, Any], place: str) -> str:
    """The question, below the passage that it is about where the row has one."""
    question = row[_key(row, QUESTIONS, place, "a question")]
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{place}: the question is empty or no text")
    before = next((row[key] for key in CONTEXTS if isinstance(row.get(key), str) and row[key].strip()), None)
    return question if before is None else f"{before}\n\n{question}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _hellaswag(text: str) -> str:
    """The clean-up of lm-evaluation-harness's hellaswag task: its WikiHow part has marks in brackets."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def _key(row: dict[str, Any], names: Sequence[str], place: str, what: str) -> str:
    found = next((name for name in names if row.get(name) is not None), None)
    if found is None:
        raise UserError(f"{place}: no key for {what} ({', '.join(names)}), but {', '.join(row)}")
    return found


def item_id(*texts: str) -> str:
    """What an item is known by: a hash of its texts, 24 hex digits."""
    return hashlib.blake2b(json.dumps(texts).encode(), digest_size=12).hexdigest()


_READERS: dict[str, Callable[[dict[str, Any], str], Item]] = {
    "perplexity": _document,
    "choices": _choices,
    "exact_match": _asked,
}
