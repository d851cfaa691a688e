"""Alpaca: instruction, input, output; and its kin with system, history, chosen and rejected, kto_tag.

`chosen` is ranked before `rejected`; so is the first of two answers in `output`, as LLaMA-Factory had it.
`kto_tag` says whether the output is good. `prompt`, `query` (or `context`) and `response` are taken for
instruction, input and output where those are not there.

Source: https://github.com/tatsu-lab/stanford_alpaca ("Data Release"); LLaMA-Factory, data/README.md ("Alpaca
Format") and src/llamafactory/data/converter.py (https://github.com/hiyouga/LLaMA-Factory); Dolly's columns
on the card of databricks/databricks-dolly-15k.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from alignment.data.files import Paths, Rejects
from alignment.data.formats import foreign
from alignment.data.formats.kept import notes_of, part
from alignment.data.formats.rows import columns_of
from alignment.data.formats.turns import take_tools, tools_row
from alignment.data.pairs import best_completion, label_balance
from alignment.data.records import Completion, Judgment, Message, Record, nearest
from alignment.errors import UserError

Text = str | UnsetType


class _Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    instruction: str
    input: Text = UNSET
    output: Text = UNSET
    system: Text = UNSET
    history: list[tuple[str, str]] | UnsetType = UNSET
    chosen: Text = UNSET
    rejected: Text = UNSET
    kto_tag: bool | UnsetType = UNSET


_NAME = "alpaca"
_KNOWN = set(_Row.__struct_fields__)
_OTHERS = {"instruction": ("prompt",), "input": ("query", "context"), "output": ("response",)}
_decoder = msgspec.json.Decoder(_Row)


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: the instruction and, after an empty line, the input are the user's turn.

    The output is the demonstration, or has the label of `kto_tag`; `chosen` and `rejected`, where a row has
    them, are ranked completions. What is needed for the way back, further columns included, is kept in
    meta.alpaca.
    """
    return foreign.read_foreign(paths, decode, rejects)


def recognise(row: dict[str, Any]) -> str | None:
    """By what a row is of this format, or None."""
    keys = [key for key in ("instruction", "input", "output", "chosen", "rejected", "kto_tag") if key in row]
    # Beside an instruction alone, further columns may be answers under a name that is not Alpaca's.
    known = "output" in row or "chosen" in row or row.keys() <= _KNOWN
    if known and len(keys) > 1 and isinstance(row.get("instruction"), str):
        return foreign.by_keys(keys)
    others = [key for key in ("instruction", "prompt", "query", "context", "response") if key in row]
    asked = isinstance(row.get("instruction", row.get("prompt")), str)
    if asked and isinstance(row.get("response"), str) and (len(others) > 2 or len(row) == 2):
        return foreign.by_keys(others)
    return None


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    notes: foreign.Row = {}
    row, columns = columns_of(line, where, _decoder, functools.partial(_plain, notes))
    prompt = [Message("system", row.system)] if row.system else []
    for asked, answered in row.history or ():
        prompt += [Message("user", asked), Message("assistant", answered)]
    prompt.append(Message("user", f"{row.instruction}\n\n{row.input}" if row.input else row.instruction))
    if row.input != "":  # the way back has to know what was the input, and whether there was one at all
        notes["input"] = None if row.input is UNSET else row.input
    if row.system == "":
        notes["system"] = ""
    if row.history == []:
        notes["history"] = []
    record = Record(prompt)
    _answers(record, row, where)
    take_tools(columns, record, notes, as_text=True)
    if columns:
        notes["columns"] = columns
    record.meta = {_NAME: notes} if notes else {}
    return record


def _plain(notes: foreign.Row, given: foreign.Row, where: str) -> foreign.Row:
    """The row in Alpaca's own names and without nulls; what it was called goes into the notes."""
    names = {}
    for key, others in _OTHERS.items():
        other = next((name for name in others if name in given), None) if key not in given else None
        if other is not None:
            given[key] = given.pop(other)
            names[key] = other
    if names:
        notes["names"] = names
    nulls = sorted(key for key in _KNOWN if key in given and given[key] is None)
    if nulls:
        notes["nulls"] = nulls
        given = {key: value for key, value in given.items() if key not in nulls}
    if "instruction" not in given:
        raise UserError(f'{where}: the key "instruction" is missing{nearest("instruction", set(given))}')
    if isinstance(given.get("output"), list):
        if len(given["output"]) != 2 or "chosen" in given or "rejected" in given:
            raise UserError(f'{where}: "output" must be a text, or two answers with the better one first')
        given["chosen"], given["rejected"] = given.pop("output")
        notes["pair"] = True
    return given


