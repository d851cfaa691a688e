"""This project's own format, as one format among others; it holds everything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from alignment.data.files import Paths, Rejects, read_records, write_records
from alignment.data.formats import foreign
from alignment.data.records import Record


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """Records of files, folders and globs; refused rows go to `rejects` if it is given, else raise."""
    return read_records(paths, "raise" if rejects is None else "skip", rejects)


def recognise(row: dict[str, Any]) -> str | None:
    """By what a row is a record, or None."""
    keys = [key for key in Record.__struct_fields__ if key in row]
    if isinstance(row.get("prompt"), list) and (len(keys) == len(row) or "v" in row or "completions" in row):
        return foreign.by_keys(keys)
    return None


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """Write records; nothing is lost, so the count is empty."""
    write_records(path, records, overwrite)
    return Counter()
