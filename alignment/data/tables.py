"""CSV and TSV as rows of JSON, in a stream: a header first, then cells of text (RFC 4180).

Cells may hold line ends, delimiters and doubled quotes. What a text means is for the format to say; but a
list of messages is one: as JSON, and as pandas and `datasets` print it into a table (Python's literals, with
or without commas between the messages).
"""

from __future__ import annotations

import ast
import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from alignment.data.lines import raw_lines
from alignment.errors import UserError

TABLES = (".csv", ".csv.gz", ".csv.zst", ".tsv", ".tsv.gz", ".tsv.zst")
_MESSAGES = re.compile(r"""\s*\[\s*\{\s*['"](role|content|from|value)['"]\s*:.*\]\s*$""", re.DOTALL)
_BETWEEN = re.compile(r"\}\s+\{(?=['\"](?:role|content|from|value)['\"]:)")
LONGEST_CELL = 1 << 27  # characters; a quote that is never closed is told before it swallows a large file


def table_rows(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every row as ("PATH, line N", JSON object of texts); N is the line where the row begins.

    A row that does not fit the header is yielded as its text (a JSON string, which no format takes for a
    row), with the reason in its place. Raises UserError for a header that repeats a name, and for a file
    that is not UTF-8.
    """
    # The limit is the csv module's, one for the process; its default of 128 KiB is less than a long reply.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    lines = _Lines(path)
    delimiter = "\t" if path.name.endswith(TABLES[3:]) else _delimiter(lines.first)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        lines.taken = []
        where = f"{path}, line {lines.number + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if header is None:
                raise UserError(f"{where}: the header is not CSV: {error}") from None
            yield f"{where} (not CSV: {error})", msgspec.json.encode("".join(lines.taken))
            continue
        if not cells:
            continue
        if header is None:
            header = _header(cells, where)
        elif len(cells) != len(header):
            reason = f"{len(cells)} cells, but the header has {len(header)}"
            yield f"{where} ({reason})", msgspec.json.encode("".join(lines.taken))
        else:
            row = {name: _value(cell) for name, cell in zip(header, cells, strict=True)}
            unclear = next((name for name, value in row.items() if value is None), None)
            if unclear is None:
                yield where, msgspec.json.encode(row)
            else:
                reason = (
                    f'"{unclear}" seems to be a list of messages, and is neither JSON nor Python; '
                    "save the table as JSONL or Parquet"
                )
                yield f"{where} ({reason})", msgspec.json.encode("".join(lines.taken))


def _value(cell: str) -> Any:
    """The list of messages that a cell holds, else its text; None for what seems one and cannot be read."""
    if not _MESSAGES.match(cell):
        return cell
    try:
        found = msgspec.json.decode(cell)
    except msgspec.DecodeError:
        try:
            found = ast.literal_eval(_BETWEEN.sub("}, {", cell.strip()))
            msgspec.json.encode(found)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None
    keys = [{"role", "content"}, {"from", "value"}]
    chat = isinstance(found, list) and all(
        isinstance(turn, dict) and any(names <= turn.keys() for names in keys) for turn in found
    )
    return found if chat else cell


class _Lines:
    """The file's lines as text; knows how many there were, and which ones the row at hand took."""

    def __init__(self, path: Path) -> None:
        self.path, self.number, self.taken = path, 0, list[str]()
        self._source = raw_lines(path)
        start = next(self._source, b"").removeprefix(b"\xef\xbb\xbf")
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError(f"{path}: the file is UTF-16; save it as UTF-8")
        self.first = self._text(start, 1)
        self._waiting = [self.first] if start else []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._waiting.pop() if self._waiting else self._text(next(self._source), self.number + 1)
        self.number += 1
        self.taken.append(line)
        return line

    def _text(self, line: bytes, number: int) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self.path}, line {number}: not UTF-8 ({error.reason}); save it as UTF-8"
            ) from None


def _delimiter(line: str) -> str:
    """What cuts the header into the most names: a comma, a semicolon, a tab or a bar."""

    def cells(delimiter: str) -> int:
        try:
            return len(next(csv.reader([line], delimiter=delimiter), []))
        except csv.Error:  # the reader of the header says so, with its place
            return 0

    return max(",;\t|", key=cells)


def _header(cells: list[str], where: str) -> list[str]:
    if any("\0" in cell for cell in cells):
        raise UserError(f"{where}: there are NUL bytes in the header; save the file as UTF-8")
    repeated = [name for name, times in Counter(cells).items() if times > 1]
    if repeated:
        raise UserError(
            f'{where}: the header names "{repeated[0]}" twice; give each column a name of its own'
        )
    return cells


def table_text(header: list[str], rows: Iterable[dict[str, str]], delimiter: str) -> Iterator[bytes]:
    """A table's lines: the header, then a row each; a cell that a row lacks is empty."""

    class Echo:
        def write(self, text: str) -> str:
            return text

    writer = csv.writer(Echo(), delimiter=delimiter, lineterminator="\r\n")  # so that any line end is quoted
    yield writer.writerow(header).encode()
    for row in rows:
        yield writer.writerow([row.get(name, "") for name in header]).encode()
