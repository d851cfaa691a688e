"""MT-Bench's questions: two turns by the user, a category, and reference answers for some.

Columns: question_id, category, turns (texts), reference (an answer for each turn). The first turn is the
prompt; a later turn makes sense only after a reply, so all turns are kept in meta.mt_bench.turns, for an
evaluation that goes on from its own first answer.

Source: https://github.com/lm-sys/FastChat, fastchat/llm_judge/data/mt_bench/question.jsonl.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from alignment.data.files import Paths, Rejects
from alignment.data.formats import compared, foreign
from alignment.data.formats.kept import keep, note, notes_of, restore
from alignment.data.records import Message, Record
from alignment.errors import UserError

NAME = "mt_bench"
_ID = "mt-bench-"


def recognise(row: dict[str, Any]) -> str | None:
    """Why this row is one of MT-Bench's questions, or None."""
    turns = row.get("turns")
    if "question_id" in row and isinstance(turns, list) and all(isinstance(turn, str) for turn in turns):
        return foreign.by_keys(["question_id", "turns"])
    return None


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: the first turn is the prompt; the id is "mt-bench-" and the question's."""
    return foreign.read_foreign(paths, decode, rejects)


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row = compared.decode_row(line, where, ("question_id", "turns"))
    turns, question = row["turns"], compared.name(row["question_id"])
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        raise UserError(f'{where}: "turns" must be a list of texts, at least one')
    if question is None:
        raise UserError(f'{where}: "question_id" must be a number or a text')
    record = Record([Message("user", turns[0])], id=f"{_ID}{question}")
    note(record, NAME, {"turns": turns})
    keep(record, NAME, row, _written(record)[0])
    return record


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row for every prompt of one user's turn; return what was lost, field: count."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """The row of a record whose prompt is one user's turn and that has an id."""
    return [restore(record, NAME, row, decode) for row in _written(record)]


def _written(record: Record) -> list[foreign.Row]:
    asked = compared.instruction_columns(record, NAME)
    if asked is None or record.id is None:
        return []
    question = record.id.removeprefix(_ID)
    number = int(question) if re.fullmatch("0|[1-9][0-9]{0,18}", question) else question
    turns = notes_of(record, NAME).get("turns")
    if not isinstance(turns, list) or turns[:1] != [asked["instruction"]]:
        turns = [asked["instruction"]]
    return [{"question_id": number, "turns": turns}]
