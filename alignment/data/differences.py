"""What differs between two datasets: records added, removed and changed, told by id.

Two passes over each side. The first keeps two hashes of 64 bits a record; the second goes back for the
records that differ, and those of the first side wait on disk. Memory is 16 bytes a record of either side
and a few times that while they are compared. The order of the records does not matter.
"""

from __future__ import annotations

import hashlib
import sqlite3
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from alignment.data.records import Judgment, Record, record_id, with_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
_UNCHANGED, _LONE, _OTHER = 0, 1, 2
_CACHE_KIB = 1 << 16
# In sorted order: two objects with the same entries are the same, however they were written.
_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(Record).decode


class Difference(NamedTuple):
    """One record that differs. fields: for a changed one, which: "prompt", "completions[1].content", …

    judgments_added, judgments_removed: how many of the second are not in the first, and the reverse.
    """

    kind: str
    id: str
    fields: list[str]
    judgments_added: int = 0
    judgments_removed: int = 0


def differences(
    read_a: Callable[[], Iterable[Record]], read_b: Callable[[], Iterable[Record]]
) -> Iterator[Difference]:
    """What was removed from the first dataset, then what was added or changed in the second, as they stand.

    read_a, read_b: give the records from the beginning, each time they are called (twice).
    A record without an id goes by the hash of its content. Where an id repeats, its first record is compared
    with the first of the other side, its second with the second, and so on.
    """
    keys_a, contents_a = _hashes(read_a())
    keys_b, contents_b = _hashes(read_b())
    states_a, states_b = _states(keys_a, contents_a, keys_b, contents_b)
    waiting = _Waiting()
    for row, (record, state) in enumerate(zip(read_a(), states_a, strict=True)):
        if state == _LONE:
            yield Difference(REMOVED, record_id(record), [])
        elif state == _OTHER:
            waiting.put(int(keys_a[row]), record)
    for row, (record, state) in enumerate(zip(read_b(), states_b, strict=True)):
        if state == _LONE:
            yield Difference(ADDED, record_id(record), [])
        elif state == _OTHER:
            yield changed(waiting.get(int(keys_b[row])), with_id(record))


def _hashes(records: Iterable[Record]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """For each record in order: a key of its id and how often that came before, and one of its content."""
    import numpy as np

    ids, contents = array("Q"), array("Q")
    for record in records:
        known = with_id(record)
        ids.append(_hash(str(known.id).encode()))
        contents.append(_hash(_encode(known)))
    keys = np.array(ids, dtype=np.uint64)
    return _numbered(keys), np.array(contents, dtype=np.uint64)


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _numbered(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The ids, the second of equal ones moved by a constant, the third by twice that, and so on."""
    import numpy as np

    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ids) else np.empty(0, dtype=int)
    lengths = np.diff(np.r_[starts, len(ids)])
    numbers = np.arange(len(ids)) - np.repeat(starts, lengths)
    keys = np.empty_like(ids)
    keys[order] = ordered + numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return keys


def _states(
    keys_a: NDArray[np.uint64],
    contents_a: NDArray[np.uint64],
    keys_b: NDArray[np.uint64],
    contents_b: NDArray[np.uint64],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """For each record of either side: unchanged, only there, or other on the other side."""
    import numpy as np

    states_a = np.full(len(keys_a), _LONE, dtype=np.uint8)
    states_b = np.full(len(keys_b), _LONE, dtype=np.uint8)
    _, in_a, in_b = np.intersect1d(keys_a, keys_b, assume_unique=True, return_indices=True)
    states = np.where(contents_a[in_a] == contents_b[in_b], _UNCHANGED, _OTHER)
    states_a[in_a] = states
    states_b[in_b] = states
    return states_a, states_b


class _Waiting:
    """Records by key, in a temporary SQLite database: in memory while they are few, else on disk."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(
            f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_CACHE_KIB};"
            "CREATE TABLE records (key TEXT PRIMARY KEY, line BLOB) WITHOUT ROWID; BEGIN"
        )

    def put(self, key: int, record: Record) -> None:
        self._database.execute("INSERT INTO records VALUES (?, ?)", (f"{key:x}", _encode(with_id(record))))

    def get(self, key: int) -> Record:
        (line,) = self._database.execute("SELECT line FROM records WHERE key = ?", (f"{key:x}",)).fetchone()
        return _decode(line)


def changed(first: Record, second: Record) -> Difference:
    """How two records of one id differ."""
    names = ("prompt", "demonstrations", "tools", "parent")
    fields = [name for name in names if _encode(getattr(first, name)) != _encode(getattr(second, name))]
    fields += _changed_completions(first, second)
    fields += [f"meta.{key}" for key in _changed_keys(first.meta, second.meta)]
    before, after = _said(first.judgments), _said(second.judgments)
    if list(map(_encode, first.judgments)) != list(map(_encode, second.judgments)):
        fields.append("judgments")
    return Difference(CHANGED, record_id(first), fields, (after - before).total(), (before - after).total())


def _said(judgments: list[Judgment]) -> Counter[bytes]:
    return Counter(map(_encode, judgments))


def _changed_completions(first: Record, second: Record) -> list[str]:
    if len(first.completions) != len(second.completions):
        return ["completions"]
    return [
        f"completions[{index}].{name}"
        for index, (one, two) in enumerate(zip(first.completions, second.completions, strict=True))
        for name in one.__struct_fields__
        if _encode(getattr(one, name)) != _encode(getattr(two, name))
    ]


def _changed_keys(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    def entry(meta: dict[str, Any], key: str) -> bytes | None:
        return _encode(meta[key]) if key in meta else None

    keys = sorted(first.keys() | second.keys())
    return [key for key in keys if entry(first, key) != entry(second, key)]
