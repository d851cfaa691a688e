"""AlpacaEval: annotations of two outputs, and the outputs of one model.

An annotation has instruction, output_1, output_2, generator_1, generator_2, annotator and `preference`: from
1 (output_1 is better) to 2 (output_2 is better), 1.5 or 0 for a draw, null where the annotator failed. A
model output has instruction, output and generator. Further columns (dataset, datasplit, price_per_example,
…) are kept in meta.alpaca_eval.

Source: https://github.com/tatsu-lab/alpaca_eval, src/alpaca_eval/annotators/pairwise_evaluator.py and
src/alpaca_eval/metrics ("0 or 1.5 for draw, 1 for base win, 2 when the model to compare wins").
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from alignment.data.files import Paths, Rejects
from alignment.data.formats import compared, foreign
from alignment.data.formats.kept import keep, restore
from alignment.data.pairs import best_completion
from alignment.data.records import Comparison, Completion, Judgment, Record, Source
from alignment.errors import UserError

NAME = "alpaca_eval"


def recognise(row: dict[str, Any]) -> str | None:
    """Why this row is AlpacaEval's, or None."""
    if {"instruction", "output_1", "output_2"} <= row.keys():
        return foreign.by_keys(["instruction", "output_1", "output_2"])
    if {"instruction", "output", "generator"} <= row.keys():
        return foreign.by_keys(["instruction", "output", "generator"])
    return None


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: two completions and a comparison with p, or one completion that nobody judged."""
    return foreign.read_foreign(paths, decode, rejects)


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row = compared.decode_row(line, where, ("instruction",))
    record = compared.instruction_record(
        compared.text(row["instruction"], where, "instruction"),
        compared.text(row.get("input"), where, "input"),
        NAME,
    )
    ends = ("",) if "output" in row and "output_1" not in row else ("_1", "_2")
    for end in ends:
        key = f"output{end}"
        if key not in row:
            raise UserError(f'{where}: the key "{key}" is missing')
        model = compared.name(row.get(f"generator{end}"))
        source = None if model is None else Source("model", model)
        record.completions = [
            *record.completions,
            Completion(content=compared.text(row[key], where, key), source=source),
        ]
    judge = compared.name(row.get("annotator"))
    if len(ends) == 2 and ("preference" in row or judge is not None):
        p = _chance(row.get("preference"), where)
        stated = None if p is None else [Comparison(0, 1, p)]
        record.judgments = [Judgment(by=judge, comparisons=stated)]
    keep(record, NAME, row, _written(record)[0])
    return record


def _chance(value: Any, where: str) -> float | None:
    """The probability that the first output is better. 2 - x is exact for x from 1 to 2."""
    preference = compared.number(value, where, "preference")
    if preference is None:
        return None
    if preference == 0:
        return 0.5
    if not 1 <= preference <= 2:
        raise UserError(f'{where}: "preference" is {value!r}; it goes from 1 (the first output) to 2')
    return 2.0 - preference


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row for every judgment of two completions, or the best reply; return what was lost."""
    return compared.write(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """Annotations of a record of two plain completions; a model output of the best reply of another."""
    return [restore(record, NAME, row, decode) for row in _written(record)]


def _written(record: Record) -> list[foreign.Row]:
    asked, outputs = compared.instruction_columns(record, NAME), compared.two_texts(record)
    if asked is None:
        return []
    if outputs is None:
        best = best_completion(record)
        if best is None or record.completions[best].content is None:
            return []
        return [asked | _columns(record.completions[best], "")]
    base = asked | _columns(record.completions[0], "_1") | _columns(record.completions[1], "_2")
    judged = []
    for judgment in record.judgments:
        row = base if judgment.by is None else base | {"annotator": judgment.by}
        p = compared.vote(judgment)
        judged.append(row | {"preference": None if p is None else 2.0 - p})
    return judged or [base]


def _columns(completion: Completion, end: str) -> foreign.Row:
    row = {f"output{end}": completion.text}
    if completion.source is not None and completion.source.name:
        row[f"generator{end}"] = completion.source.name
    return row
