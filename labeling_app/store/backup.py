"""A copy of the whole database in one SQLite file, and a database made of such a copy.

The copy is taken row by row in one read transaction, so people work on meanwhile, and it is the same for
SQLite and PostgreSQL: a backup of the one can be restored into the other. Where the environment has a key
(encryption.py) the copy is encrypted with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import JSON, Column, ColumnClause, Connection, Table, func, insert, inspect, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError

from alignment.data.files import atomic_output, remove
from alignment.errors import UserError
from labeling_app.store import audit, encryption
from labeling_app.store.database import Store
from labeling_app.store.models import metadata

PAGE = 1000  # rows at a time


@dataclass(frozen=True)
class Copied:
    """Rows by table, and the length of the audit log, whose chain was checked in the copy."""

    rows: dict[str, int]
    audit_rows: int


def back_up(store: Store, out: Path, *, overwrite: bool = False) -> Copied:
    """Write a backup, checked before it takes its name: the file's integrity, its references, the audit log's
    chain, and the number of rows. Raises UserError if `out` exists and not `overwrite`."""
    with atomic_output(out, overwrite) as temporary:
        return _into_file(store, temporary)


def restore(backup: Path, url: str, *, overwrite: bool = False) -> Copied:
    """Make the database at `url` what the backup holds, with its schema brought up to date.

    Raises UserError if there is something in it already and not `overwrite`, or if a server still runs on an
    SQLite file; then nothing was changed.
    """
    if not backup.is_file():
        raise UserError(f"there is no file {str(backup)!r}")
    source = Store(_file_url(backup), any_version=True, plain=encryption.is_plain(backup))
    try:
        check(source)
        target = URL.create("sqlite", database=url.removeprefix("sqlite:///"))
        if url.startswith("sqlite:///"):
            return _restore_file(source, Path(target.database or ""), overwrite)
        return _restore_server(source, Store(url, create=True), overwrite)
    finally:
        source.close()


def check(store: Store) -> int:
    """Check a database: on SQLite its file and its references, and the chain of the audit log; returns the
    log's length. Raises UserError that says what is broken."""
    shown = store.url.render_as_string()
    try:
        with store.read() as connection:
            if store.sqlite:
                found = connection.execute(text("PRAGMA integrity_check(1)")).scalar_one()
                if found != "ok":
                    raise UserError(f"{shown} is damaged: {found}")
                orphan = connection.execute(text("PRAGMA foreign_key_check")).first()
                if orphan is not None:
                    raise UserError(
                        f"{shown}: a row of {orphan[0]} refers to one of {orphan[2]} that is gone"
                    )
            return audit.verify(connection)
    except DatabaseError as error:
        raise UserError(f"{shown} is damaged or no labeling database: {error.orig}") from None


def _into_file(store: Store, path: Path) -> Copied:
    made = Store(_file_url(path), create=True)
    try:
        version = store.version()
        if version != made.version():
            made.downgrade(version or "base")  # a backup from before an upgrade
        with store.snapshot() as source, made.write() as target:
            rows = _copy(source, target)
        audit_rows = check(made)
        with made.read() as connection:
            if _count(connection) != rows:
                raise RuntimeError("the copy has other rows than were written to it")
    finally:
        made.close()
    return Copied(rows, audit_rows)


def _restore_file(source: Store, path: Path, overwrite: bool) -> Copied:
    with atomic_output(path, overwrite) as temporary:
        copied = _into_file(source, temporary)
        Store(_file_url(temporary), create=True).close()  # an older schema is brought up to date
        if path.exists():
            _check_unused(path)
            for suffix in ("-wal", "-shm"):
                remove(Path(f"{path}{suffix}"))
    return copied


def _restore_server(source: Store, target: Store, overwrite: bool) -> Copied:
    """In one transaction, so that what was there stays if anything goes wrong."""
    version = source.version() or "base"
    with source.snapshot() as rows, target.write() as tx:
        if any(_count(tx).values()) and not overwrite:
            raise UserError(
                f"{target.url.render_as_string()} has a labeling database with rows in it; --overwrite "
                "replaces all of them"
            )
        target.migrate(tx, "base", down=True)
        target.migrate(tx, version)
        copied = _copy(rows, tx)
        target.migrate(tx, "head")
        audit_rows = audit.verify(tx)
    target.close()
    return Copied(copied, audit_rows)


def _check_unused(path: Path) -> None:
    """Raise UserError if somebody has the file open: the server would write on to what is no longer there."""
    key = None if encryption.is_plain(path) else encryption.key_from_environment()
    if key is None:
        import sqlite3 as driver
    else:
        driver = encryption.cipher_module()
    connection = driver.connect(path, timeout=1)
    try:
        if key is not None:
            connection.execute(encryption.key_statement(key))
        connection.execute("PRAGMA journal_mode = DELETE")  # leaves WAL only if nobody else is connected
    except driver.OperationalError:
        raise UserError(f"{path} is in use; stop the server that runs on it first") from None
    except driver.DatabaseError:
        pass  # it is no database any more, which may be why it is to be replaced
    finally:
        connection.close()


def _copy(source: Connection, target: Connection) -> dict[str, int]:
    """Every row of every table that both have, in an order in which references hold; returns how many."""
    rows: dict[str, int] = {}
    there = inspect(source)
    for table in metadata.sorted_tables:
        if not there.has_table(table.name):
            continue
        names = [column["name"] for column in there.get_columns(table.name) if column["name"] in table.c]
        rows[table.name] = 0
        wanted = select(*(table.c[name] for name in names)).order_by(*table.primary_key.columns)
        wanted = wanted.execution_options(yield_per=PAGE)
        put = insert(sqlalchemy.table(table.name, *(_written(table.c[name]) for name in names)))
        for page in source.execute(wanted).mappings().partitions(PAGE):
            target.execute(put, [dict(row) for row in page])
            rows[table.name] += len(page)
        if target.dialect.name == "postgresql" and "id" in table.c:
            _set_sequence(target, table)
    return rows


def _written(column: Column[Any]) -> ColumnClause[Any]:
    """A column as it is written: without defaults, and None is NULL where the column can be, else the JSON
    value null."""
    kind = column.type
    if isinstance(kind, JSON) and column.nullable:
        kind = JSON(none_as_null=True)
    return sqlalchemy.column(column.name, kind)


def _set_sequence(target: Connection, table: Table) -> None:
    highest = target.scalar(select(func.max(table.c.id))) or 0
    sequence = func.pg_get_serial_sequence(table.name, "id")
    target.execute(select(func.setval(sequence, highest + 1, False)))


def _count(connection: Connection) -> dict[str, int]:
    there = inspect(connection)
    return {
        table.name: connection.scalar(select(func.count()).select_from(table)) or 0
        for table in metadata.sorted_tables
        if there.has_table(table.name)
    }


def _file_url(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))
