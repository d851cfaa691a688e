"""Annotators as threads that talk to a real server over HTTP, and keep a journal of what was acknowledged."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from labeling_helpers import add_people
from sqlalchemy import func, select

from labeling_app.auth import COOKIE
from labeling_app.store import audit, people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import assignments, judgments, tasks


class Annotator(threading.Thread):
    """Ranks as fast as it can; a submit without an answer is sent again under its key, as on the page."""

    def __init__(self, base: str, token: str, name: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.client = httpx.Client(base_url=base, cookies={COOKIE: token}, timeout=20, verify=False)
        self.label, self.stop = name, stop
        self.dice = random.Random(name)
        self.acknowledged: list[str] = []
        self.failures: Counter[str] = Counter()  # "503", or the error of a lost connection
        self.problems: list[str] = []

    def post(self, path: str, body: dict) -> httpx.Response:
        while True:
            try:
                answer = self.client.post(path, json=body)
            except httpx.TransportError as error:
                self.failures[type(error).__name__] += 1
                time.sleep(0.05)
                continue
            if answer.status_code < 500:
                return answer
            self.failures[str(answer.status_code)] += 1
            time.sleep(0.05)

    def run(self) -> None:
        for number in range(10_000):
            task = self.post("/api/next", {}).json()["task"]
            if task is None or self.stop.is_set():
                return
            key = f"submit-key-{self.label}-{number:05}"
            ranks = [self.dice.randint(1, 3) for _ in task["outputs"]]
            answer = self.post(f"/api/assignments/{task['id']}/judgment", {"submit_key": key, "ranks": ranks})
            if answer.status_code == 200:
                self.acknowledged.append(key)
            else:
                self.problems.append(answer.text)


def sign_in_all(store: Store, count: int) -> list[str]:
    """`count` new people; the tokens of their sessions."""
    crowd = add_people(store, *(f"person{n}" for n in range(count)))
    with store.write() as tx:
        return [people.start_session(tx, utcnow(), row["id"]) for row in crowd]


@contextmanager
def working(base: str, tokens: list[str]) -> Iterator[list[Annotator]]:
    """Let them work during the block; at its end each one gets the answer that it waits for."""
    stop = threading.Event()
    clients = [Annotator(base, token, f"person{n}", stop) for n, token in enumerate(tokens)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        stop.set()
        for client in clients:
            client.join(60)


def done(clients: list[Annotator]) -> int:
    """How many judgments have been acknowledged."""
    return sum(len(client.acknowledged) for client in clients)


def wait_until(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def check_nothing_lost(store: Store, clients: list[Annotator], overlap: int) -> None:
    """Every acknowledged judgment is there exactly once, nothing else is, and all that counts them agrees."""
    acknowledged = [key for client in clients for key in client.acknowledged]
    assert [client.problems for client in clients] == [[]] * len(clients)
    assert not any(client.is_alive() for client in clients)
    with store.read() as connection:
        stored = Counter(connection.scalars(select(judgments.c.submit_key)))
        pairs = connection.execute(select(assignments.c.task_id, assignments.c.annotator_id)).all()
        judged = Counter(
            connection.scalars(select(assignments.c.task_id).where(assignments.c.state == "submitted"))
        )
        counted = connection.execute(select(tasks.c.id, tasks.c.n_judgments).where(tasks.c.n_judgments > 0))
        assert dict(counted.all()) == dict(judged)
        audit.verify(connection)
        assert connection.scalar(select(func.max(assignments.c.leased_until))) is not None
    assert set(acknowledged) == set(stored)  # every client got its last answer
    assert set(stored.values()) == {1}
    assert len(pairs) == len(set(pairs))
    assert max(judged.values()) <= overlap
