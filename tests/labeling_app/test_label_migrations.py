"""Migrations with a row in every table, on both databases: what stays, what the way down cannot hold."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Boolean, DateTime, Float, Integer, MetaData, Table, insert, select, text
from sqlalchemy.exc import DBAPIError

from alignment.errors import UserError
from labeling_app.store import audit
from labeling_app.store.database import Store
from labeling_app.store.models import metadata

NOW = datetime(2026, 1, 2, 3, 4, 5)
WORDS = {  # what a CheckConstraint asks for
    "role": "admin",
    "asks": "ranking",
    "status": "open",
    "state": "submitted",
    "kind": "flag",
}


def row_for(table: Table) -> dict[str, Any]:
    """A value in every column; whatever points to another table points to its row 1."""
    row: dict[str, Any] = {}
    for column in table.columns:
        kind = column.type
        if column.foreign_keys or column.name in ("id", "revision", "version"):
            row[column.name] = 1
        elif isinstance(kind, JSON):
            row[column.name] = ["a text with \x00 and 数据", 1]
        elif isinstance(kind, DateTime):
            row[column.name] = NOW
        elif isinstance(kind, Boolean):
            row[column.name] = column.name != "is_practice"
        elif isinstance(kind, Integer | Float):
            row[column.name] = 1
        else:
            row[column.name] = WORDS.get(column.name, f"a {column.name}"[:32])
    return row


def fill(store: Store) -> None:
    """One row in every table, a second task for practice, and three in the audit log, which are a chain."""
    with store.write() as tx:
        for table in metadata.sorted_tables:
            if table.name == "audit_log":
                for action in ("one", "two", "three"):
                    audit.append(tx, NOW, "ann-1", action, "task/1", after={"n": 1})
            else:
                tx.execute(insert(table).values(**row_for(table)))
        tasks = metadata.tables["tasks"]
        tx.execute(
            insert(tasks).values(**row_for(tasks) | {"id": 2, "external_id": "2", "is_practice": True})
        )


def contents(store: Store) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, as the database has them, without the number of the migration."""
    with store.read() as connection:
        there = MetaData()
        there.reflect(connection)
        return {
            name: [
                dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()
            ]
            for name, table in there.tables.items()
            if name != "alembic_version"
        }


def version(store: Store) -> str:
    with store.read() as connection:
        return connection.scalar(text("SELECT version_num FROM alembic_version")) or ""


def test_down_one_and_up_again_keeps_what_the_first_schema_holds(any_store: Store) -> None:
    fill(any_store)
    full = contents(any_store)
    assert set(full) == set(metadata.tables)
    assert all(full.values())
    any_store.downgrade("0001")
    old = contents(any_store)
    assert version(any_store) == "0001"
    for name, rows in old.items():
        columns = rows[0].keys()
        kept = [{column: row[column] for column in columns} for row in full[name]]
        if name == "tasks":
            kept[1]["status"] = "withdrawn"  # the practice task, which nobody may get as an ordinary one
        assert rows == kept, name
    again = Store(any_store.url.render_as_string(hide_password=False), create=True)
    new = contents(again)
    lost = set(full) - set(old)
    assert "invitations" in lost
    for name, rows in new.items():
        if name == "guidelines":  # the version that counts is made from the project
            assert [row["text"] for row in rows] == ["a guideline"]
        elif name in lost:
            assert rows == [], name
        else:
            shared = [{key: row[key] for key in old[name][0]} for row in rows]
            assert shared == old[name], name
    with pytest.raises(DBAPIError, match="append-only"), again.write() as tx:
        tx.execute(text("DELETE FROM audit_log"))
    with again.read() as connection:
        assert audit.verify(connection) == 3
    again.close()


def test_a_migration_that_fails_leaves_the_old_database_whole(any_store: Store) -> None:
    """A table of that name is there already: the upgrade stops in its middle, and nothing of it remains."""
    fill(any_store)
    any_store.downgrade("0001")
    before = contents(any_store)
    with any_store.write() as tx:
        tx.execute(text("CREATE TABLE flags (number INTEGER PRIMARY KEY)"))
    url = any_store.url.render_as_string(hide_password=False)
    with pytest.raises(DBAPIError, match="already exists"):
        Store(url, create=True)
    assert version(any_store) == "0001"
    assert contents(any_store) == before | {"flags": []}
    with any_store.write() as tx:
        tx.execute(text("DROP TABLE flags"))
    Store(url, create=True).close()
    assert version(any_store) != "0001"


def test_an_old_sqlite_file_is_copied_before_it_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "labels.db"
    store = Store(f"sqlite:///{path}", create=True)
    assert list(tmp_path.glob("*before*")) == []  # a new one is not
    fill(store)
    store.downgrade("0001")
    before = contents(store)
    store.close()
    with pytest.raises(UserError, match="bring it up to date"):
        Store(f"sqlite:///{path}")
    Store(f"sqlite:///{path}", create=True).close()
    (copy,) = tmp_path.glob("labels.db.before-*")
    assert copy.stat().st_mode & 0o777 == 0o600
    with sqlite3.connect(copy) as plain:
        assert plain.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for name, rows in before.items():
            assert plain.execute(f"SELECT count(*) FROM {name}").fetchone()[0] == len(rows)
