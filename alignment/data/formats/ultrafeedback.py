"""UltraFeedback: rated completions; and its binarized kin, a chosen and a rejected reply with ratings.

Rated (https://github.com/OpenBMB/UltraFeedback, src/data_annotation; openbmb/UltraFeedback on the hub):
source, instruction, models, completions, correct_answers, incorrect_answers. A completion has response,
model, principle, custom_system_prompt, annotations, critique, overall_score and fine-grained_score;
annotations has for each aspect an object with Rating ("1" to "5", or "N/A") and Rationale, or a list of them.

Binarized (HuggingFaceH4/ultrafeedback_binarized, argilla/ultrafeedback-binarized-preferences and its
`-cleaned`, argilla/dpo-mix-7k; their cards): a prompt, chosen and rejected as text or as messages, and
for both a rating, whose columns have one of the names in _RATING, and often the model.

Every rating goes to judgments[].ratings, "N/A" as null. The paper's judge is GPT-4, so `by` is "gpt-4" for
the rated rows and null for the binarized ones, which do not say. A rated row's ranks are the order of its
overall_score (where there is none, of its fine-grained_score): those without a score are not ranked.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from alignment.data.files import Paths, Rejects
from alignment.data.formats import foreign
from alignment.data.formats.annotation import chat_turns, is_chat
from alignment.data.formats.foreign import Row
from alignment.data.formats.kept import decode_object, keep, note, notes_of, restore
from alignment.data.pairs import Pair, agreed_pairs, pair_votes
from alignment.data.records import Completion, Judgment, Message, Record, Source, nearest
from alignment.errors import UserError

NAME = "ultrafeedback"
JUDGE = "gpt-4"
SCORES = ("overall_score", "fine-grained_score")
_PARAMS = ("principle", "custom_system_prompt")
_NO_RATING = ("", "N/A", "NA", "NONE", "NULL", "-")
_SIDES = ("chosen", "rejected")
_TEXT = ("{}", "{}_response")
_RATING = (
    "score_{}", "{}-rating", "{}_rating", "{}_score", "{}-score", "{}_avg_rating", "rating_{}",
)  # fmt: skip
_MODEL = ("{}-model", "{}_model", "model_{}")
_PROMPT = ("prompt", "instruction", "input")


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row, rated or binarized; further columns are kept in meta.ultrafeedback."""
    return foreign.read_foreign(paths, decode, rejects)


def recognise(row: Row) -> str | None:
    """Why a row is UltraFeedback's, in a person's words, or None."""
    completions = row.get("completions")
    if isinstance(row.get("instruction"), str) and isinstance(completions, list):
        if "models" in row:
            return 'the keys "instruction", "models" and "completions"'
        first = completions[0] if completions else None
        if isinstance(first, dict) and "response" in first:
            for key in ("annotations", *SCORES):
                if key in first:
                    return f'the keys "instruction" and "completions" with "{key}"'
    ratings, texts = _template(_RATING, row), _template(_TEXT, row)
    if ratings and texts:
        return f'the keys "{texts.format("chosen")}" and "rejected" with "{ratings.format("chosen")}"'
    return None


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row = decode_object(line, where)
    if "completions" in row:
        record = _rated(row, where)
        usual = _rated_row(record)
    elif _template(_TEXT, row) and _template(_RATING, row):
        record = _binarized(row, where)
        usual = _binarized_row(record, Pair(0, 1, 1.0, 1, 1.0))
    else:
        raise UserError(
            f'{where}: neither "completions" nor "chosen" and "rejected" with ratings such as "score_chosen"'
            f"{nearest('completions', set(row))}"
        )
    keep(record, NAME, row, usual)
    return record


def _rated(row: Row, where: str) -> Record:
    instruction, given = row.get("instruction"), row["completions"]
    if not isinstance(instruction, str):
        raise _no_text(row, "instruction", where)
    if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
        raise UserError(f'{where}: "completions" must be a list of objects')
    record = Record([Message("user", instruction)])
    record.completions = [_completion(entry, f"{where}: completions[{k}]") for k, entry in enumerate(given)]
    record.judgments = _judgments(given, where)
    if isinstance(row.get("source"), str):
        record.meta = {"source": row["source"]}
    listed = any(isinstance(aspect, list) for entry in given for aspect in _annotations(entry).values())
    note(record, NAME, {"lists": listed and len(record.judgments) == 1})
    return record


def _no_text(row: Row, key: str, where: str) -> UserError:
    if key in row:
        return UserError(f'{where}: "{key}" must be a text')
    return UserError(f'{where}: the key "{key}" is missing{nearest(key, set(row))}')


def _annotations(entry: Row) -> Row:
    found = entry.get("annotations")
    return found if isinstance(found, dict) else {}