def _answers(record: Record, row: _Row, where: str) -> None:
    if (row.chosen is UNSET) != (row.rejected is UNSET):
        raise UserError(f'{where}: "chosen" and "rejected" go together, and one is missing')
    if row.kto_tag is not UNSET and (row.output is UNSET or row.chosen is not UNSET):
        raise UserError(f'{where}: "kto_tag" goes with "output", and not with "chosen" and "rejected"')
    if row.chosen is not UNSET and row.rejected is not UNSET:
        record.completions = [Completion(content=row.chosen), Completion(content=row.rejected)]
        record.judgments = [Judgment(ranks=[1, 2])]
    if row.output is UNSET:
        return
    if row.kto_tag is not UNSET:
        record.judgments = [Judgment(labels=[row.kto_tag])]
    else:
        record.demonstrations = [len(record.completions)]
    if row.chosen is not UNSET:
        record.judgments[0].ranks = [1, 2, None]
    record.completions = [*record.completions, Completion(content=row.output)]


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row a demonstration, preference and label; return what was lost, field: count."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """The rows of a record: its demonstrations, preferences and labels; without any, the best reply."""
    notes = notes_of(record, _NAME)
    base = _prompt_columns(record, notes)
    if base is None:
        return []
    pairs: list[foreign.Row] = [
        {"chosen": chosen.text, "rejected": rejected.text}
        for chosen, rejected in foreign.derived_pairs(record)
        if chosen.content is not None and rejected.content is not None
    ]
    labelled: list[foreign.Row] = [
        {"output": completion.content, "kto_tag": balance > 0}
        for index, completion in enumerate(record.completions)
        if completion.content is not None and (balance := label_balance(record.judgments, index))
    ]
    outputs = [record.completions[index] for index in record.demonstrations or ()]
    best = best_completion(record)
    if not outputs and not pairs and not labelled and best is not None:
        outputs = [record.completions[best]]
    answers: list[foreign.Row] = [{"output": answer.text} for answer in outputs if answer.content is not None]
    if len(answers) == 1 and len(pairs) == 1:
        answers = [answers[0] | pairs[0]]
    else:
        answers += pairs
    answers += labelled
    if not record.completions:
        answers = [{}]
    return [_as_it_was(base | answer, notes) for answer in answers]


def _prompt_columns(record: Record, notes: foreign.Row) -> foreign.Row | None:
    """The columns of the prompt, or None where the prompt has a form that Alpaca lacks."""
    prompt = list(record.prompt)
    row: foreign.Row = {}
    if prompt and prompt[0].role == "system":
        row["system"] = prompt.pop(0).content
    roles = [message.role for message in prompt]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        return None
    if len(roles) > 1:
        row["history"] = [[prompt[k].content, prompt[k + 1].content] for k in range(0, len(roles) - 1, 2)]
    asked, given = prompt[-1].content, notes.get("input", "")
    row["instruction"] = asked.removesuffix(f"\n\n{given}") if given else asked
    if given is not None:
        row["input"] = given if row["instruction"] != asked else ""
    further = {key: notes[key] for key in ("system", "history") if key in notes and key not in row}
    return part(notes, "columns") | tools_row(record, notes, as_text=True) | row | further


def _as_it_was(row: foreign.Row, notes: foreign.Row) -> foreign.Row:
    """The row with its nulls, its own names, and two answers in one column, where it came so."""
    if notes.get("pair") and "chosen" in row and "output" not in row:
        row["output"] = [row.pop("chosen"), row.pop("rejected")]
    for key in notes.get("nulls", ()):
        row.setdefault(key, None)
    names = part(notes, "names")
    return {names.get(key, key): value for key, value in row.items()}
