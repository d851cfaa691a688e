"""Engines and transactions: one writer at a time on SQLite, row locks on PostgreSQL."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from alignment.errors import UserError
from labeling_app.store import encryption

BUSY_SECONDS = 15.0  # the annotate page gives a request up after 20
MIGRATION_LOCK = 7_201_940_311  # any number, the same in every process


def utcnow() -> datetime:
    """The present moment in UTC, without a zone: what the DateTime columns hold."""
    return datetime.now(UTC).replace(tzinfo=None)


def stamp(moment: datetime) -> str:
    """ISO 8601 with milliseconds and a Z."""
    return moment.isoformat(timespec="milliseconds") + "Z"


class DatabaseFileGone(Exception):
    """The SQLite file was moved, deleted or replaced under the server: what is written now would be lost."""


# Locked, full, read-only or gone: nothing was stored, and the same may go well later.
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout, DatabaseFileGone)


class Store:
    """A labeling database.

    `url` is `sqlite:///FILE` or `postgresql+psycopg://user:password@host/name`. `create` makes the tables of
    a new database and brings an old one up to date, in one transaction: all or nothing, and an SQLite file is
    copied beside itself before that. Without it a missing SQLite file is a UserError, and so is an old schema
    unless `any_version`. An SQLite file is encrypted if the environment has a key (encryption.py), and
    `plain` says that this one is not.
    """

    def __init__(
        self, url: str | URL, *, create: bool = False, any_version: bool = False, plain: bool = False
    ) -> None:
        self.url = _checked_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        key = None
        if self.sqlite:
            path = Path(self.url.database or "")
            key = None if plain else encryption.key_from_environment()
            encryption.check_file(path, key)
            _make_file(path, create)
        self._writer = _engine(self.url, key, writes=True)
        self._reader = _engine(self.url, key, writes=False)
        self._file = self._file_now()
        self._check_connection()
        current, newest = self.version(), _newest_version()
        if current != newest and not create and not any_version:
            raise UserError(
                f"the database {self.url.render_as_string()} has schema {current or 'none'}: "
                "bring it up to date by `alignkit label serve --db …` or `alignkit label import …`"
            )
        if current != newest and create:
            if self.sqlite and current is not None:
                self._copy(f"{self.url.database}.before-{newest}-{utcnow():%Y%m%dT%H%M%S%f}")
            self._migrate("head")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: committed when the block is left, rolled back if it raises.

        On SQLite it starts with BEGIN IMMEDIATE, so what the block reads cannot change before it writes.
        """
        with self._writer.connect() as connection, connection.begin():
            yield connection
            if self._file_now() != self._file:
                raise DatabaseFileGone(f"{self.url.database} is no longer the file that was opened")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads, on its own engine: it sees one moment and waits for no writer."""
        with self._reader.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A read transaction in which every statement sees the same moment, on PostgreSQL too."""
        with self._reader.connect() as connection:
            if not self.sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    def compact(self) -> bool:
        """Rewrite the file so that what was deleted is no longer in its free pages or its -wal file.

        False if a reader was in the way of the latter. On PostgreSQL dead rows are freed for reuse.
        """
        if not self.sqlite:
            with self._writer.connect() as free:
                free.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM")
            return True
        connection = self._writer.raw_connection()  # without the BEGIN that every other way in starts with
        try:
            cursor = connection.cursor()
            cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            row = cursor.fetchone()
            return row is not None and row[0] == 0  # its first column: somebody was in the way
        finally:
            connection.close()

    def close(self) -> None:
        """Close every connection."""
        self._reader.dispose()
        self._writer.dispose()

    def downgrade(self, revision: str) -> None:
        """Take the schema back to `revision` ("base" drops all). For tests and for a repair by hand."""
        self._migrate(revision, down=True)

    def _file_now(self) -> tuple[int, int] | None:
        """Which file the path names now; SQLite goes on writing to one that nobody will find again."""
        if not self.sqlite:
            return None
        try:
            status = os.stat(self.url.database or "")
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _check_connection(self) -> None:
        try:
            with self.write() as connection:
                connection.execute(text("SELECT 1"))
        except DatabaseError as error:
            reason = str(error.orig).strip().splitlines()[0]
            if "not a database" in reason and self.sqlite:
                reason = "it is damaged, or was encrypted with another key"
            raise UserError(f"cannot open the database {self.url.render_as_string()}: {reason}") from error

    def version(self) -> str | None:
        """The revision of the schema that the database has; None for an empty one."""
        from alembic.runtime.migration import MigrationContext

        with self.read() as connection:
            return MigrationContext.configure(connection).get_current_revision()

    def _copy(self, target: str) -> None:
        """A copy of the SQLite file as it is now, for the owner alone."""
        Path(target).touch(mode=0o600, exist_ok=False)
        with closing(self._writer.raw_connection()) as connection:
            connection.cursor().execute("VACUUM INTO ?", (target,))

    def _migrate(self, revision: str, *, down: bool = False) -> None:
        with self.write() as tx:  # SQLite: BEGIN IMMEDIATE, so a second process waits for the first
            self.migrate(tx, revision, down=down)

    def migrate(self, tx: Connection, revision: str, *, down: bool = False) -> None:
        """Bring the schema to `revision` in the caller's transaction. Raises UserError for an unknown one."""
        from alembic import command
        from alembic.util import CommandError

        config = _alembic_config()
        config.attributes["connection"] = tx
        if not self.sqlite:
            tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        try:
            (command.downgrade if down else command.upgrade)(config, revision)
        except CommandError as error:
            raise UserError(
                f"the database {self.url.render_as_string()} was made by a newer alignkit or another "
                f"program: {error}"
            ) from error