def _completion(entry: Row, where: str) -> Completion:
    if not isinstance(entry.get("response"), str):
        raise _no_text(entry, "response", where)
    params = {key: entry[key] for key in _PARAMS if entry.get(key) is not None}
    model = entry.get("model")
    source = Source("model", model if isinstance(model, str) else None, params) if model or params else None
    said = {"response", *params} | ({"model"} if isinstance(model, str) and model else set())
    said |= {"annotations"} if _annotations(entry) else set()
    said |= {key for key in SCORES if key in entry and not isinstance(entry[key], str)}
    rest = {key: value for key, value in entry.items() if key not in said}
    return Completion(content=entry["response"], source=source, meta={NAME: rest} if rest else {})


def _judgments(given: list[Row], where: str) -> list[Judgment]:
    """One judgment for each round of annotation; the scores, which are one a completion, are in the first."""
    aspects = list(dict.fromkeys(aspect for entry in given for aspect in _annotations(entry)))
    rounds: list[list[Row]] = []  # for each round, for each completion, aspect -> what was said of it
    for index, entry in enumerate(given):
        for aspect, said in _annotations(entry).items():
            for turn, one in enumerate(said if isinstance(said, list) else [said]):
                while len(rounds) <= turn:
                    rounds.append([{} for _ in given])
                rounds[turn][index][aspect] = one
    judgments = []
    for said_of in rounds:
        ratings = {
            aspect: [
                _rating(_entry_rating(said.get(aspect)), f"{where}: completions[{k}], {aspect}")
                for k, said in enumerate(said_of)
            ]
            for aspect in aspects
            if any(aspect in said for said in said_of)
        }
        judgment = Judgment(by=JUDGE, ratings=ratings)
        if said_of != [_usual_entries(judgment, k) for k in range(len(given))]:
            judgment.meta = {NAME: said_of}
        judgments.append(judgment)
    scores: dict[str, list[float | None]] = {
        key: [_rating(entry.get(key), f"{where}: completions[{k}], {key}") for k, entry in enumerate(given)]
        for key in SCORES
        if any(key in entry for entry in given)
    }
    if scores:
        judgments = judgments or [Judgment(by=JUDGE)]
        judgments[0].ratings = {**(judgments[0].ratings or {}), **scores}
        judgments[0].ranks = _ranks(judgments[0])
    return judgments


def _ranks(judgment: Judgment) -> list[int | None] | None:
    """The order of the first score that more than one completion has; None where there is none."""
    for key in SCORES:
        values = (judgment.ratings or {}).get(key, [])
        order = sorted({value for value in values if value is not None}, reverse=True)
        if sum(value is not None for value in values) > 1:
            return [None if value is None else order.index(value) + 1 for value in values]
    return None


def _entry_rating(entry: Any) -> Any:
    return entry.get("Rating", entry.get("rating")) if isinstance(entry, dict) else entry


def _rating(value: Any, where: str) -> float | None:
    """A rating as a number; None for "N/A" and its like. Raises UserError for what is neither."""
    if value is None or (isinstance(value, str) and value.strip().upper() in _NO_RATING):
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f'{where}: the rating {value!r} is neither a number nor "N/A"')
    return number


def _usual_entries(judgment: Judgment, index: int) -> Row:
    """aspect -> {"Rating": …} of one completion, as far as the judgment's ratings say it."""
    return {
        aspect: {"Rating": "N/A" if values[index] is None else format(values[index], ".15g")}
        for aspect, values in (judgment.ratings or {}).items()
        if aspect not in SCORES
    }


def _entries(judgment: Judgment, index: int) -> Row:
    """The same as it was read, rationales included, where the ratings are still those."""
    usual, kept = _usual_entries(judgment, index), judgment.meta.get(NAME)
    if not isinstance(kept, list) or index >= len(kept):
        return usual
    entries: Row = {}
    for aspect, value in usual.items():
        rating = (judgment.ratings or {})[aspect][index]
        if aspect not in kept[index]:
            if rating is not None:
                entries[aspect] = value
        elif _rating(_entry_rating(kept[index][aspect]), "meta") == rating:
            entries[aspect] = kept[index][aspect]
        else:
            entries[aspect] = {**kept[index][aspect], **value}
    return entries


