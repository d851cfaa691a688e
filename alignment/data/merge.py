"""Datasets into one: records with the same id become one record with the judgments of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from alignment.data.records import Completion, Judgment, Record, decode_record, encode_record, with_id


class Conflict(NamedTuple):
    """Two records of one id say different things in one field; the first was kept."""

    id: str
    field: str
    kept: Any
    refused: Any


class Merged:
    """Records by id, in the order of their first appearance; iterate to get them.

    Adding what is already in changes nothing. Records are held as JSON text, about half their size as
    objects.
    """

    def __init__(self) -> None:
        self._lines: dict[str, bytes] = {}
        self.conflicts: list[Conflict] = []
        self.read = 0

    def add(self, record: Record) -> None:
        """Add one record; if its id is known, unite it with what is there."""
        self.read += 1
        record = with_id(record)
        assert record.id is not None
        line = encode_record(record)
        known = self._lines.get(record.id)
        if known is not None and known != line:
            first = decode_record(known, f"record {record.id}")
            line = encode_record(united(first, record, self.conflicts))
        self._lines[record.id] = line

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Record]:
        return (decode_record(line, f"record {name}") for name, line in self._lines.items())


def merge(records: Iterable[Record]) -> Merged:
    """All records, those with the same id united: judgments add up, in all else the first stays.

    What did not stay is in `conflicts`.
    """
    merged = Merged()
    for record in records:
        merged.add(record)
    return merged


def united(first: Record, second: Record, conflicts: list[Conflict]) -> Record:
    """One record from two with the same id; `conflicts` gets what of the second is not in it.

    Judgments count only if both records have the same completions in the same order: an index must mean
    the same on both sides. A judge's second word on the same moment and guideline is a conflict.
    """
    name = first.id or ""

    def refuse(field: str, kept: Any, other: Any) -> None:
        conflicts.append(Conflict(name, field, msgspec.to_builtins(kept), msgspec.to_builtins(other)))

    turns = [[completion.turns() for completion in record.completions] for record in (first, second)]
    if first.prompt != second.prompt or turns[0] != turns[1]:
        refuse("prompt" if first.prompt != second.prompt else "completions", first, second)
        return first

    def filled(field: str, kept: Any, other: Any) -> Any:
        if kept in (None, {}, []) or other in (None, {}, []):
            return other if kept in (None, {}, []) else kept
        if isinstance(kept, dict) and isinstance(other, dict):
            return {k: filled(f"{field}.{k}", kept.get(k), other.get(k)) for k in {**kept, **other}}
        if kept != other:
            refuse(field, kept, other)
        return kept

    completions = [
        _filled_completion(one, two, f"completions[{k}]", filled)
        for k, (one, two) in enumerate(zip(first.completions, second.completions, strict=True))
    ]
    return msgspec.structs.replace(
        first,
        completions=completions,
        judgments=_united_judgments(first.judgments, second.judgments, name, conflicts),
        demonstrations=filled("demonstrations", first.demonstrations, second.demonstrations),
        tools=filled("tools", first.tools, second.tools),
        parent=filled("parent", first.parent, second.parent),
        meta=filled("meta", first.meta, second.meta),
    )


def _filled_completion(first: Completion, second: Completion, name: str, filled: Any) -> Completion:
    fields = ("id", "source", "license", "rewards", "meta")
    values = {key: filled(f"{name}.{key}", getattr(first, key), getattr(second, key)) for key in fields}
    return msgspec.structs.replace(first, **values)


def _united_judgments(
    first: list[Judgment], second: list[Judgment], name: str, conflicts: list[Conflict]
) -> list[Judgment]:
    """Those of the first, then those of the second that are not there yet, as often as they are said."""
    found = list(first)
    unmatched = list(first)
    said = {_occasion(judgment): judgment for judgment in first if judgment.by is not None}
    for judgment in second:
        if judgment in unmatched:
            unmatched.remove(judgment)
            continue
        before = said.get(_occasion(judgment)) if judgment.by is not None else None
        if before is None or before == judgment:
            found.append(judgment)
        else:
            pair = msgspec.to_builtins(before), msgspec.to_builtins(judgment)
            conflicts.append(Conflict(name, f"judgments by {judgment.by}", *pair))
    return found


def _occasion(judgment: Judgment) -> tuple[str | None, ...]:
    return judgment.by, judgment.at, judgment.guideline
