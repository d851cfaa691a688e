"""Full disk, locked database, moved file, PostgreSQL gone and back: 503, nothing acknowledged is
lost or doubled, and the page says that it is not saved until it is."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from labeling_clients import check_nothing_lost, done, sign_in_all, wait_until, working
from labeling_helpers import add_people, add_tasks, serving
from postgres_cluster import Cluster
from sqlalchemy import func, select, text
from starlette.testclient import TestClient

from labeling_app.auth import COOKIE
from labeling_app.server import create_api
from labeling_app.store import database, people
from labeling_app.store.database import DatabaseFileGone, Store, utcnow
from labeling_app.store.models import judgments

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""
Fault = Callable[[Store], AbstractContextManager[None]]


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Another process holds the write lock for longer than anybody waits."""
    command = [sys.executable, "-c", HOLD, str(store.url.database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        yield
        other.stdin.close()


@contextmanager
def full(store: Store) -> Iterator[None]:
    """No file may grow beyond what the -wal file is now: a write fails as on a full disk."""
    size = Path(f"{store.url.database}-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def moved(store: Store) -> Iterator[None]:
    """The folder is gone, with the database in it, and comes back. SQLite would go on writing to it."""
    folder = Path(store.url.database).parent
    away = folder.with_name(folder.name + "-away")
    os.rename(folder, away)
    yield
    os.rename(away, folder)


@contextmanager
def read_only(store: Store) -> Iterator[None]:
    """What SQLite says when it may not write."""
    _set_query_only(store, "ON")
    yield
    _set_query_only(store, "OFF")


def _set_query_only(store: Store, value: str) -> None:
    with closing(store._writer.raw_connection()) as connection:  # begins no transaction
        connection.cursor().execute(f"PRAGMA query_only = {value}")


FAULTS = [locked, full, moved, read_only]


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A database whose lock is waited for shortly, in a folder of its own."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    (tmp_path / "labels").mkdir()
    made = Store(f"sqlite:///{tmp_path / 'labels' / 'labels.db'}", create=True)
    yield made
    made.close()


def work_through(store: Store, fault: AbstractContextManager[None]) -> None:
    """Four people rank before, during and after the fault."""
    tokens = sign_in_all(store, 4)
    add_tasks(store, 1500, overlap=3)
    with serving(create_api(store)) as base, working(base, tokens) as clients:
        wait_until(lambda: done(clients) > 12)
        with fault:
            wait_until(lambda: sum(client.failures["503"] for client in clients) > 6)
        before = done(clients)
        wait_until(lambda: done(clients) > before + 12)
    assert set().union(*(client.failures for client in clients)) == {"503"}
    check_nothing_lost(store, clients, overlap=3)


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_or_doubled_through_a_fault(impatient: Store, fault: Fault) -> None:
    work_through(impatient, fault(impatient))


def test_nothing_is_lost_or_doubled_while_postgresql_is_away(cluster: Cluster) -> None:
    store = Store(cluster.url, create=True)

    @contextmanager
    def stopped() -> Iterator[None]:
        cluster.stop()
        try:
            yield
        finally:
            cluster.start()

    try:
        work_through(store, stopped())
    finally:
        store.downgrade("base")
        store.close()


def test_every_page_says_that_the_database_is_away(impatient: Store) -> None:
    add_people(impatient, "anna")
    client = TestClient(create_api(impatient), base_url="http://127.0.0.1", follow_redirects=False)
    with impatient.write() as tx:
        account = people.find_login(tx, "anna")
        client.cookies.set(COOKIE, people.start_session(tx, utcnow(), account["id"]))
    html = {"Accept": "text/html"}
    with moved(impatient):
        for engine in (impatient._reader, impatient._writer):
            engine.dispose()
        for method, path in (("GET", "/app/"), ("GET", "/login"), ("GET", "/account"), ("POST", "/login")):
            answer = client.request(method, path, headers=html)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), path
            assert "The database does not answer" in answer.text
            assert "content-security-policy" in answer.headers
        answer = client.get("/app/config")
        assert (answer.status_code, answer.json()["message"][:12]) == (503, "The database")
    assert client.get("/api/me").status_code == 200


def test_a_file_that_was_replaced_takes_no_judgment(impatient: Store) -> None:
    """A backup put in the file's place while the server runs: it must be started anew, and says so."""
    path = Path(impatient.url.database)
    path.rename(path.with_name("old.db"))
    path.write_bytes(b"")
    with pytest.raises(DatabaseFileGone, match="no longer the file"), impatient.write() as tx:
        tx.execute(text("SELECT 1"))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_page_says_not_saved_and_saves_when_it_can(
    server: Any, impatient: Store, visit: Any, fault: Fault
) -> None:
    from playwright.sync_api import expect

    server[0].state.store = impatient
    add_people(impatient, "anna")
    add_tasks(impatient, 2)
    visitor = visit(None)
    with impatient.write() as tx:
        account = people.find_login(tx, "anna")
        token = people.start_session(tx, utcnow(), account["id"])
    visitor.context.add_cookies([{"name": COOKIE, "value": token, "url": visitor.base, "httpOnly": True}])
    page = visitor.open()
    status = page.locator(".rb-status[role=status]")
    for key in "123":
        page.keyboard.press(key)
    expect(status).to_have_text("Draft kept.")
    with fault(impatient):
        page.keyboard.press("Enter")
        expect(status).to_have_text(re.compile(r"^Not saved yet: the server does not answer\."))
    with impatient.read() as connection:
        assert connection.scalar(select(func.count()).select_from(judgments)) == 0
    expect(status).to_have_text("Saved.")
    with impatient.read() as connection:
        assert connection.scalar(select(func.count()).select_from(judgments)) == 1
