"""Parquet: rows in and out as lines of JSON; open parts are Arrow's JSON type, as `datasets` has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from alignment.data.records import COLUMNS, feature_dict
from alignment.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

FINGERPRINT = "alignkit.fingerprint"
ROWS = "alignkit.rows"
_READ, _WRITTEN = 1000, 5000  # rows at once: memory stays flat; what is written at once is a row group


def parquet_rows(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every row of any Parquet file as ("PATH, row N", line of JSON); nulls in structs are left out."""
    with _opened(path) as file:
        clean = {field.name: arrow_cleaner(field.type) for field in file.schema_arrow}
        number = 0
        for rows in _batches(path, file):
            for row in rows:
                number += 1
                opened = {key: clean[key](value) for key, value in row.items() if value is not None}
                yield f"{path}, row {number}", msgspec.json.encode(opened)


def _batches(path: Path, file: Any) -> Iterator[list[dict[str, Any]]]:
    done = 0
    try:
        for batch in file.iter_batches(_READ):
            yield batch.to_pylist()
            done += batch.num_rows
    except (OSError, ValueError) as error:  # Arrow's errors are kinds of these
        raise UserError(f"{path}: the file is damaged after row {done} ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def parquet_metadata(path: Path) -> tuple[dict[str, str], int]:
    """The text entries of the file's metadata, and its number of rows."""
    with _opened(path) as file:
        metadata = file.metadata.metadata or {}
        ours = {key.decode(): metadata[key].decode() for key in metadata if key.startswith(b"alignkit.")}
        return ours, file.metadata.num_rows


def _opened(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: not a Parquet file, or cut short ({_first_line(error)})") from None


def arrow_cleaner(kind: pa.DataType) -> Callable[[Any], Any]:
    """A function from Arrow's Python values to JSON's: no null keys, JSON text as the value it spells."""
    import pyarrow as pa

    if isinstance(kind, pa.JsonType):
        return lambda text: msgspec.Raw(text.encode())
    if pa.types.is_struct(kind):
        inner = {field.name: arrow_cleaner(field.type) for field in kind}
        return lambda row: {key: inner[key](value) for key, value in row.items() if value is not None}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        entry = arrow_cleaner(kind.value_type)
        return lambda values: [None if value is None else entry(value) for value in values]
    return lambda value: value


class ParquetSink:
    """A Parquet file of records, written in batches from lines of JSON; `metadata` is added at the end."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.metadata: dict[str, str] = {}
        self._schema = arrow_schema()
        self._texts = arrow_schema(json="string")
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, line: bytes) -> None:
        self._rows.append(_closed(msgspec.json.decode(line), COLUMNS))
        if len(self._rows) == _WRITTEN:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            # Arrow builds no nested JSON columns from Python values, but casts text to them.
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._texts).cast(self._schema))
        self._rows = []

    def __enter__(self) -> ParquetSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
            self._writer.add_key_value_metadata(self.metadata)
        self._writer.close()


def _closed(value: Any, kind: Any) -> Any:
    """The value with its open parts as JSON text."""
    if value is None:
        return None
    if kind == "json":
        return msgspec.json.encode(value).decode()
    if isinstance(kind, dict):
        return {key: _closed(inner, kind[key]) for key, inner in value.items()}
    if isinstance(kind, list) and isinstance(kind[0], (dict, list)):
        return [_closed(inner, kind[0]) for inner in value]
    return value


def arrow_schema(json: str = "json") -> pa.Schema:
    """The Arrow schema of a record, with the features by which `datasets` reads its open parts.

    json: the type of the open parts, Arrow's "json" or plain "string".
    """
    import pyarrow as pa

    schema = pa.schema([pa.field(name, _arrow_type(kind, json)) for name, kind in COLUMNS.items()])
    info = {"info": {"features": feature_dict()}}
    return schema.with_metadata({"huggingface": msgspec.json.encode(info)})


def _arrow_type(kind: Any, json: str) -> pa.DataType:
    import pyarrow as pa

    if isinstance(kind, dict):
        return pa.struct([pa.field(name, _arrow_type(inner, json)) for name, inner in kind.items()])
    if isinstance(kind, list):
        return pa.list_(_arrow_type(kind[0], json))
    if kind == "json":
        kind = json
    return pa.json_() if kind == "json" else pa.type_for_alias(kind)
