"""OpenAI's chat fine-tuning rows: {"messages": […], "tools": […], "parallel_tool_calls": true}.

A message is {role, content} with role system, developer, user, assistant, tool (or function); its content
is text, null beside calls of tools, or a list of parts; an assistant's may have `weight` 0 or 1.

Source: FineTuneChatRequestInput in OpenAI's API description (github.com/openai/openai-openapi) and
https://platform.openai.com/docs/guides/supervised-fine-tuning. Before there were tools a row had
`functions` and a message `function_call`; both are read, and come back.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from alignment.data.files import Paths, Rejects
from alignment.data.formats import foreign
from alignment.data.formats.kept import notes_of, part
from alignment.data.formats.rows import row_of
from alignment.data.formats.turns import (
    OPENAI,
    completion_of,
    completion_rows,
    messages_of,
    read_turns,
    reply_start,
    take_tools,
    tools_of,
    tools_row,
    unusual_of,
    write_turns,
)
from alignment.data.pairs import best_completion
from alignment.data.records import Record
from alignment.errors import UserError

_NAME = "openai_chat"
_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}


def recognise(row: dict[str, Any]) -> str | None:
    """By what a row is of this format, or None."""
    turns = row.get("messages")
    if not isinstance(turns, list) or not turns or not row.keys() <= _KEYS:
        return None
    if all(isinstance(turn, dict) and "role" in turn for turn in turns):
        return 'the key "messages" with "role" and "content"'
    return None


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: the last reply, with what follows it, is the demonstration; the rest is the prompt.

    What a record does not say by itself is kept in meta.openai_chat, for the way back.
    """
    return foreign.read_foreign(paths, decode, rejects)


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row = row_of(line, where, ("messages",))
    turns = read_turns(row.pop("messages"), OPENAI, f"{where}: messages")
    if not turns:
        raise UserError(f'{where}: "messages" is empty')
    start = reply_start(messages_of(turns))
    record = Record(messages_of(turns[:start]))
    if start < len(turns):
        record.completions = [completion_of(turns[start:], _NAME)]
        record.demonstrations = [0]
    notes: foreign.Row = {}
    take_tools(row, record, notes)
    functions = tools_of(row.get("functions"))
    if record.tools is None and functions is not None and functions == row["functions"]:
        record.tools = [{"type": "function", "function": function} for function in row.pop("functions")]
        notes["functions"] = True
    notes |= {"turns": unusual_of(turns[:start]), "columns": row}
    notes = {key: value for key, value in notes.items() if value}
    record.meta = {_NAME: notes} if notes else {}
    return record


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row a demonstration, else the best completion; return what was lost, field: count."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """The rows of a record: one for each demonstration, else the best completion or the bare prompt."""
    notes = notes_of(record, _NAME)
    prompt = write_turns(record.prompt, part(notes, "turns"), OPENAI)
    best = best_completion(record)
    chosen = record.demonstrations or ([] if best is None else [best])
    replies = [completion_rows(record.completions[index], _NAME, OPENAI) for index in chosen]
    if not record.completions:
        replies = [[]]
    if prompt is None:
        return []
    further = part(notes, "columns") | _tools(record, notes)
    return [further | {"messages": prompt + reply} for reply in replies if reply is not None]


def _tools(record: Record, notes: foreign.Row) -> foreign.Row:
    functions = [tool.get("function") for tool in record.tools or ()]
    if notes.get("functions") and record.tools == [{"type": "function", "function": f} for f in functions]:
        return {"functions": functions}
    return tools_row(record, notes)
