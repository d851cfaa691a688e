"""The way back: what a row of a foreign format says beyond its record, kept in meta.NAME.

| key | is | goes back |
|---|---|---|
| columns | keys that the format's usual row of this record lacks | always |
| spelled | keys whose value the usual row spells in another way | while the record is as it was read |
| absent | keys that the usual row has, and this one had not | while the record is as it was read |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from alignment.data.formats import foreign
from alignment.data.formats.foreign import Row
from alignment.data.records import Completion, Judgment, Record, check_duplicate_keys, explain
from alignment.errors import UserError


def decode_object(line: bytes, where: str) -> Row:
    """One row of JSON as a dict. Raises UserError if it is no object, or names a key twice."""
    try:
        row = msgspec.json.decode(line, type=Row)
        check_duplicate_keys(line, where, msgspec.json.encode(row))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {explain(error)}") from None
    return row


def notes_of(holder: Record | Completion | Judgment, name: str) -> Row:
    """What meta.NAME keeps; an empty object where there is none."""
    return part(holder.meta, name)


def part(notes: Row, key: str) -> Row:
    """The object under a key, or an empty one: meta is open, and people write into it."""
    value = notes.get(key)
    return value if isinstance(value, dict) else {}


def note(record: Record, name: str, entries: dict[str, Any]) -> None:
    """Add entries that are not empty to meta.NAME."""
    full = {key: value for key, value in entries.items() if value not in (None, {}, [], "", False)}
    if full:
        record.meta = {**record.meta, name: {**record.meta.get(name, {}), **full}}


def keep(record: Record, name: str, row: Row, usual: Row) -> None:
    """Keep in meta.NAME what `row` has and the format's usual row of this record has not."""
    columns = {key: value for key, value in row.items() if key not in usual}
    spelled = {key: row[key] for key, value in usual.items() if key in row and row[key] != value}
    absent = [key for key in usual if key not in row]
    note(record, name, {"columns": columns, "spelled": spelled, "absent": absent})


def restore(record: Record, name: str, usual: Row, decode: Callable[[bytes, str], Record]) -> Row:
    """The row to write: the usual one with what was kept, where that still reads as this record."""
    kept = notes_of(record, name)
    if not kept:
        return usual
    row = {**kept.get("columns", {}), **usual}
    spelled, absent = kept.get("spelled", {}), kept.get("absent", [])
    if spelled or absent:
        as_read = {key: value for key, value in {**row, **spelled}.items() if key not in absent}
        try:
            again = decode(msgspec.json.encode(as_read), "a kept row")
        except UserError:  # the record was changed so that what was kept no longer goes with it
            return row
        if not foreign.losses(record, [again]) and len(again.judgments) == len(record.judgments):
            return as_read
    return row
