"""Backups: whole, checked, from either database into either, and never over what is in use."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from labeling_helpers import add_people, add_tasks
from sqlalchemy import select

from alignment.errors import UserError
from labeling_app.store import audit, backup, encryption, judging, queue
from labeling_app.store.database import Store, utcnow
from labeling_app.store.judging import Answer
from labeling_app.store.models import judgments, metadata

WORDS = "A secret reason: 🦊 \x00 nul"


def fill(store: Store) -> None:
    (anna,) = add_people(store, "anna")
    add_tasks(store, 3)
    now = utcnow()
    with store.write() as tx:
        task = queue.lease_task(tx, anna["id"], now)
        assert task is not None
        judging.submit(tx, anna, task["public_id"], "k" * 16, 1, Answer([1, 2, 2], rationale=WORDS), now)
        queue.lease_task(tx, anna["id"], now)


def content(store: Store) -> dict[str, list[Any]]:
    with store.read() as connection:
        return {
            table.name: connection.execute(select(table).order_by(*table.primary_key.columns)).all()
            for table in metadata.sorted_tables
        }


def test_there_and_back_between_the_databases(any_store: Store, tmp_path: Path) -> None:
    fill(any_store)
    before = content(any_store)
    copied = backup.back_up(any_store, tmp_path / "copy.db")
    assert copied.rows == {name: len(rows) for name, rows in before.items()}
    assert sorted(path.name for path in tmp_path.iterdir() if "labels" not in path.name) == ["copy.db"]
    assert (tmp_path / "copy.db").stat().st_mode & 0o077 == 0

    backup.restore(tmp_path / "copy.db", f"sqlite:///{tmp_path}/new.db")
    new = Store(f"sqlite:///{tmp_path}/new.db")
    assert content(new) == before

    # Back into the first one, in which somebody has worked on, and then on from there.
    (ben,) = add_people(any_store, "ben")
    url = any_store.url.render_as_string(hide_password=False)
    any_store.close()
    with pytest.raises(UserError, match="overwrite"):
        backup.restore(tmp_path / "copy.db", url)
    backup.restore(tmp_path / "copy.db", url, overwrite=True)
    again = Store(url)
    assert content(again) == before
    (ben,) = add_people(again, "ben")
    with again.write() as tx:
        task = queue.lease_task(tx, ben["id"], utcnow())
        assert task is not None
        judging.submit(tx, ben, task["public_id"], "b" * 16, 1, Answer([1, 2, 3]), utcnow())
        audit.verify(tx)
    again.close()
    new.close()


def test_a_backup_of_an_older_schema_is_brought_up_to_date(store: Store, tmp_path: Path) -> None:
    fill(store)
    store.downgrade("0001")
    url = store.url
    store.close()
    old = Store(url, any_version=True)
    copied = backup.back_up(old, tmp_path / "old.db")
    assert ("judgments" in copied.rows, "webhooks" in copied.rows) == (True, False)
    backup.restore(tmp_path / "old.db", f"sqlite:///{tmp_path}/new.db")
    new = Store(f"sqlite:///{tmp_path}/new.db")
    with new.read() as connection:
        assert connection.scalar(select(judgments.c.rationale)) == WORDS
    old.close()
    new.close()


def test_nothing_is_overwritten_and_nothing_that_is_served(store: Store, tmp_path: Path) -> None:
    fill(store)
    out = tmp_path / "copy.db"
    backup.back_up(store, out)
    with pytest.raises(UserError, match="exists"):
        backup.back_up(store, out)
    backup.back_up(store, out, overwrite=True)
    target = str(store.url.render_as_string())
    before = content(store)  # which leaves a connection open, as a server does
    with pytest.raises(UserError, match="stop the server"):
        backup.restore(out, target, overwrite=True)
    assert content(store) == before
    with pytest.raises(UserError, match="no file"):
        backup.restore(tmp_path / "none.db", target)


def test_a_damaged_backup_is_not_restored(store: Store, tmp_path: Path) -> None:
    fill(store)
    out = tmp_path / "copy.db"
    backup.back_up(store, out)
    whole = out.read_bytes()
    (tmp_path / "cut.db").write_bytes(whole[: len(whole) // 2])
    with sqlite3.connect(out) as connection:
        connection.execute("DROP TRIGGER audit_log_no_update")
        connection.execute("UPDATE audit_log SET actor = 'somebody else' WHERE id = 2")
    connection.close()
    for name, words in (("copy.db", "broken at row 2"), ("cut.db", "damaged")):
        with pytest.raises(UserError, match=words):
            backup.restore(tmp_path / name, f"sqlite:///{tmp_path}/new.db")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize("key", ['it\'s a "pass" phrase', "0f" * 32])
def test_an_encrypted_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    pytest.importorskip("sqlcipher3")
    url = f"sqlite:///{tmp_path}/labels.db"
    (tmp_path / "key").write_text(f"{key}\n")
    monkeypatch.setenv(encryption.KEY_FILE, str(tmp_path / "key"))
    store = Store(url, create=True)
    fill(store)
    before = content(store)
    assert key not in store.url.render_as_string(hide_password=False)
    backup.back_up(store, tmp_path / "copy.db")
    for path in tmp_path.glob("*.db*"):  # the -wal file too
        assert b"secret" not in path.read_bytes()
    store.close()
    backup.restore(tmp_path / "copy.db", f"sqlite:///{tmp_path}/new.db")
    new = Store(f"sqlite:///{tmp_path}/new.db")
    assert content(new) == before
    new.close()

    (tmp_path / "key").write_text("another")
    with pytest.raises(UserError, match="another key") as wrong:
        Store(url)
    assert "another\n" not in str(wrong.value)
    assert key not in str(wrong.value)
    monkeypatch.delenv(encryption.KEY_FILE)
    with pytest.raises(UserError, match="is encrypted or no SQLite database"):
        Store(url)
    monkeypatch.setenv(encryption.KEY, "")
    with pytest.raises(UserError, match="is empty"):
        Store(url)


def test_a_plain_database_is_encrypted_by_a_restore(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("sqlcipher3")
    fill(store)
    before = content(store)
    store.close()
    monkeypatch.setenv(encryption.KEY, "pass phrase")
    path = Path(store.url.database or "")
    with pytest.raises(UserError, match="not encrypted"):
        Store(store.url)
    backup.restore(path, f"sqlite:///{tmp_path}/new.db")
    assert b"secret" not in (tmp_path / "new.db").read_bytes()
    new = Store(f"sqlite:///{tmp_path}/new.db")
    assert content(new) == before
    new.close()
