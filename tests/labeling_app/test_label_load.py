"""Many people at once: leases under a rush, a crowd that signs in, no request that reads a whole table."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
from labeling_clients import sign_in_all
from labeling_helpers import PASSWORD, add_people, add_tasks, serving
from sqlalchemy import event, func, select
from starlette.testclient import TestClient

from labeling_app.auth import COOKIE
from labeling_app.server import create_api
from labeling_app.store import audit, people
from labeling_app.store.database import Store
from labeling_app.store.models import assignments, judgments, tasks

SMALL = {"projects", "webhooks"}  # tables with a row for each project or program, which may be read whole


def test_a_hundred_clients_at_once_never_exceed_the_overlap(any_store: Store) -> None:
    """100 people ask at one moment for 30 tasks of overlap 3; then they judge or skip until all is done."""
    tokens = sign_in_all(any_store, 100)
    add_tasks(any_store, 30, overlap=3)
    together, excesses = threading.Barrier(100, timeout=60), []
    holding = (
        select(assignments.c.task_id)
        .where(assignments.c.state.in_(["leased", "submitted"]))
        .group_by(assignments.c.task_id)
        .having(func.count() > 3)
    )

    def work(number: int, base: str) -> str | None:
        with httpx.Client(
            base_url=base, cookies={COOKIE: tokens[number]}, timeout=60, verify=False
        ) as client:
            together.wait()
            first = client.post("/api/next", json={}).json()["task"]
            together.wait()
            if number == 0:
                with any_store.read() as connection:
                    excesses.extend(connection.scalars(holding))
            task = first
            for turn in count():
                if task is None:
                    return first and first["id"]
                path = f"/api/assignments/{task['id']}"
                if (number + turn) % 7 == 0:
                    answer = client.post(f"{path}/skip", json={})
                else:
                    body = {"submit_key": f"submit-key-{number:04}-{turn:04}", "ranks": [1, 2, 3]}
                    answer = client.post(f"{path}/judgment", json=body)
                assert answer.status_code == 200, answer.text
                task = client.post("/api/next", json={}).json()["task"]
        raise AssertionError

    with serving(create_api(any_store)) as base, ThreadPoolExecutor(100) as pool:
        firsts = list(pool.map(lambda number: work(number, base), range(100)))
        together = threading.Barrier(1)
        for number in range(6):  # what was skipped after the others had gone home
            work(number, base)
    assert excesses == []
    assert Counter(first is not None for first in firsts) == {True: 90, False: 10}
    with any_store.read() as connection:
        assert connection.execute(select(tasks.c.n_judgments, tasks.c.status)).all() == [(3, "done")] * 30
        assert list(connection.scalars(holding)) == []
        made = connection.execute(select(assignments.c.task_id, assignments.c.annotator_id)).all()
        assert len(made) == len(set(made))
        assert connection.scalar(select(func.count()).select_from(judgments)) == 90
        audit.verify(connection)


def test_a_crowd_that_signs_in_keeps_nobody_from_working(store: Store) -> None:
    """60 right passwords wait for their turn, more than there are threads; one who is in goes on working."""
    crowd = [row["login"] for row in add_people(store, *(f"guest{n}" for n in range(60)))]
    (token,) = sign_in_all(store, 1)
    add_tasks(store, 1)
    app, turn = create_api(store), threading.Event()

    class Waiting(people.Passwords):
        def matches(self, password_hash: str | None, password: str) -> bool:
            assert turn.wait(60)
            return password == PASSWORD

    app.state.passwords = Waiting()

    def enter(login: str, base: str) -> int:
        return httpx.post(
            f"{base}/login", data={"login": login, "password": PASSWORD}, timeout=60
        ).status_code

    with serving(app) as base, ThreadPoolExecutor(60) as pool:
        answers = [pool.submit(enter, login, base) for login in crowd]
        with httpx.Client(base_url=base, cookies={COOKIE: token}, timeout=30, verify=False) as client:
            for _ in range(5):
                assert client.post("/api/next", json={}).json()["task"] is not None
        assert not any(answer.done() for answer in answers)
        turn.set()
        assert [answer.result() for answer in answers] == [303] * 60


def test_no_request_of_an_annotator_reads_a_whole_table(store: Store) -> None:
    """SQLite's own plan of every statement that the annotate page's requests run, with rows in the tables."""
    (token,) = sign_in_all(store, 1)
    add_people(store, "guest")
    add_tasks(store, 20, overlap=2)
    statements: dict[str, Any] = {}

    def note(_connection, _cursor, statement: str, parameters: Any, *_: Any) -> None:
        statements.setdefault(statement, parameters)

    for engine in (store._writer, store._reader):
        event.listen(engine, "before_cursor_execute", note)
    client = TestClient(create_api(store), base_url="http://127.0.0.1", cookies={COOKIE: token})
    for number in range(3):
        task = client.post("/api/next", json={}).json()["task"]
        path = f"/api/assignments/{task['id']}"
        for sequence in (1, 2):
            body = {"client_seq": sequence, "payload": {}}
            assert client.put(f"{path}/draft", json=body).status_code == 200
        assert client.post(f"{path}/heartbeat", json={}).status_code == 200
        body = {"submit_key": f"submit-key-number-{number}", "ranks": [1, 2, 3]}
        assert client.post(f"{path}/judgment", json=body).status_code == 200
        assert client.get("/api/history").status_code == 200
        assert client.get(path).status_code == 200
    task = client.post("/api/next", json={}).json()["task"]
    assert client.post(f"/api/assignments/{task['id']}/skip", json={}).status_code == 200
    guest = {"login": "guest", "password": PASSWORD}
    assert client.post("/login", data=guest, follow_redirects=False).status_code == 303
    scans = {}
    plain = sqlite3.connect(store.url.database)
    names = {row[0] for row in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for statement, parameters in statements.items():
        if statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            values = parameters[0] if isinstance(parameters, list) else parameters
            for row in plain.execute(f"EXPLAIN QUERY PLAN {statement}", values):
                words = row[3].split()
                if words[0] == "SCAN" and words[1] in names - SMALL:
                    scans[statement] = row[3]
    assert len(statements) > 30
    # The last row of the audit log is found from its end.
    assert [s for s in scans if not ("FROM audit_log ORDER BY" in s and "LIMIT" in s)] == []
