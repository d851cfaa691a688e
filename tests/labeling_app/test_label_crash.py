"""SIGKILL of a real server under submits: what was acknowledged is there, exactly once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
from labeling_helpers import add_people, add_tasks
from sqlalchemy import select

from labeling_app.auth import COOKIE
from labeling_app.store import audit, people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import assignments, judgments, tasks

SERVE = """
import sys, uvicorn
from labeling_app.server import create_api
from labeling_app.store.database import Store
uvicorn.run(create_api(Store(sys.argv[1], create=True)), port=int(sys.argv[2]), log_level="error")
"""
KILLS = 3


def start_server(url: str, port: int) -> subprocess.Popen[bytes]:
    server = subprocess.Popen([sys.executable, "-c", SERVE, url, str(port)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/login")
            return server
        except httpx.TransportError:
            assert server.poll() is None, "the server did not start"
            time.sleep(0.05)
    raise AssertionError("the server did not answer within a minute")


class Annotator(threading.Thread):
    """Ranks as fast as it can; a submit without an answer is sent again under its key, as on the page."""

    def __init__(self, base: str, token: str, name: str, stop: threading.Event) -> None:
        super().__init__()
        self.client = httpx.Client(base_url=base, cookies={COOKIE: token}, timeout=10)
        self.label, self.stop = name, stop
        self.acknowledged: list[str] = []
        self.lost_answers = 0
        self.problems: list[str] = []

    def post(self, path: str, body: dict) -> httpx.Response:
        while True:
            try:
                answer = self.client.post(path, json=body)
            except httpx.TransportError:
                self.lost_answers += 1
                time.sleep(0.05)
                continue
            if answer.status_code != 503:
                return answer

    def run(self) -> None:
        for number in range(10_000):
            task = self.post("/api/next", {}).json()["task"]
            if task is None or self.stop.is_set():
                return
            key = f"submit-key-{self.label}-{number:05}"
            answer = self.post(
                f"/api/assignments/{task['id']}/judgment", {"submit_key": key, "ranks": [1, 2, 2]}
            )
            if answer.status_code == 200:
                self.acknowledged.append(key)
            else:
                self.problems.append(answer.text)


def test_what_was_acknowledged_survives_kills_exactly_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/labels.db"
    store = Store(url, create=True)
    crowd = add_people(store, *(f"person{n}" for n in range(8)))
    add_tasks(store, 1500, overlap=3)
    with store.write() as tx:
        tokens = [people.open_session(tx, utcnow(), row["id"], row["login"], "test") for row in crowd]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start_server(url, port)
    stop = threading.Event()
    base = f"http://127.0.0.1:{port}"
    clients = [Annotator(base, token, f"person{n}", stop) for n, token in enumerate(tokens)]
    for client in clients:
        client.start()
    try:
        for number in range(KILLS):
            time.sleep(0.7 + 0.13 * number)
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
            server = start_server(url, port)
        time.sleep(0.5)
    finally:
        stop.set()
        for client in clients:
            client.join(30)
        server.kill()
        server.wait()
    acknowledged = [key for client in clients for key in client.acknowledged]
    assert [client.problems for client in clients] == [[]] * len(clients)
    assert sum(client.lost_answers for client in clients) >= KILLS
    assert len(acknowledged) > 50
    with store.read() as connection:
        stored = Counter(connection.scalars(select(judgments.c.submit_key)))
        pairs = connection.execute(select(assignments.c.task_id, assignments.c.annotator_id)).all()
        judged = Counter(
            connection.scalars(select(assignments.c.task_id).where(assignments.c.state == "submitted"))
        )
        counted = dict(
            connection.execute(select(tasks.c.id, tasks.c.n_judgments).where(tasks.c.n_judgments > 0)).all()
        )
        audit.verify(connection)
    assert set(acknowledged) - set(stored) == set()
    assert set(stored.values()) == {1}
    assert set(stored) == set(acknowledged)  # every client got its last answer, after the last restart
    assert len(pairs) == len(set(pairs))
    assert counted == dict(judged)
    assert max(judged.values()) <= 3
