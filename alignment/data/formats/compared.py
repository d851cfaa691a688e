"""What formats of two compared replies share: cells as texts and numbers, the prompt, the vote, tables."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from alignment.data.files import atomic_output
from alignment.data.formats import foreign
from alignment.data.formats.foreign import Row
from alignment.data.formats.kept import note, notes_of
from alignment.data.formats.rows import row_of
from alignment.data.lines import open_output, read_lines
from alignment.data.pairs import judgment_votes
from alignment.data.records import Judgment, Message, Record
from alignment.data.tables import TABLES, table_text
from alignment.errors import UserError


def decode_row(line: bytes, where: str, needed: tuple[str, ...] = ()) -> Row:
    """One row of JSON as a dict. Raises UserError if it is none, or lacks a key that is needed."""
    if line.startswith(b'"'):  # a line that is no row of its table
        raise UserError(f"{where}: it does not fit the table")
    return row_of(line, where, needed)


def write(
    records: Iterable[Record],
    path: str | os.PathLike[str],
    rows_of: Callable[[Record], list[Row]],
    decode: Callable[[bytes, str], Record],
    overwrite: bool = False,
) -> Counter[str]:
    """Write each record's rows as JSON, or as a table where the name ends in .csv or .tsv (.gz, .zst).

    Return what was lost, field: count. Raises UserError as `foreign.write_foreign` does.
    """
    target = Path(path)
    if not target.name.endswith(TABLES):
        return foreign.write_foreign(records, path, rows_of, decode, overwrite)
    header: dict[str, None] = {}

    def cells_of(record: Record) -> list[Row]:
        rows = [{key: cell(value) for key, value in row.items()} for row in rows_of(record)]
        header.update(dict.fromkeys(key for row in rows for key in row))
        return [dict.fromkeys(header, "") | row for row in rows]

    # The header names what any row has, so the rows wait in a file of lines until the last has been seen.
    with (
        atomic_output(target, overwrite) as temporary,
        tempfile.TemporaryDirectory(dir=target.parent) as near,
    ):
        waiting = Path(near) / "rows.jsonl"
        with open_output(waiting) as kept:
            lost = foreign.put_rows(records, lambda line: kept.write(line + b"\n"), target, cells_of, decode)
        rows = (msgspec.json.decode(line, type=dict[str, str]) for _, line in read_lines(waiting))
        with open_output(temporary) as out:
            out.writelines(table_text(list(header), rows, "\t" if target.name.endswith(TABLES[3:]) else ","))
    return lost


def cell(value: Any) -> str:
    """A value as a cell of a table: text as it is, null empty, True and False, the rest as JSON."""
    if value is None:
        return ""
    if isinstance(value, (str, bool)):
        return str(value)
    return msgspec.json.encode(value).decode()


def text(value: Any, where: str, key: str) -> str:
    """A cell as text: null is empty, a number or a boolean is written out. Raises UserError for the rest."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, (bool, int, float)):
        return str(value)
    raise UserError(f'{where}: "{key}" must be text, not {type(value).__name__}')


def name(value: Any) -> str | None:
    """The name of a judge or a model: text or a number; None where it is empty or something else."""
    if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
        return str(value)
    return None


def number(value: Any, where: str, key: str) -> float | None:
    """A number, also where it is written as text; None for null and the empty text. Raises UserError."""
    if value is None or value == "":
        return None
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(float(value)):
                return float(value)
    raise UserError(f'{where}: "{key}" is {value!r}; it must be a number, or empty where nobody judged')


def instruction_record(instruction: str, context: str, name: str) -> Record:
    """A record of one user's turn: the instruction and, after an empty line, the context, as Alpaca has it.

    Where there is a context, meta[name]["input"] keeps it, so that the two can be told apart again.
    """
    record = Record([Message("user", f"{instruction}\n\n{context}" if context else instruction)])
    note(record, name, {"input": context})
    return record


def instruction_columns(record: Record, name: str) -> Row | None:
    """`instruction` and `input` of a prompt of one user's turn, split as it was; None for another prompt."""
    if len(record.prompt) != 1 or record.prompt[0] != Message("user", record.prompt[0].content):
        return None
    asked, context = record.prompt[0].content, notes_of(record, name).get("input")
    if isinstance(context, str) and context and asked.endswith(f"\n\n{context}"):
        return {"instruction": asked.removesuffix(f"\n\n{context}"), "input": context}
    return {"instruction": asked}


def two_texts(record: Record) -> list[str] | None:
    """The texts of exactly two completions of one plain reply each; None for others."""
    texts = [completion.content for completion in record.completions if completion.content is not None]
    return texts if len(texts) == len(record.completions) == 2 else None


def vote(judgment: Judgment) -> float | None:
    """The chance that the first of two completions is better, as the judge said it; None without an order."""
    votes = [] if judgment.all_bad else judgment_votes(judgment)
    return votes[0].p if votes else None
