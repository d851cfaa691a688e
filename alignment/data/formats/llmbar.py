"""LLMBar's test sets: an instruction, two outputs, and which one experts hold to follow it (1 or 2).

Columns: input (the instruction), output_1, output_2, label.

Source: https://github.com/princeton-nlp/LLMBar, Dataset/*/dataset.json.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from alignment.data.files import Paths, Rejects
from alignment.data.formats import compared, foreign
from alignment.data.formats.kept import keep, restore
from alignment.data.records import Completion, Judgment, Message, Record
from alignment.errors import UserError

NAME = "llmbar"
_KNOWN = ("input", "output_1", "output_2", "label")


def recognise(row: dict[str, Any]) -> str | None:
    """Why this row is LLMBar's, or None."""
    if set(_KNOWN) <= row.keys() and "instruction" not in row and str(row["label"]) in ("1", "2"):
        return 'the keys "input", "output_1", "output_2" and a "label" of 1 or 2'
    return None


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: two completions and one anonymous judgment."""
    return foreign.read_foreign(paths, decode, rejects)


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row = compared.decode_row(line, where, _KNOWN)
    asked, *outputs = [compared.text(row[key], where, key) for key in _KNOWN[:3]]
    label = compared.number(row["label"], where, "label")
    if label not in (1, 2):
        raise UserError(f'{where}: "label" is {row["label"]!r}; it must be 1 or 2, the better output')
    record = Record([Message("user", asked)], completions=[Completion(content=output) for output in outputs])
    record.judgments = [Judgment(ranks=[1, 2] if label == 1 else [2, 1])]
    keep(record, NAME, row, _written(record)[0])
    return record


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row for every strict judgment of two completions; return what was lost, field: count."""
    return compared.write(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """The rows of a record of two plain completions: one for each judge who prefers one of them."""
    return [restore(record, NAME, row, decode) for row in _written(record)]


def _written(record: Record) -> list[foreign.Row]:
    asked, outputs = compared.instruction_columns(record, NAME), compared.two_texts(record)
    if asked is None or outputs is None:
        return []
    base = {"input": record.prompt[0].content, "output_1": outputs[0], "output_2": outputs[1]}
    votes = [compared.vote(judgment) for judgment in record.judgments]
    return [base | {"label": 1 if p > 0.5 else 2} for p in votes if p is not None and p != 0.5]
