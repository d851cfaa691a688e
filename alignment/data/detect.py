"""Which format a file has, told from its first rows; no more of it is read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from alignment.data.files import FOREIGN_SUFFIXES, SUFFIXES, Paths, data_files, read_blocks
from alignment.data.formats import FORMATS
from alignment.data.records import shown
from alignment.errors import UserError

ROWS = 20  # of each file: enough for a broken one, or for a column that is null at first


class Detected(NamedTuple):
    """A format's name, and by what it was recognised: 'the keys "chosen" and "rejected"'."""

    format: str
    by: str


def detect(paths: Paths) -> Detected:
    """The format of a file, or of the files of a folder or glob, from the first rows of each.

    Raises UserError if no format knows the rows, or if two files are of different formats.
    """
    files = data_files(paths, FOREIGN_SUFFIXES)
    first: tuple[Path, Detected] | None = None
    for file in files:
        rows = first_rows(file)
        if not rows:
            continue  # nothing to recognise it by; the importer says what is wrong with it
        found = recognised(rows)
        if found is None:
            raise UserError(f"{file}: {_whole(file, rows[0]) or _unknown(rows)}")
        if first is None:
            first = file, found
        elif first[1].format != found.format:
            raise UserError(
                f"{first[0]} is {first[1].format} and {file} is {found.format}; "
                "convert the files of one format at a time"
            )
    if first is None:
        empty = all(file.stat().st_size == 0 for file in files)
        nothing = "the file is empty" if empty else "no row in the beginning of the file is an object"
        reason = _spread(files[0]) or nothing
        raise UserError(f"{', '.join(map(str, files[:3]))}: {reason}")
    return first[1]


def check_native(paths: Paths) -> None:
    """Raise UserError, with the command that helps, if a file has rows of a format that is not our own."""
    for given in [paths] if isinstance(paths, str | os.PathLike) else paths:
        # Of a folder the reader takes only what may be its own; a file that was named is looked at as it is.
        for file in data_files(given, FOREIGN_SUFFIXES if Path(given).is_file() else SUFFIXES):
            found = recognised(first_rows(file))
            if found is not None and found.format != "native":
                raise UserError(
                    f"{file} is {found.format}, by {found.by}; convert it first: "
                    f"alignkit data convert {file} RECORDS.jsonl"
                )


def recognised(rows: list[dict[str, Any]]) -> Detected | None:
    """The format of most of these rows; a row is of the first, so the most specific, format that knows it."""
    votes = Counter(found for row in rows if (found := _recognised(row)) is not None)
    formats = Counter(found.format for found in votes.elements())
    if not formats:
        return None
    name, _ = formats.most_common(1)[0]
    return next(found for found, _ in votes.most_common() if found.format == name)


def _recognised(row: dict[str, Any]) -> Detected | None:
    for name, module in FORMATS.items():
        by = module.recognise(row)
        if by is not None:
            return Detected(name, by)
    return None


def _unknown(rows: list[dict[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    listed = ", ".join(f'"{shown(key)}"' for key in keys[:12]) + (", …" if len(keys) > 12 else "")
    return (
        f"no known format has rows with the keys {listed}; name the format with --from, or say which key "
        "is what: --column prompt=KEY, and demonstration=, chosen= and rejected=, or completion_1=, "
        'completion_2= and preference= (docs/data.md, "Columns of any name"); or write records yourself'
    )


def _spread(file: Path) -> str | None:
    """What to do with objects over several lines; None where the file does not begin with one."""
    if not file.name.endswith((".json", ".jsonl")):
        return None
    with file.open("rb") as raw:
        start = raw.read(1 << 16).lstrip(b"\xef\xbb\xbf \r\n\t")
    line, end, _ = start.partition(b"\n")
    if not end or not line.startswith(b"{") or line.rstrip().endswith(b"}"):
        return None
    return f"a row must be on one line; jq -c . {file} > ROWS.jsonl puts each object on one"


def _whole(file: Path, row: dict[str, Any]) -> str | None:
    """What to do with one object that holds all rows, or all columns; None for what is a row."""
    inner = list(row.values())
    if all(isinstance(value, dict) and "0" in value for value in inner) or row.keys() >= {"columns", "data"}:
        return 'a table by columns; write it by rows: DataFrame.to_json(FILE, orient="records")'
    if len(inner) > 1 and all(isinstance(value, dict) and value.keys() == inner[0].keys() for value in inner):
        return f"one object with a row under each key; jq -c '.[]' {file} > ROWS.jsonl takes them out"
    lists = [key for key, value in row.items() if _are_rows(value)]
    if len(lists) == 1 and recognised(row[lists[0]][:ROWS]) is not None:
        return f'its rows are in "{lists[0]}"; jq -c \'.["{lists[0]}"][]\' {file} > ROWS.jsonl takes them out'
    return None


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def first_rows(path: Path) -> list[dict[str, Any]]:
    """The first rows of a file that are objects; one that is not, or is broken, is left to the importer.

    Raises UserError if the file is damaged, or is none of text, before its first row.
    """
    rows = []
    for text in islice(_texts(path), ROWS):
        try:
            rows.append(msgspec.json.decode(text, type=dict[str, Any]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return [row for row in rows if row]


def _texts(path: Path) -> Iterator[bytes]:
    read = 0
    for block in read_blocks(path):
        for _, text in block.rows():
            read += 1
            yield text
        if block.fault and not read:
            raise UserError(block.fault)
