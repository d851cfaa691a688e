"""PandaLM's test set: two responses to an instruction, judged by three people.

Columns: instruction, input, response1, response2, cmp_key (the two models, "bloom-7b_llama-7b"), idx,
motivation_app, and the judgments: annotator1, annotator2, annotator3, or label_0, label_1, label_2 in the
spelling of its README; 0 is a tie, 1 and 2 name the better response, as numbers or as text.

Source: https://github.com/WeOpenML/PandaLM, README.md ("Test data") and data/testset-v1.json.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

from alignment.data.files import Paths, Rejects
from alignment.data.formats import compared, foreign
from alignment.data.formats.kept import keep, restore
from alignment.data.records import Completion, Judgment, Record, Source
from alignment.errors import UserError

NAME = "pandalm"
_JUDGE = re.compile(r"(annotator|label_)\d+")
_RANKS = {0.0: [1, 1], 1.0: [1, 2], 2.0: [2, 1]}
_KNOWN = ("instruction", "input", "response1", "response2", "cmp_key")


def recognise(row: dict[str, Any]) -> str | None:
    """Why this row is PandaLM's, or None."""
    judges = [key for key in row if _JUDGE.fullmatch(key)]
    if judges and {"instruction", "response1", "response2"} <= row.keys():
        return foreign.by_keys(["response1", "response2", judges[0]])
    return None


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: two completions, and a judgment by each annotator, named after its column."""
    return foreign.read_foreign(paths, decode, rejects)


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row = compared.decode_row(line, where, ("instruction", "response1", "response2"))
    asked, context, *answers = [compared.text(row.get(key), where, key) for key in _KNOWN[:4]]
    record = compared.instruction_record(asked, context, NAME)
    record.completions = [Completion(content=answer) for answer in answers]
    models = row["cmp_key"].split("_") if isinstance(row.get("cmp_key"), str) else []
    if len(models) == 2 and all(models):
        for completion, model in zip(record.completions, models, strict=True):
            completion.source = Source("model", model)
    record.judgments = [
        Judgment(by=key, ranks=_ranks(row[key], where, key)) for key in row if _JUDGE.fullmatch(key)
    ]
    if not record.judgments:
        raise UserError(f'{where}: no judgment; expected "annotator1", … or "label_0", …')
    keep(record, NAME, row, _written(record))
    return record


def _ranks(value: Any, where: str, key: str) -> list[int | None] | None:
    """Ranks of the two responses; None where the annotator did not judge."""
    given = compared.number(value, where, key)
    if given is None:
        return None
    if given not in _RANKS:
        raise UserError(f'{where}: "{key}" is {value!r}; 0 is a tie, 1 and 2 name the better response')
    return list(_RANKS[given])


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row for every two completions; return what was lost, field: count."""
    return compared.write(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """One row for a judged record of two plain completions; none for others."""
    row = _written(record)
    return [restore(record, NAME, row, decode)] if row else []


def _written(record: Record) -> foreign.Row:
    asked, answers = compared.instruction_columns(record, NAME), compared.two_texts(record)
    if asked is None or answers is None or not record.judgments:
        return {}
    row = asked | {"response1": answers[0], "response2": answers[1]}
    models = [completion.source.name for completion in record.completions if completion.source is not None]
    if len(models) == 2 and all(model and "_" not in model for model in models):
        row["cmp_key"] = f"{models[0]}_{models[1]}"
    for number, judgment in enumerate(record.judgments, 1):
        key = judgment.by or ""
        if not _JUDGE.fullmatch(key) or key in row:
            key = next(name for k in count(number) if (name := f"annotator{k}") not in row)
        p = compared.vote(judgment)
        row[key] = None if p is None else 0 if p == 0.5 else 1 if p > 0.5 else 2
    return row