def _newest_version() -> str | None:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_alembic_config()).get_current_head()


def _alembic_config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _checked_url(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise UserError(
            f"--db {url!r} is no database URL: write sqlite:///labels.db or "
            "postgresql+psycopg://user:password@host/name"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise UserError(f"--db {url!r}: only SQLite and PostgreSQL are supported, not {backend}")
    if not parsed.database or parsed.database == ":memory:":
        raise UserError(
            f"--db {url!r} names no file, and judgments must outlive the server: sqlite:///labels.db"
        )
    if not Path(parsed.database).absolute().parent.is_dir():
        raise UserError(f"--db {url!r}: the folder {str(Path(parsed.database).parent)!r} does not exist")
    return parsed


def _make_file(path: Path, create: bool) -> None:
    """For the owner alone, because password hashes and people's work are in it; -wal and -shm follow suit."""
    if not create and not path.is_file():
        raise UserError(
            f"there is no labeling database {str(path)!r}: "
            "make it with `alignkit label import FILE --db …` or `alignkit label serve --db …`"
        )
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise UserError(f"cannot open the database {str(path)!r}: {error.strerror}") from error


def _engine(url: URL, key: str | None, *, writes: bool) -> Engine:
    dumps = partial(json.dumps, ensure_ascii=False)
    if url.get_backend_name() == "postgresql":
        try:
            return create_engine(
                url, json_serializer=dumps, pool_size=10, max_overflow=10, pool_pre_ping=True
            )
        except ModuleNotFoundError as error:
            raise UserError(
                "PostgreSQL needs the psycopg driver: pip install 'alignkit[postgres]'"
            ) from error
    # One writing connection a process: threads wait for it here, woken when it comes free, where SQLite's own
    # waiting sleeps and tries again. Other processes are waited for by busy_timeout.
    engine = create_engine(
        url,
        module=None if key is None else encryption.cipher_module(),
        json_serializer=dumps,
        pool_size=1 if writes else 8,
        max_overflow=0,
        pool_timeout=BUSY_SECONDS,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", partial(_set_pragmas, key=key, writes=writes))
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _set_pragmas(connection: Any, _record: Any, *, key: str | None, writes: bool) -> None:
    connection.isolation_level = None  # the driver must start no transaction of its own
    cursor = connection.cursor()
    if key is not None:
        cursor.execute(encryption.key_statement(key))
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    cursor.execute("PRAGMA foreign_keys = ON")
    if writes:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
    else:
        cursor.execute("PRAGMA query_only = ON")
    cursor.close()
