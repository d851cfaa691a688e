"""One row of JSON: as an object, or as the columns that a format knows and those that it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from alignment.data.formats.kept import decode_object
from alignment.data.records import check_duplicate_keys, explain, nearest
from alignment.errors import UserError

Row = dict[str, Any]
Struct = TypeVar("Struct", bound=msgspec.Struct)


def row_of(line: bytes, where: str, needed: tuple[str, ...] = ()) -> Row:
    """The object in a line of JSON. Raises UserError if it is none, repeats a key, or lacks a needed one."""
    return having(decode_object(line, where), where, needed)


def having(row: Row, where: str, needed: tuple[str, ...]) -> Row:
    """The row itself. Raises UserError if it lacks a needed key."""
    for key in needed:
        if key not in row:
            raise UserError(f'{where}: the key "{key}" is missing{nearest(key, set(row))}')
    return row


def columns_of(
    line: bytes,
    where: str,
    decoder: msgspec.json.Decoder[Struct],
    plain: Callable[[Row, str], Row],
    keys: set[str] | None = None,
) -> tuple[Struct, Row]:
    """The columns that the decoder's struct knows, and the others as they are.

    plain: makes a row plain that the struct does not take at once, given the row and its place.
    keys: the keys to name where one is unknown within a column; the struct's own by default.
    Raises UserError.
    """
    try:
        row = decoder.decode(line)
        check_duplicate_keys(line, where, msgspec.json.encode(row))
        return row, {}
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # other columns, or a form that has to be made plain first
    kind = decoder.type
    known = set(kind.__struct_fields__)
    try:
        given = plain(row_of(line, where), where)
        own = msgspec.convert({key: value for key, value in given.items() if key in known}, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {explain(error, keys or known)}") from None
    return own, {key: value for key, value in given.items() if key not in known}
