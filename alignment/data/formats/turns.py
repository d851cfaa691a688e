"""Turns of a chat as foreign files spell them: {"role", "content"}, {"from", "value"} and their kin.

A turn that has more to it than our messages say (further keys, a null for a text, another tag for the same
role) is kept, less its text, for the way back: under "turns" in the meta of the prompt's record or of the
completion, by its place. On the way back it is used only where it still says what the turn says.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from alignment.data.formats import foreign
from alignment.data.formats.kept import notes_of, part
from alignment.data.records import Completion, Message, Record, Role, nearest
from alignment.errors import UserError

Row = foreign.Row


class Spelling(NamedTuple):
    """The keys under which a turn has its speaker and its text."""

    role: str
    text: str


class Turn(NamedTuple):
    """A turn, and how it was spelled, less its text, where that is not the usual way."""

    message: Message
    unusual: Row | None = None


OPENAI = Spelling("role", "content")
SHAREGPT = Spelling("from", "value")
# What files call the roles; the first tag of a role is the one that is written with "from".
ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "system": "system",
    "developer": "developer",
    "observation": "tool",
    "tool": "tool",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
_TAGS = {role: tag for tag, role in reversed(ROLES.items())}
_CALLS = ("function_call", "tool_call")
_WITHOUT_TEXT = ("tool_calls", "function_call", "refusal", "audio")


def read_turns(given: Any, spelling: Spelling, where: str) -> list[Turn]:
    """The turns of a list of objects. `where` is the list's place. Raises UserError."""
    if not isinstance(given, list) or not all(isinstance(turn, dict) for turn in given):
        raise UserError(f"{where} must be a list of turns, each an object")
    found = []
    for index, row in enumerate(given):
        message = read_turn(row, spelling, f"{where}[{index}]")
        usual = write_turn(message, spelling) == row
        found.append(Turn(message, None if usual else _without_text(row, message, spelling)))
    return found


def read_turn(row: Row, spelling: Spelling, where: str) -> Message:
    """One turn. Raises UserError where the role is unknown, or the text is missing or no text."""
    tag = row.get(spelling.role)
    role = ROLES.get(tag.lower()) if isinstance(tag, str) else None
    if role is None:
        if spelling.role not in row:
            raise UserError(
                f'{where}: the key "{spelling.role}" is missing{nearest(spelling.role, set(row))}'
            )
        raise UserError(f'{where}: "{spelling.role}" is {json.dumps(tag)}; known are {", ".join(ROLES)}')
    message = Message(role)
    text = row.get(spelling.text)
    if isinstance(text, str):
        message.content = text
        calls = _calls_of(text) if tag in _CALLS else None
        if calls is not None:
            message.content, message.tool_calls = "", calls  # or the row's own "tool_calls", below
    elif isinstance(text, list) and all(isinstance(part, dict) for part in text):
        message.parts = text
        message.content = "".join(p["text"] for p in text if isinstance(p.get("text"), str))
    elif text is not None:
        raise UserError(f'{where}: "{spelling.text}" must be text or a list of parts')
    elif spelling.text not in row and not any(row.get(key) for key in _WITHOUT_TEXT):
        raise UserError(f'{where}: the key "{spelling.text}" is missing{nearest(spelling.text, set(row))}')
    _read_further(row, message)
    return message


def _read_further(row: Row, message: Message) -> None:
    calls, call, weight = row.get("tool_calls"), row.get("function_call"), row.get("weight")
    if isinstance(calls, list) and calls and all(isinstance(entry, dict) for entry in calls):
        message.tool_calls = calls
    elif isinstance(call, dict):  # OpenAI's before there were tools
        message.tool_calls = [{"type": "function", "function": call}]
    if isinstance(row.get("name"), str):
        message.name = row["name"]
    if isinstance(row.get("tool_call_id"), str):
        message.tool_call_id = row["tool_call_id"]
    if isinstance(weight, int | float) and not isinstance(weight, bool):
        message.weight = float(weight)


def _calls_of(text: str) -> list[Row] | None:
    """LLaMA-Factory's call, or list of calls, of a function by name with arguments; None for other texts."""
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(c, dict) and c.keys() == {"name", "arguments"} for c in calls):
        return None
    return [{"type": "function", "function": call} for call in calls]


