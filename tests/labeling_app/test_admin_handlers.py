"""The admin pages' handlers, called as a program would call them: who is refused, and what the others do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from labeling_helpers import add_people, add_tasks, make_records
from sqlalchemy import select, update

from labeling_app import imports
from labeling_app.auth import COOKIE
from labeling_app.pages.desk import ADMINS, PAGES
from labeling_app.store import people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import annotators, audit_log


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


@pytest.fixture
def caller(site: str, store: Store) -> Iterator[Any]:
    made: list[Caller] = []

    def make(role: str | None) -> Caller:
        made.append(Caller(site, store, role))
        return made[-1]

    yield make
    for one in made:
        one.client.close()


def log_of(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.scalars(select(audit_log.c.action).order_by(audit_log.c.id)))


def test_every_handler_of_an_admins_page_refuses_a_reviewer(caller: Any, store: Store) -> None:
    add_tasks(store, 2)
    admin, reviewer = caller("admin"), caller("reviewer")
    before = log_of(store)
    for page in (path for path, _, roles, _ in PAGES if roles == ADMINS):
        functions = admin.functions(page)
        assert functions, page
        for function, values in functions:
            answer = reviewer.call(function, values)
            assert answer.status_code == 500
            assert answer.json()["error"] == "This is for admins."
    assert log_of(store) == before


def test_every_handler_refuses_annotators_and_strangers(caller: Any, store: Store) -> None:
    admin, annotator, stranger = caller("admin"), caller("annotator"), caller(None)
    for path, *_ in PAGES:
        for function, values in admin.functions(path):
            assert annotator.call(function, values).status_code == 403
            assert stranger.call(function, values).status_code == 401


def test_what_every_visitor_gets_holds_nothing_of_the_database(caller: Any, store: Store) -> None:
    imports.import_records(store, make_records(2), "a-project-of-ours")
    text = caller("reviewer").client.get("/admin/config").text
    for secret in ("a-project-of-ours", "Question 0", "secret-model"):
        assert secret not in text
