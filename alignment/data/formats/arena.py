"""Chatbot Arena (LMSYS, LMArena): two models' conversations, and which one a person preferred.

| shape | columns |
|---|---|
| conversations | conversation_a, conversation_b ([{role, content}]; content a text or a list of parts) |
| texts (WSDM Cup) | prompt, response_a, response_b |
| lists (LMSYS on Kaggle) | the same three, each a JSON list of one text a turn |

The vote is `winner`: model_a, model_b, tie, or for both bad "tie (bothbad)", "both_bad", …; or, in
winner_model_a, winner_model_b and winner_tie, a 1 among noughts. model_a and model_b name the models,
judge (or judge_hash) who voted, tstamp when, in seconds since 1970. `turn` counts the turns that were
judged: what goes on after them (MT-Bench's first-turn judgments) is no part of the completions.

Source: https://huggingface.co/datasets/lmsys/chatbot_arena_conversations, lmsys/mt_bench_human_judgments,
lmarena-ai/arena-human-preference-100k and -140k; https://www.kaggle.com/competitions/lmsys-chatbot-arena/data
and wsdm-cup-multilingual-chatbot-arena/data; FastChat, fastchat/serve/monitor/clean_battle_data.py.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from alignment.data.files import Paths, Rejects
from alignment.data.formats import compared, foreign
from alignment.data.formats.kept import keep, note, notes_of, restore
from alignment.data.records import Judgment, Message, Record, Source
from alignment.errors import UserError

NAME = "arena"
_TEXTS = ("prompt", "response_a", "response_b")
_HALF = re.compile("[\ud800-\udfff]")
_FLAGS = ("winner_model_a", "winner_model_b", "winner_tie")
_WINNERS = {
    "model_a": "a", "a": "a", "leftvote": "a",
    "model_b": "b", "b": "b", "rightvote": "b",
    "tie": "tie", "tievote": "tie",
    "tie (bothbad)": "bad", "tie (both bad)": "bad", "both_bad": "bad", "both bad": "bad",
    "bothbad": "bad", "bothbad_vote": "bad",
}  # fmt: skip
_WORDS = {"a": "model_a", "b": "model_b", "tie": "tie", "bad": "tie (bothbad)"}


def recognise(row: dict[str, Any]) -> str | None:
    """Why this row is Arena's, or None."""
    vote = [key for key in ("winner", _FLAGS[0]) if key in row][:1]
    if {"conversation_a", "conversation_b"} <= row.keys():
        return foreign.by_keys(["conversation_a", "conversation_b", *vote])
    if vote and {"prompt", "response_a", "response_b"} <= row.keys():
        return foreign.by_keys(["response_a", "response_b", *vote])
    return None


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: the prompt is what both share up to a reply, the vote is a judgment."""
    return foreign.read_foreign(paths, decode, rejects)


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row = compared.decode_row(line, where)
    if "conversation_a" in row or "conversation_b" in row:
        sides = [
            _conversation(row.get(f"conversation_{side}"), where, f"conversation_{side}") for side in "ab"
        ]
        sides = [_judged_part(side, row.get("turn"), where) for side in sides]
        shape = ""
    else:
        sides, shape = _from_texts(row, where)
    length = foreign.shared_prompt(sides[0], sides[1], where)
    record = Record(sides[0][:length])
    note(record, NAME, {"shape": shape, "flags": any(key in row for key in _FLAGS)})
    record.completions = [foreign.reply(side[length:]) for side in sides]
    for completion, key in zip(record.completions, ("model_a", "model_b"), strict=True):
        model = compared.name(row.get(key))
        completion.source = None if model is None else Source("model", model)
    judgment = _judgment(row, where)
    if judgment is not None:
        record.judgments = [judgment]
    keep(record, NAME, row, _written(record)[0])
    return record


def _conversation(value: Any, where: str, key: str) -> list[Message]:
    """The turns of a conversation; one without a reply ends with an empty one."""
    turns = _json_list(value) if isinstance(value, str) else value
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UserError(f'{where}: "{key}" must be a list of messages with "role" and "content"')
    messages = []
    for turn in turns:
        content, parts = turn.get("content"), None
        if isinstance(content, list):
            texts = [part.get("text") for part in content if isinstance(part, dict)]
            parts = None if texts and all(isinstance(part, str) for part in texts) else content
            content = "".join(part for part in texts if isinstance(part, str))
        plain = {"role": turn.get("role"), "content": compared.text(content, where, f"{key}.content")}
        try:
            messages.append(msgspec.convert(plain | ({"parts": parts} if parts else {}), Message))
        except msgspec.ValidationError as error:
            raise UserError(f"{where}: {key}: {str(error).lower()}") from None
    return _answered(messages)


def _answered(messages: list[Message]) -> list[Message]:
    return (
        messages if messages and messages[-1].role == "assistant" else [*messages, Message("assistant", "")]
    )


def _judged_part(messages: list[Message], turn: Any, where: str) -> list[Message]:
    """A conversation up to the reply of the last turn that was judged."""
    judged = compared.number(turn, where, "turn")
    asked = [index for index, message in enumerate(messages) if message.role == "user"]
    if judged is None or judged < 1 or judged >= len(asked):
        return messages
    return _answered(messages[: asked[int(judged)]])


def _from_texts(row: dict[str, Any], where: str) -> tuple[list[list[Message]], str]:
    """Both conversations of a row with prompt, response_a and response_b; "lists" or "texts"."""
    for key in _TEXTS:
        if key not in row:
            raise UserError(f'{where}: the key "{key}" is missing, and there is no "conversation_a"')
    lists = [_json_list(row[key]) if isinstance(row[key], str) else row[key] for key in _TEXTS]
    if not all(isinstance(turns, list) for turns in lists):
        asked, *answers = [compared.text(row[key], where, key) for key in _TEXTS]
        return [[Message("user", asked), Message("assistant", answer)] for answer in answers], "texts"
    texts = [
        [compared.text(turn, where, key) for turn in turns] for key, turns in zip(_TEXTS, lists, strict=True)
    ]
    sides = []
    for key, answers in zip(_TEXTS[1:], texts[1:], strict=True):
        if len(answers) != len(texts[0]) or not answers:
            raise UserError(f'{where}: "{key}" has {len(answers)} turns for {len(texts[0])} in "prompt"')
        turns = zip(texts[0], answers, strict=True)
        sides.append([m for q, a in turns for m in (Message("user", q), Message("assistant", a))])
    return sides, "lists"


def _json_list(value: str) -> Any:
    """The list that a text of JSON holds, half characters replaced; the text itself where it holds none."""
    if not value.startswith("["):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    if isinstance(found, list):  # Kaggle's files have halves of surrogate pairs, which are no text
        return json.loads(_HALF.sub("\ufffd", json.dumps(found, ensure_ascii=False)))
    return value


def _judgment(row: dict[str, Any], where: str) -> Judgment | None:
    """The vote; None where the row has neither a winner nor a judge. Raises UserError if it is unclear."""
    winner = _winner(row, where)
    by = compared.name(row.get("judge"))
    judgment = Judgment(by=by or compared.name(row.get("judge_hash")))
    if winner == "bad":
        judgment.all_bad = True
    elif winner is not None:
        judgment.ranks = {"a": [1, 2], "b": [2, 1], "tie": [1, 1]}[winner]  # type: ignore[assignment]
    at = row.get("tstamp")
    if at is not None and at != "":
        judgment.at = _iso(compared.number(at, where, "tstamp"), where)
    return None if judgment == Judgment() else judgment


def _winner(row: dict[str, Any], where: str) -> str | None:
    if any(key in row for key in _FLAGS):
        flags = [compared.number(row.get(key), where, key) for key in _FLAGS]
        if not any(flag is not None for flag in flags):
            return None
        if sorted(flag or 0.0 for flag in flags) != [0.0, 0.0, 1.0]:
            raise UserError(f"{where}: of {', '.join(_FLAGS)} exactly one must be 1, the others 0")
        return ("a", "b", "tie")[flags.index(1.0)]
    winner = row.get("winner")
    if winner is None or winner == "":
        return None
    models = [row.get("model_a"), row.get("model_b")]
    if winner in models and models[0] != models[1]:
        return "ab"[models.index(winner)]
    known = _WINNERS.get(winner.strip().lower()) if isinstance(winner, str) else None
    if known is None:
        raise UserError(f'{where}: "winner" is {winner!r}; it is model_a, model_b, tie or tie (bothbad)')
    return known


def _iso(seconds: float | None, where: str) -> str:
    try:
        return datetime.fromtimestamp(seconds or 0.0, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        raise UserError(f'{where}: "tstamp" is {seconds}; it counts seconds since 1970') from None


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row for every judgment of two completions; return what was lost, field: count."""
    return compared.write(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """The rows of a record of two completions, in the shape it came in: one for each judgment, or one."""
    return [restore(record, NAME, row, decode) for row in _written(record)]


def _written(record: Record) -> list[foreign.Row]:
    if len(record.completions) != 2:
        return []
    marks = notes_of(record, NAME)
    sides = [record.prompt + completion.turns() for completion in record.completions]
    shape = marks.get("shape")
    base = _texts(sides, shape == "lists") if shape else None
    if base is None:
        base = {f"conversation_{side}": _plain(turns) for side, turns in zip("ab", sides, strict=True)}
    for key, completion in zip(("model_a", "model_b"), record.completions, strict=True):
        if completion.source is not None and completion.source.name:
            base[key] = completion.source.name
    return [base | _vote(judgment, marks.get("flags") is True) for judgment in record.judgments] or [base]


def _plain(turns: list[Message]) -> list[dict[str, Any]]:
    return [{"role": turn.role, "content": turn.parts or turn.content} for turn in turns]


def _texts(sides: list[list[Message]], lists: bool) -> foreign.Row | None:
    """Prompt and responses as texts or as JSON lists of them; None where the turns do not fit that."""
    asked = [[turn.content for turn in side[::2]] for side in sides]
    plain = all(
        turn == Message("assistant" if number % 2 else "user", turn.content)
        for side in sides
        for number, turn in enumerate(side)
    )
    if not plain or asked[0] != asked[1] or any(len(side) % 2 for side in sides):
        return None
    answers = [[turn.content for turn in side[1::2]] for side in sides]
    columns = zip(_TEXTS, (asked[0], *answers), strict=True)
    if lists:
        return {key: json.dumps(turns, ensure_ascii=False) for key, turns in columns}
    return {key: turns[0] for key, turns in columns} if len(asked[0]) == 1 else None


def _vote(judgment: Judgment, flags: bool) -> foreign.Row:
    row: foreign.Row = {} if judgment.by is None else {"judge": judgment.by}
    p = compared.vote(judgment)
    winner = "bad" if judgment.all_bad else None if p is None else "tie" if p == 0.5 else "ab"[p < 0.5]
    if flags and winner is not None:  # both bad is a tie there
        told = "tie" if winner == "bad" else winner
        row |= {key: int(told == side) for key, side in zip(_FLAGS, ("a", "b", "tie"), strict=True)}
    elif winner is not None:
        row["winner"] = _WORDS[winner]
    if judgment.at is not None:
        try:
            at = datetime.fromisoformat(judgment.at)
            row["tstamp"] = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        except ValueError:  # not a time as Arena counts it; its loss is counted
            pass
    return row
