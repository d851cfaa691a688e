"""The admin pages' handlers, called as a program would call them: who is refused, and what the others do."""

from __future__ import annotations

from typing import Any

from labeling_helpers import add_tasks, make_records
from sqlalchemy import select

from labeling_app import imports
from labeling_app.pages.parts import ADMINS, PAGES
from labeling_app.store.database import Store
from labeling_app.store.models import audit_log


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


def test_who_types_the_address_of_a_page_that_is_not_theirs_is_told_so(caller: Any, store: Store) -> None:
    reader = {"Accept": "text/html"}
    admin, reviewer, annotator = caller("admin"), caller("reviewer"), caller("annotator")
    for path, _, roles, _ in PAGES:
        assert admin.client.get(f"/admin/{path}", headers=reader).status_code == 200
        answer = reviewer.client.get(f"/admin/{path}", headers=reader)
        assert answer.status_code == (403 if roles == ADMINS else 200), path
        assert ("This is for admins." in answer.text) == (roles == ADMINS)
        answer = annotator.client.get(f"/admin/{path}", headers=reader)
        assert answer.status_code == 403
        assert "This is for" in answer.text


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