def _binarized(row: Row, where: str) -> Record:
    text, rating = _template(_TEXT, row), _template(_RATING, row)
    model = next((name for name in _MODEL if any(name.format(side) in row for side in _SIDES)), None)
    prompt_key = next((key for key in _PROMPT if isinstance(row.get(key), str)), None)
    given = [row[str(text).format(side)] for side in _SIDES]
    texts = all(isinstance(side, str) for side in given)
    if texts:
        if prompt_key is None:
            raise _no_text(row, "prompt", where)
        prompt = [Message("user", row[prompt_key])]
        sides = [Completion(content=side) for side in given]
    else:
        for value, side in zip(given, _SIDES, strict=True):
            if not is_chat(value):
                raise UserError(f"{where}: {side} must be a text or a list of messages, as the other is")
        turns = [chat_turns(value, f"{where}: {side}") for value, side in zip(given, _SIDES, strict=True)]
        length = foreign.shared_prompt(turns[0], turns[1], where)
        prompt, sides = turns[0][:length], [foreign.reply(side[length:]) for side in turns]
    for completion, side in zip(sides, _SIDES, strict=True):
        name = row.get(model.format(side)) if model else None
        completion.source = Source("model", name) if isinstance(name, str) else None
    keys = [str(rating).format(side) for side in _SIDES]
    record = foreign.preference(prompt, *sides)
    ratings = {_rating_name(str(rating)): [_rating(row[key], f"{where}: {key}") for key in keys]}
    record.judgments[0].ratings = ratings
    if isinstance(row.get("source"), str):
        record.meta = {"source": row["source"]}
    usual = {"text": _TEXT[0], "rating": _RATING[0], "model": _MODEL[0], "prompt": _PROMPT[0]}
    found = {"text": text, "rating": rating, "model": model, "prompt": prompt_key}
    names = {key: name for key, name in found.items() if name and name != usual[key]}
    note(record, NAME, {"style": "binarized", "texts": texts, "names": names})
    return record


def _template(templates: tuple[str, ...], row: Row) -> str | None:
    """The first of these names that the row has for both sides."""
    return next((name for name in templates if all(name.format(side) in row for side in _SIDES)), None)


def _rating_name(template: str) -> str:
    return template.replace("{}", "").strip("-_")


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """Rated rows, and binarized ones for records that came so or hold only pairs; return what was lost."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[Row]:
    """One rated row of a record, or a binarized row for every pair; none where neither can hold it."""
    one_turn = len(record.prompt) == 1 and record.prompt[0] == Message("user", record.prompt[0].content)
    plain = one_turn and all(completion.content is not None for completion in record.completions)
    pairs = agreed_pairs(pair_votes(record))
    rated = any(judgment.ratings for judgment in record.judgments)
    if plain and not notes_of(record, NAME).get("style") and (rated or not pairs):
        usual = [_rated_row(record)]
    else:
        usual = [_binarized_row(record, pair) for pair in pairs]
    return [restore(record, NAME, row, decode) for row in usual]


def _rated_row(record: Record) -> Row:
    rated = [judgment for judgment in record.judgments if judgment.ratings]
    listed = len(rated) > 1 or notes_of(record, NAME).get("lists")
    row: Row = {"source": record.meta["source"]} if isinstance(record.meta.get("source"), str) else {}
    names = [completion.source.name for completion in record.completions if completion.source]
    row |= {"instruction": record.prompt[0].content, "models": [name for name in names if name]}
    row["completions"] = []
    for index, completion in enumerate(record.completions):
        rounds = [_entries(judgment, index) for judgment in rated]
        aspects = dict.fromkeys(aspect for entries in rounds for aspect in entries)
        said: Row = {}
        for aspect in aspects:
            entries = [entries[aspect] for entries in rounds if aspect in entries]
            said[aspect] = entries if listed else entries[0]
        entry: Row = {"response": completion.content}
        if completion.source:
            entry |= {"model": completion.source.name} if completion.source.name else {}
            entry |= completion.source.params
        entry |= {"annotations": said} if said else {}
        scores = (rated[0].ratings or {}) if rated else {}
        entry |= {key: scores[key][index] for key in SCORES if key in scores}
        row["completions"].append({**entry, **completion.meta.get(NAME, {})})
    return row


def _binarized_row(record: Record, pair: Pair) -> Row:
    kept = notes_of(record, NAME)
    names = kept.get("names", {})
    text, rating = names.get("text", _TEXT[0]), names.get("rating", _RATING[0])
    sides = [record.completions[index] for index in (pair.chosen, pair.rejected)]
    row: Row = {"source": record.meta["source"]} if isinstance(record.meta.get("source"), str) else {}
    asked = [message.content for message in record.prompt if message.role == "user"]
    row[names.get("prompt", _PROMPT[0])] = asked[0] if asked else ""
    if kept.get("texts") and len(record.prompt) == 1 and all(side.content is not None for side in sides):
        contents: list[Any] = [side.content for side in sides]
    else:
        contents = [msgspec.to_builtins(record.prompt + side.turns()) for side in sides]
        row["messages"] = contents[0]
    ratings = [
        judgment.ratings.get(_rating_name(rating)) for judgment in record.judgments if judgment.ratings
    ]
    scored = next((values for values in ratings if values), None)
    for name, content, side, index in zip(_SIDES, contents, sides, (pair.chosen, pair.rejected), strict=True):
        row[text.format(name)] = content
        row[rating.format(name)] = scored[index] if scored else None
        if side.source and side.source.name:
            row[names.get("model", _MODEL[0]).format(name)] = side.source.name
    return row
