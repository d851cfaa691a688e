"""Alpaca: instruction, input, output; and its kin with system, history, chosen and rejected."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from alignment.data.files import Paths, Rejects
from alignment.data.formats import foreign
from alignment.data.pairs import best_completion
from alignment.data.records import (
    Completion,
    Judgment,
    Message,
    Record,
    check_duplicate_keys,
    explain,
    nearest,
)
from alignment.errors import UserError


class _Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    instruction: str
    input: str | None = None
    output: str | None = None
    system: str | None = None
    history: list[tuple[str, str]] | None = None
    chosen: str | None = None
    rejected: str | None = None


_KNOWN = set(_Row.__struct_fields__)
_decoder = msgspec.json.Decoder(_Row)


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: the instruction and, after an empty line, the input are the user's turn.

    The output is the demonstration; `chosen` and `rejected`, where a row has them, are ranked completions.
    What is needed for the way back, further columns included, is kept in meta.alpaca.
    """
    return foreign.read_foreign(paths, decode, rejects)


def recognise(row: dict[str, Any]) -> str | None:
    """By what a row is of this format, or None."""
    keys = [key for key in ("instruction", "input", "output", "chosen", "rejected") if key in row]
    # Beside an instruction alone, further columns may be answers under a name that is not Alpaca's.
    known = "output" in row or "chosen" in row or row.keys() <= _KNOWN
    if known and len(keys) > 1 and isinstance(row.get("instruction"), str):
        return foreign.by_keys(keys)
    return None


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    columns: dict[str, Any] = {}
    try:
        row = _decoder.decode(line)
        check_duplicate_keys(line, where, msgspec.json.encode(row))
    except (msgspec.DecodeError, UnicodeDecodeError):
        row, columns = _decode_open(line, where)
    prompt = [Message("system", row.system)] if row.system else []
    for asked, answered in row.history or ():
        prompt += [Message("user", asked), Message("assistant", answered)]
    prompt.append(Message("user", f"{row.instruction}\n\n{row.input}" if row.input else row.instruction))
    if row.input != "":  # the way back has to know what was the input, and whether there was one at all
        columns["input"] = row.input
    if row.system == "":
        columns["system"] = ""
    if row.history == []:
        columns["history"] = []
    record = Record(prompt, meta={"alpaca": columns} if columns else {})
    if (row.chosen is None) != (row.rejected is None):
        raise UserError(f'{where}: "chosen" and "rejected" go together, and one is missing')
    if row.chosen is not None:
        record.completions = [Completion(content=row.chosen), Completion(content=row.rejected)]
        record.judgments = [Judgment(ranks=[1, 2])]
    if row.output is not None:
        if record.judgments:
            record.judgments[0].ranks = [1, 2, None]
        record.demonstrations = [len(record.completions)]
        record.completions = [*record.completions, Completion(content=row.output)]
    return record


def _decode_open(line: bytes, where: str) -> tuple[_Row, dict[str, Any]]:
    """A row with columns that Alpaca does not have, or a UserError that says what is wrong with it."""
    try:
        given = msgspec.json.decode(line, type=dict[str, Any])
        check_duplicate_keys(line, where)
        if "instruction" not in given:
            keys = sorted(given)
            raise UserError(f'{where}: the key "instruction" is missing{nearest("instruction", set(keys))}')
        row = msgspec.convert({key: value for key, value in given.items() if key in _KNOWN}, _Row)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {explain(error, _KNOWN)}") from None
    return row, {key: value for key, value in given.items() if key not in _KNOWN}


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row a record, from its demonstrations or best completion; return what was lost, field: count."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """The rows of a record: one for each demonstration, else one for each preference, else the best reply."""
    base = _prompt_columns(record)
    if base is None:
        return []
    pairs = [
        {"chosen": chosen.text, "rejected": rejected.text}
        for chosen, rejected in foreign.derived_pairs(record)
        if chosen.content is not None and rejected.content is not None
    ]
    outputs = [record.completions[index] for index in record.demonstrations or ()]
    best = best_completion(record)
    if not outputs and not pairs and best is not None:
        outputs = [record.completions[best]]
    answers: list[foreign.Row] = [{"output": answer.text} for answer in outputs if answer.content is not None]
    if len(answers) == 1 and len(pairs) == 1:
        answers = [answers[0] | pairs[0]]
    else:
        answers += pairs
    if not record.completions:
        answers = [{}]
    return [base | answer for answer in answers]


def _prompt_columns(record: Record) -> foreign.Row | None:
    """The columns of the prompt, or None where the prompt has a form that Alpaca lacks."""
    columns = record.meta.get("alpaca", {})
    prompt = list(record.prompt)
    row: foreign.Row = {}
    if prompt and prompt[0].role == "system":
        row["system"] = prompt.pop(0).content
    roles = [message.role for message in prompt]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        return None
    if len(roles) > 1:
        row["history"] = [[prompt[k].content, prompt[k + 1].content] for k in range(0, len(roles) - 1, 2)]
    asked, given = prompt[-1].content, columns.get("input", "")
    row["instruction"] = asked.removesuffix(f"\n\n{given}") if given else asked
    if given is not None:
        row["input"] = given if row["instruction"] != asked else ""
    return row | {key: value for key, value in columns.items() if key != "input" and key not in row}
