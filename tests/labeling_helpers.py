"""What the tests of the labeling app share: records, people, tasks, a real server in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
from sqlalchemy import RowMapping, insert, select, update

from alignment.data.records import Completion, Message, Record, Source
from labeling_app import imports
from labeling_app.auth import COOKIE
from labeling_app.store import people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import annotators, assignments, judgments, projects

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
    imports.import_records(store, make_records(count, **options), overlap=overlap)


def run_label(*arguments: object, typed: str | None = None) -> str:
    """`alignkit label …` in this process: what it prints. Its errors are raised."""
    from typer.testing import CliRunner

    from alignment.cli.label import app

    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=typed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def settle(store: Store, **values: Any) -> None:
    """Set columns of every project."""
    with store.write() as tx:
        tx.execute(update(projects).values(**values))


def last_judgment(store: Store) -> tuple[RowMapping, list[int]]:
    """The newest judgment, and the order in which its outputs were shown."""
    with store.read() as connection:
        rows = select(judgments, assignments.c.presented_order).join(assignments)
        row = connection.execute(rows.order_by(judgments.c.id.desc()).limit(1)).mappings().one()
    return row, row["presented_order"]


def ranks_on_screen(store: Store) -> list[int | None]:
    """The ranks of the newest judgment, top to bottom of the screen."""
    row, order = last_judgment(store)
    return [row["ranks"][ordinal] for ordinal in order]


@contextlib.contextmanager
def serving(app: Any, port: int = 0) -> Iterator[str]:
    """A real uvicorn in a thread; yields its address."""
    import uvicorn

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            thread.join(0.02)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Visitor:
    """One person's browser context, with everything noted that must not happen."""

    def __init__(self, browser: Any, base: str, **options: Any) -> None:
        self.base = base
        self.context = browser.new_context(base_url=base, **options)
        self.context.set_default_timeout(15_000)
        self.context.route(lambda url: not url.startswith((base, "data:", "blob:")), self._abort)
        self.foreign: list[str] = []
        self.faults: list[str] = []
        self.page = self.new_page()

    def new_page(self) -> Any:
        page = self.context.new_page()
        page.on("dialog", lambda dialog: (self.faults.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: self.faults.append(f"error {error}"))
        page.on("request", self._look)
        return page

    def _abort(self, route: Any) -> None:
        self.foreign.append(route.request.url)
        route.abort()

    def _look(self, request: Any) -> None:
        if "/app/gradio_api/" in request.url:
            self.faults.append(f"gradio {request.url}")

    def open(self) -> Any:
        self.page.goto("/app/")
        self.page.wait_for_selector(".rb[data-ready]")
        return self.page


class Caller:
    """A program with somebody's session, or none."""

    def __init__(self, site: str, store: Store, role: str | None) -> None:
        self.client = httpx.Client(base_url=site, timeout=60)
        if role is not None:
            row = add_people(store, role)[0]
            with store.write() as tx:
                tx.execute(update(annotators).where(annotators.c.id == row["id"]).values(role=role))
                self.client.cookies.set(COOKIE, people.open_session(tx, utcnow(), row["id"], role, "test"))

    def functions(self, page: str) -> list[tuple[int, list[Any]]]:
        """The functions of a page with values that they take: what its components begin with."""
        config = self.client.get("/admin/config").json()
        numbers = set(config["page"][page]["dependencies"])
        first = {one["id"]: one["props"].get("value") for one in config["components"]}
        return [
            (one["id"], [first[number] for number in one["inputs"]])
            for one in config["dependencies"]
            if one["id"] in numbers
        ]

    def call(self, function: int, values: list[Any], query: str = "") -> httpx.Response:
        body = {"data": values, "fn_index": function, "session_hash": "abc"}
        return self.client.post(f"/admin/gradio_api/run/predict{query}", json=body)

    def page(self, page: str, query: str = "") -> str:
        """What a page's load handler answers, all of it as text."""
        function, values = self.functions(page)[0]
        answer = self.call(function, values, query)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"])
