"""OpenAI's preference fine-tuning rows: an input, a preferred output and a non-preferred one.

    {"input": {"messages": […], "tools": […], "parallel_tool_calls": true},
     "preferred_output": [{"role": "assistant", "content": "…"}], "non_preferred_output": […]}

Source: FineTunePreferenceRequestInput in OpenAI's API description (github.com/openai/openai-openapi) and
https://platform.openai.com/docs/guides/direct-preference-optimization. Its first versions called the
outputs `preferred_completion` and `non_preferred_completion`; those are read, and come back. Together AI
takes the same rows.
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
    prompt_end,
    read_turns,
    take_tools,
    tools_row,
    unusual_of,
    write_turns,
)
from alignment.data.records import Completion, Record, nearest
from alignment.errors import UserError

_NAME = "openai_preference"
_NAMES = ("output", "completion")


def recognise(row: dict[str, Any]) -> str | None:
    """By what a row is of this format, or None."""
    for name in _NAMES:
        keys = ("input", f"preferred_{name}", f"non_preferred_{name}")
        if set(keys) <= row.keys() and isinstance(row["input"], dict) and "messages" in row["input"]:
            return foreign.by_keys(keys)
    return None


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: the input is the prompt, and the preferred output is ranked before the other.

    Turns by the assistant at the input's end begin both completions. What a record does not say by itself
    is kept in meta.openai_preference, for the way back.
    """
    return foreign.read_foreign(paths, decode, rejects)


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row = row_of(line, where, ("input",))
    name = "completion" if "preferred_completion" in row and "preferred_output" not in row else "output"
    sides = (f"preferred_{name}", f"non_preferred_{name}")
    for key in sides:
        if row.get(key) is None:
            raise UserError(f'{where}: the key "{key}" is missing{nearest(key, set(row) - set(sides))}')
    given = row.pop("input")
    if not isinstance(given, dict) or "messages" not in given:
        raise UserError(f'{where}: "input" must be an object with "messages"')
    turns = read_turns(given.pop("messages"), OPENAI, f"{where}: input.messages")
    end = prompt_end(messages_of(turns))
    chosen, rejected = (
        completion_of(turns[end:] + read_turns(row.pop(key), OPENAI, f"{where}: {key}"), _NAME)
        for key in sides
    )
    record = foreign.preference(messages_of(turns[:end]), chosen, rejected)
    notes: foreign.Row = {}
    take_tools(given, record, notes)
    notes |= {"turns": unusual_of(turns[:end]), "input": given, "columns": row}
    notes |= {"begun": len(turns) - end, "outputs": "" if name == "output" else name}
    notes = {key: value for key, value in notes.items() if value}
    record.meta = {_NAME: notes} if notes else {}
    return record


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row for every preference in a record; return what was lost, field: count."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """The rows of a record, one for each of its preferences."""
    notes = notes_of(record, _NAME)
    prompt = write_turns(record.prompt, part(notes, "turns"), OPENAI)
    if prompt is None:
        return []
    found = []
    for chosen, rejected in foreign.derived_pairs(record):
        sides = [completion_rows(side, _NAME, OPENAI) for side in (chosen, rejected)]
        if sides[0] is None or sides[1] is None:
            continue
        begun = _begun(chosen, rejected, notes)
        given = part(notes, "input") | tools_row(record, notes) | {"messages": prompt + sides[0][:begun]}
        name = "completion" if notes.get("outputs") == "completion" else "output"
        row = {
            "input": given,
            f"preferred_{name}": sides[0][begun:],
            f"non_preferred_{name}": sides[1][begun:],
        }
        found.append(part(notes, "columns") | row)
    return found


def _begun(chosen: Completion, rejected: Completion, notes: foreign.Row) -> int:
    """How many turns both completions took over from the end of the prompt's column."""
    begun = notes.get("begun")
    if not isinstance(begun, int) or chosen.turns()[:begun] != rejected.turns()[:begun]:
        return 0
    return begun
