"""Rows of a production log: what was asked, what was answered, and the reward if one was logged.

    {"prompt": "…" or [{"role", "content"}, …], "completion": "…"}    or response, answer, output
    {"messages": [{"role", "content"}, …]}                            the last one is the answer
    {"prompt": […], "completions": [{"content": "…"}]}                our records; the first completion

with "score" or "reward", a number, where there is one. Other keys are passed over.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec

from alignment.errors import UserError

ANSWERS = ("completion", "response", "answer", "output")
SHAPE = 'a row of a log has "prompt" and "completion" (or "response"), or "messages" that end with the answer'


class Logged(NamedTuple):
    """prompt: the text of the last turn before the answer; messages: all turns before it."""

    prompt: str
    completion: str
    score: float | None = None
    messages: list[dict[str, Any]] = []  # noqa: RUF012 (never written to)


_decoder = msgspec.json.Decoder(dict[str, Any])


def decode_logged(line: bytes, where: str) -> Logged:
    """One row of a log; `where` ("log.jsonl, line 3") goes into the error. Raises UserError."""
    try:
        row = _decoder.decode(line)
    except msgspec.DecodeError as error:
        raise UserError(f"{where}: not a JSON object ({error})") from None
    turns, answer = row.get("prompt"), None
    if "messages" in row and turns is None:
        messages = _turns(row["messages"], where)
        if len(messages) < 2 or messages[-1].get("role") != "assistant":
            raise UserError(f"{where}: {SHAPE}")
        turns, answer = messages[:-1], messages[-1].get("content")
    elif row.get("completions"):
        first = row["completions"][0] if isinstance(row["completions"], list) else None
        answer = first.get("content") if isinstance(first, dict) else first
    else:
        answer = next((row[key] for key in ANSWERS if key in row), None)
    if isinstance(turns, str):
        turns = [{"role": "user", "content": turns}]
    messages = _turns(turns, where)
    if not messages or not isinstance(answer, str):
        raise UserError(f"{where}: {SHAPE}")
    return Logged(str(messages[-1].get("content") or ""), answer, _score(row, where), messages)


def _turns(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise UserError(f"{where}: {SHAPE}")
    return value


def _score(row: dict[str, Any], where: str) -> float | None:
    value = row.get("score", row.get("reward"))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: the score is not a finite number: {value!r}")
    return float(value)
