"""Datasets into one: records with the same id become one record with the judgments of all."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from alignment.data.records import Completion, Judgment, Record, encode_record, with_id
from alignment.errors import UserError

_CACHE_KIB = 1 << 16
_INSERT = "INSERT INTO records (id, line) VALUES (?, ?) ON CONFLICT DO NOTHING"
_decode = msgspec.json.Decoder(Record).decode


class Conflict(NamedTuple):
    """Two records of one id say different things in one field; the first was kept."""

    id: str
    field: str
    kept: Any
    refused: Any


class Merged:
    """Records by id, in the order of their first appearance; iterate to get them.

    Adding what is already in changes nothing. Records wait as JSON text in a temporary SQLite database: in
    memory while they are few, else on disk (in the folder that TMPDIR names), so memory stays flat.
    """

    def __init__(self) -> None:
        # An empty name is a database of this connection alone, whose file is gone when it closes.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_CACHE_KIB};"
            "CREATE TABLE records (number INTEGER PRIMARY KEY, id TEXT UNIQUE, line BLOB);"
            "CREATE TABLE conflicts (line BLOB); BEGIN"
        )
        self.conflict_fields: Counter[str] = Counter()
        self.read = self.same_id = self.same_content = 0
        self._rows = 0

    def add(self, record: Record) -> None:
        """Add one record; if its id is known, unite it with what is there.

        `same_id` and `same_content` count why: its own id, or for want of one its prompt and completions.
        Under one id with these different nothing is united: that is a conflict, and counted in neither.
        Raises UserError where there is no room on the disk.
        """
        self.read += 1
        named = record.id is not None
        record = with_id(record)
        line = encode_record(record)
        try:
            new = self._run(
                "INSERT INTO records (id, line) VALUES (?, ?) ON CONFLICT DO NOTHING", record.id, line
            )
            if new.rowcount:
                self._rows += 1
            elif self._unite(record, line):
                self.same_id += named
                self.same_content += not named
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
                raise
            raise UserError(
                f"merging keeps a copy of the rows among the temporary files, and their disk is full after "
                f"{self.read - 1:,} rows; set TMPDIR to a folder with more room"
            ) from None

    def _unite(self, record: Record, line: bytes) -> bool:
        (known,) = self._run("SELECT line FROM records WHERE id = ?", record.id).fetchone()
        if known == line:
            return True
        found: list[Conflict] = []
        both = encode_record(united(_decode(known), record, found))
        if both != known:
            self._run("UPDATE records SET line = ? WHERE id = ?", both, record.id)
        for conflict in found:
            self.conflict_fields[conflict.field] += 1
            self._run("INSERT INTO conflicts VALUES (?)", msgspec.json.encode(conflict))
        return all(conflict.field not in ("prompt", "completions") for conflict in found)

    def _run(self, statement: str, *values: str | bytes | None) -> sqlite3.Cursor:
        return self._database.execute(statement, values)

    def conflicts(self) -> Iterator[Conflict]:
        """What was refused, in the order in which it came."""
        for (line,) in self._run("SELECT line FROM conflicts ORDER BY rowid"):
            yield msgspec.json.decode(line, type=Conflict)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Record]:
        return (_decode(line) for (line,) in self._run("SELECT line FROM records ORDER BY number"))


def merge(records: Iterable[Record]) -> Merged:
    """All records, those with the same id united: judgments add up, in all else the first stays.

    What did not stay is in `conflicts()`.
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
        if other in (None, {}, []):
            return other if kept is None else kept
        if kept in (None, {}, []):
            return other
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


def with_distinct_ids(completions: list[Completion]) -> list[Completion]:
    """Completions of several files in one list: an id that several have is written SOURCE-ID, or with the
    place in the list where that is not enough; ids that stand alone stay. Indices mean what they meant."""
    count = Counter(one.id for one in completions)
    taken = {name for name, times in count.items() if times == 1}
    found = []
    for place, one in enumerate(completions):
        if one.id is not None and count[one.id] > 1:
            name = f"{one.source.name}-{one.id}" if one.source and one.source.name else f"{one.id}-{place}"
            while name in taken:
                name += f"-{place}"
            taken.add(name)
            one = msgspec.structs.replace(one, id=name)
        found.append(one)
    return found
