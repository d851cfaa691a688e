"""Rows of views in files: JSON lines, an array, or Parquet whose columns are those that the rows have.

Rows are packed some at a time, in any process, and written by one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from alignment.data.files import atomic_output
from alignment.data.formats.foreign import WRITABLE, json_output
from alignment.data.records import Message
from alignment.data.views import Row
from alignment.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (*WRITABLE, ".parquet")
_GROUP = 10_000  # rows that are written at once


def packer(target: Path) -> Callable[[list[Row]], bytes]:
    """A function that packs rows of a view, made with `turns=list`, for `view_output(target)`.

    Raises UserError for a name that ends in none of `SUFFIXES`.
    """
    if not target.name.endswith(SUFFIXES):
        raise UserError(f"{target}: the name must end in {', '.join(SUFFIXES)}")
    if not target.name.endswith(".parquet"):
        return _lines
    import pyarrow as pa

    pa.array([""])  # loads the rest of what it needs, before worker processes are copied from this one
    return _arrow


@contextlib.contextmanager
def view_output(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Callable[[bytes], None]]:
    """A function that writes packed rows; the file appears at the end, as `json_output` has it.

    In Parquet, parts of messages that are open (parts, tool_calls) and tools are Arrow's JSON type.
    """
    target = Path(path)
    if target.name.endswith(".parquet"):
        with atomic_output(target, overwrite) as temporary, contextlib.closing(_Parquet(temporary)) as file:
            yield file.write
            file.finish()
        return
    with json_output(target, overwrite) as put:
        array = target.name.endswith(".json")
        yield lambda lines: put(lines.replace(b"\n", b",\n") if array else lines)


def _lines(rows: list[Row]) -> bytes:
    return b"\n".join([msgspec.json.encode(row) for row in rows])


def _arrow(rows: list[Row]) -> bytes:
    import pyarrow as pa

    if not rows:
        return b""
    names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    table = pa.table({name: _column(name, [row.get(name) for row in rows]) for name in names})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue().to_pybytes()


def _column(name: str, values: list[Any]) -> pa.Array:
    import pyarrow as pa

    first = next((value for value in values if value), None)
    if name == "tools":
        return _json(values)
    if isinstance(first, list) and isinstance(first[0], (list, Message)):
        ends = list(itertools.accumulate(map(len, values), initial=0))
        flat = list(itertools.chain.from_iterable(values))
        inner = _messages(flat) if isinstance(first[0], Message) else _column(name, flat)
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), inner)
    return pa.array(values)


def _messages(messages: list[Message]) -> pa.StructArray:
    """Messages as a struct of the fields that any of them has."""
    import pyarrow as pa

    fields = {
        "role": pa.array([message.role for message in messages], pa.string()),
        "content": pa.array([message.content for message in messages], pa.string()),
    }
    for name in Message.__struct_fields__[2:]:
        values = [getattr(message, name) for message in messages]
        if values.count(None) < len(values):
            fields[name] = _json(values) if name in ("parts", "tool_calls") else pa.array(values)
    return pa.StructArray.from_arrays(list(fields.values()), list(fields))


def _json(values: list[Any]) -> pa.Array:
    import pyarrow as pa

    texts = [None if value is None else msgspec.json.encode(value).decode() for value in values]
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


class _Parquet:
    """A Parquet file that grows a column, or a field of messages, when the first row comes that has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self._schema: Any = None
        self._waiting: list[pa.Table] = []

    def write(self, packed: bytes) -> None:
        import pyarrow as pa

        self._waiting.append(pa.ipc.open_stream(packed).read_all())
        if sum(table.num_rows for table in self._waiting) >= _GROUP:
            self.finish()

    def finish(self) -> None:
        """Write what waits."""
        import pyarrow as pa

        if not self._waiting:
            return
        schema = self._schema
        for table in self._waiting:
            schema = table.schema if schema is None else _joined(schema, table.schema)
        if self._writer is None or schema != self._schema:
            self._widen(schema)
        self._writer.write_table(pa.concat_tables(_fitted(table, schema) for table in self._waiting))
        self._waiting = []

    def _widen(self, schema: pa.Schema) -> None:
        """Begin the file, again if it is there: its rows so far get the new columns, which are null."""
        import pyarrow.parquet as pq

        self.close()
        before = self._path.with_name(f"{self._path.name}.before")
        started = self._writer is not None
        if started:
            os.replace(self._path, before)
        # Texts rarely repeat, so that a dictionary of them is only work.
        self._writer = pq.ParquetWriter(self._path, schema, compression="snappy", use_dictionary=False)
        self._schema = schema
        try:
            if started:
                with pq.ParquetFile(before) as file:
                    for group in range(file.num_row_groups):
                        self._writer.write_table(_fitted(file.read_row_group(group), schema))
        finally:
            before.unlink(missing_ok=True)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _joined(one: pa.Schema, other: pa.Schema) -> pa.Schema:
    import pyarrow as pa

    kinds = {field.name: field.type for field in one}
    for field in other:
        kinds[field.name] = _wider(kinds[field.name], field.type) if field.name in kinds else field.type
    return pa.schema(list(kinds.items()))


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """A type that holds the values of both: of structs all fields, of numbers the decimal ones."""
    import pyarrow as pa

    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_wider(one.value_type, other.value_type))
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return pa.struct(list(_joined(pa.schema(list(one)), pa.schema(list(other)))))
    return one if pa.types.is_floating(one) else other


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    if table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        if field.name in table.column_names:
            pieces = [_fit(piece, field.type) for piece in table.column(field.name).chunks]
            columns.append(pa.chunked_array(pieces, field.type))
        else:
            columns.append(pa.nulls(len(table), field.type))
    return pa.table(columns, schema=schema)


def _fit(values: pa.Array, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if values.type == kind:
        return values
    if pa.types.is_list(kind) and pa.types.is_list(values.type):
        starts = pa.compute.subtract(values.offsets, values.offsets[0])
        return pa.ListArray.from_arrays(starts, _fit(values.flatten(), kind.value_type))
    if pa.types.is_struct(kind):
        own = {field.name for field in values.type}
        fields = [
            _fit(values.field(field.name), field.type)
            if field.name in own
            else pa.nulls(len(values), field.type)
            for field in kind
        ]
        return pa.StructArray.from_arrays(fields, fields=list(kind))
    return values.cast(kind)
