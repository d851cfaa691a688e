"""Open-Assistant's exports: message trees, and the same messages flat, one a row.

    {"message_tree_id": "…", "tree_state": "ready_for_export", "prompt":
     {"message_id": "…", "text": "…", "role": "prompter", "lang": "en", "replies":
      [{"message_id": "…", "parent_id": "…", "text": "…", "role": "assistant", "rank": 0, "replies": […]}]}}

    {"message_id": "…", "parent_id": "…", "message_tree_id": "…", "text": "…", "role": "assistant", "rank": 0}

Rank 0 is the best of the siblings. Flat rows of one tree stand together, parents anywhere among them; a
message whose parent is not there (a filtered file) begins a conversation of its own.

Source: https://github.com/LAION-AI/Open-Assistant, oasst-data/oasst_data/schemas.py (ExportMessageTree,
ExportMessageNode) and reader.py; the flat columns also on the cards of OpenAssistant/oasst1 and oasst2.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

import msgspec

from alignment.data.files import FOREIGN_SUFFIXES, Paths, Rejects, data_files, decode_rows, no_rows
from alignment.data.formats import foreign
from alignment.data.formats.oasst_trees import Row, tree_records, trees_of
from alignment.data.formats.rows import row_of
from alignment.data.records import Record, check_record, record_id
from alignment.errors import UserError

_FLAT = ("message_id", "role", "text")


class _Loaded(NamedTuple):
    where: str
    line: bytes
    row: Row


def recognise(row: dict[str, Any]) -> str | None:
    """By what a row is of this format, or None."""
    prompt = row.get("prompt")
    if isinstance(prompt, dict) and ("message_tree_id" in row or "replies" in prompt):
        return 'a tree of messages in "prompt"'
    if row.keys() >= set(_FLAT) and row["role"] in ("prompter", "assistant"):  # a root may have no parent_id
        return foreign.by_keys(_FLAT)
    return None


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a prompter's message: the way to it is the prompt, the assistant's replies the completions.

    Ranks become one judgment without a name (they are the ranking that many people's were made into); where
    no reply has a rank there is none. The record has the id of the prompter's message, its completions
    those of theirs, and `parent` names the reply that it goes on from. Everything else about a message is
    kept in the meta of the record or of the completion, under oasst.
    """
    files = data_files(paths, FOREIGN_SUFFIXES)
    # decode_rows speaks of records, and passes on what the function that it is given returns.
    loaded = cast("Iterator[_Loaded]", decode_rows(files, cast("Any", _load), rejects))
    found = 0
    for rows in _grouped(loaded, rejects):
        try:
            records = tree_records([entry.row for entry in rows], rows[0].where)
            for record in records:
                check_record(record, rows[0].where)
        except UserError as error:
            _refuse(rows, error, rejects)
            continue
        found += len(records)
        yield from records
    if not found:
        raise no_rows(files, rejects)


def _load(line: bytes, where: str) -> _Loaded:
    row = row_of(line, where)
    if not isinstance(row.get("prompt"), dict) and not row.keys() >= set(_FLAT):
        raise UserError(f'{where}: neither a tree (an object in "prompt") nor a message ({", ".join(_FLAT)})')
    if "prompt" not in row:
        for key in ("message_id", "message_tree_id", "parent_id"):
            if not isinstance(row.get(key), str | None):
                raise UserError(f'{where}: "{key}" must be text')
    return _Loaded(where, line, row)


def _refuse(rows: list[_Loaded], error: UserError, rejects: Rejects | None) -> None:
    if rejects is None:
        raise error
    for entry in rows:
        rejects.add(entry.where, str(error), entry.line)


def _grouped(loaded: Iterable[_Loaded], rejects: Rejects | None) -> Iterator[list[_Loaded]]:
    """The rows of each tree: one row, or the flat messages that stand together."""
    group: list[_Loaded] = []
    ids: set[Any] = set()
    tree: Any = None
    closed: set[int] = set()  # hashes of the trees that are through
    for entry in loaded:
        own = entry.row.get("message_tree_id")
        nested = isinstance(entry.row.get("prompt"), dict)
        same = own == tree if own is not None else entry.row.get("parent_id") in ids
        if group and (nested or not same):
            yield group
            group, ids = [], set()
            closed.add(hash(tree))
        if nested:
            yield [entry]
            continue
        if not group and own is not None and hash(own) in closed:
            reason = (
                f"{entry.where}: the tree {own} has other messages further up; sort the rows by their tree"
            )
            _refuse([entry], UserError(reason), rejects)
            continue
        group.append(entry)
        ids.add(entry.row["message_id"])
        tree = own
    if group:
        yield group


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """Trees again (or flat messages, where the records came so); return what was lost, field: count.

    A record without a parent begins a tree if its prompt is one user's turn; one with a parent has to come
    after it, with nothing of another tree between.
    """
    lost: Counter[str] = Counter()
    written = 0
    with foreign.json_output(path, overwrite) as put:
        for group in _families(records):
            rows = trees_of(group)
            for row in rows:
                put(msgspec.json.encode(row))
            written += len(rows)
            again = {record.id: record for record in tree_records(rows, "a written tree")} if rows else {}
            for record in group:
                found = again.get(record_id(record))
                lost.update(foreign.losses(record, [] if found is None else [found]))
        if not written:
            raise UserError(f"{path}: no record has what this format holds: a user's turn, and plain replies")
    return lost


def _families(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records that stand together, each but the first with a parent among those before it."""
    group: list[Record] = []
    ids: set[str] = set()
    for record in records:
        if group and (record.parent is None or record.parent.id not in ids):
            yield group
            group, ids = [], set()
        group.append(record)
        ids.add(record_id(record))
    if group:
        yield group
