"""What the tests of the labeling app share: records, people, tasks, a real server in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

from sqlalchemy import RowMapping, insert, select

from alignment.data.records import Completion, Message, Record, Source
from labeling_app import transfer
from labeling_app.store import people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import annotators

PASSWORD = "correct horse"


def make_records(count: int, outputs: int = 3, start: int = 0) -> list[Record]:
    """`count` records with `outputs` completions; sources have a name that no page may show."""
    return [
        Record(
            id=f"record-{number}",
            prompt=[Message("user", f"Question {number}: what is good?")],
            completions=[
                Completion(content=f"Answer {number}.{i}", source=Source("model", f"secret-model-{i}"))
                for i in range(outputs)
            ],
            meta={"tags": ["t"]},
        )
        for number in range(start, start + count)
    ]


@cache
def password_hash() -> str:
    return people.Passwords().hash(PASSWORD)


def add_people(store: Store, *logins: str) -> list[RowMapping]:
    """Accounts with PASSWORD, made without hashing it anew for each."""
    with store.write() as tx:
        for login in logins:
            row = {"public_id": f"ann-{login}", "login": login, "password_hash": password_hash()}
            tx.execute(insert(annotators).values(**row, role="annotator", created_at=utcnow()))
    with store.read() as connection:
        wanted = select(annotators).where(annotators.c.login.in_(logins)).order_by(annotators.c.id)
        return list(connection.execute(wanted).mappings())


def add_tasks(store: Store, count: int, overlap: int = 1, **options: Any) -> None:
    transfer.import_records(store, make_records(count, **options), overlap=overlap)


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """A real uvicorn in a thread; yields its address."""
    import uvicorn

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            thread.join(0.02)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()
