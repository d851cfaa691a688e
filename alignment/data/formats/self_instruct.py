"""Self-Instruct's user-oriented instructions (and its seed tasks): an instruction and instances of it.

Columns: id, instruction, instances ([{input, output}], one in these files), motivation_app or name.

Source: https://github.com/yizhongw/self-instruct, human_eval/user_oriented_instructions.jsonl and
data/seed_tasks.jsonl.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from alignment.data.files import Paths, Rejects
from alignment.data.formats import compared, foreign
from alignment.data.formats.kept import keep, restore
from alignment.data.records import Completion, Record, record_id
from alignment.errors import UserError

NAME = "self_instruct"


def recognise(row: dict[str, Any]) -> str | None:
    """Why this row is Self-Instruct's, or None."""
    if isinstance(row.get("instruction"), str) and isinstance(row.get("instances"), list):
        return foreign.by_keys(["instruction", "instances"])
    return None


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: the instruction and the instance's input are the prompt, its output to imitate."""
    return foreign.read_foreign(paths, decode, rejects)


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError, also for several instances: they are several prompts."""
    row = compared.decode_row(line, where, ("instruction", "instances"))
    instances = row["instances"]
    if not isinstance(instances, list) or not all(isinstance(instance, dict) for instance in instances):
        raise UserError(f'{where}: "instances" must be a list of objects with "input" and "output"')
    if len(instances) != 1:
        raise UserError(f"{where}: {len(instances)} instances; give each of them a row of its own")
    context, answer = [compared.text(instances[0].get(key), where, key) for key in ("input", "output")]
    record = compared.instruction_record(
        compared.text(row["instruction"], where, "instruction"), context, NAME
    )
    record.id = compared.name(row.get("id"))
    if instances[0].get("output") is not None:
        record.completions = [Completion(content=answer)]
        record.demonstrations = [0]
    keep(record, NAME, row, _written(record)[0])
    return record


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row for every demonstration, or the prompt alone; return what was lost, field: count."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """The rows of a record whose prompt is one user's turn."""
    return [restore(record, NAME, row, decode) for row in _written(record)]


def _written(record: Record) -> list[foreign.Row]:
    asked = compared.instruction_columns(record, NAME)
    if asked is None:
        return []
    given_id = record.id is not None and record.id != record_id(msgspec.structs.replace(record, id=None))
    base: foreign.Row = {"id": record.id} if given_id else {}
    base["instruction"] = asked["instruction"]
    given = {"input": asked.get("input", "")}
    shown = [record.completions[index] for index in record.demonstrations or ()]
    texts = [completion.content for completion in shown if completion.content is not None]
    if not record.completions:
        return [base | {"instances": [given]}]
    return [base | {"instances": [given | {"output": text}]} for text in texts]