def write_turn(message: Message, spelling: Spelling) -> Row | None:
    """The turn in its usual spelling; None where that cannot hold it."""
    openai = spelling.role == "role"
    row: Row = {spelling.role: message.role if openai else _TAGS[message.role]}
    row[spelling.text] = message.content if message.parts is None else message.parts
    if message.tool_calls is not None:
        text = None if openai else _call_text(message.tool_calls)
        if text is not None:
            row = {spelling.role: "function_call", spelling.text: text}
        if text is None or _calls_of(text) != message.tool_calls:
            row["tool_calls"] = message.tool_calls
    for key in ("name", "tool_call_id"):
        if getattr(message, key) is not None:
            row[key] = getattr(message, key)
    if message.weight is not None:
        whole = message.weight in (0, 1)  # which OpenAI's schema wants as integers
        row["weight"] = int(message.weight) if whole else message.weight
    plain = message.tool_calls is None and message.parts is None  # which the reader takes as it is
    return row if plain or read_turn(row, spelling, "a written turn") == message else None


def _call_text(calls: list[Row]) -> str | None:
    """Calls as LLaMA-Factory writes them; arguments are an object there, and at OpenAI JSON text."""
    found = []
    for call in calls:
        function = call.get("function")
        if not isinstance(function, dict) or not {"name", "arguments"} <= function.keys():
            return None
        arguments = function["arguments"]
        if isinstance(arguments, str):
            with contextlib.suppress(msgspec.DecodeError):
                arguments = msgspec.json.decode(arguments)
        found.append({"name": function["name"], "arguments": arguments})
    return json.dumps(found[0] if len(found) == 1 else found, ensure_ascii=False)


def _without_text(row: Row, message: Message, spelling: Spelling) -> Row:
    text = row.get(spelling.text)
    if text and text == message.content:
        return {key: value for key, value in row.items() if key != spelling.text}
    return row


def write_turns(messages: list[Message], kept: Row, spelling: Spelling) -> list[Row] | None:
    """The turns as objects, unusual ones (`kept`: place to row) as they were; None if one cannot be held."""
    rows = []
    for index, message in enumerate(messages):
        row = _as_it_was(kept.get(str(index)), message, spelling) or write_turn(message, spelling)
        if row is None:
            return None
        rows.append(row)
    return rows


def _as_it_was(row: Any, message: Message, spelling: Spelling) -> Row | None:
    """The row that was kept, with its text; None where it does not say what the message says now."""
    if not isinstance(row, dict):
        return None
    whole = {spelling.text: message.content} | row if message.content else row
    try:
        return whole if read_turn(whole, spelling, "a kept turn") == message else None
    except UserError:
        return None


def messages_of(turns: Iterable[Turn]) -> list[Message]:
    """The messages alone."""
    return [turn.message for turn in turns]


def unusual_of(turns: list[Turn]) -> Row:
    """What has to be kept of the turns: place to row."""
    return {str(index): turn.unusual for index, turn in enumerate(turns) if turn.unusual is not None}


def completion_of(turns: list[Turn], name: str) -> Completion:
    """A completion of these turns, with what is unusual of them in meta[name]."""
    completion = foreign.reply(messages_of(turns))
    unusual = unusual_of(turns)
    if unusual:
        completion.meta = {name: {"turns": unusual}}
    return completion


def completion_rows(completion: Completion, name: str, spelling: Spelling) -> list[Row] | None:
    """The turns of a completion as objects; None where one cannot be held."""
    return write_turns(completion.turns(), part(notes_of(completion, name), "turns"), spelling)


def reply_start(messages: list[Message]) -> int:
    """Where the last reply begins: the last run of turns by the assistant; their number if there is none."""
    start = len(messages)
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "assistant":
            start = index
        elif start < len(messages):
            break
    return start


def prompt_end(messages: list[Message]) -> int:
    """How many turns are left when those by the assistant are taken from the end."""
    end = len(messages)
    while end and messages[end - 1].role == "assistant":
        end -= 1
    return end


def tools_of(value: Any) -> list[Row] | None:
    """Tools as a list of objects, also from its JSON text; None for everything else, and for none at all."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return None
    listed = isinstance(value, list) and value and all(isinstance(tool, dict) for tool in value)
    return value if listed else None


def take_tools(row: Row, record: Record, notes: Row, as_text: bool = False) -> None:
    """Move the column "tools" to the record; what is not spelled in the usual way is kept in the notes."""
    tools = tools_of(row.get("tools"))
    if tools is None:
        return
    record.tools = tools
    given = row.pop("tools")
    if given != _spelled(tools, as_text):
        notes["tools"] = given


def tools_row(record: Record, notes: Row, as_text: bool = False) -> Row:
    """The column "tools" of a record that has tools."""
    if record.tools is None:
        return {}
    given = notes.get("tools")
    usual = given is None or tools_of(given) != record.tools
    return {"tools": _spelled(record.tools, as_text) if usual else given}


def _spelled(tools: list[Row], as_text: bool) -> Any:
    return json.dumps(tools, ensure_ascii=False) if as_text else tools
