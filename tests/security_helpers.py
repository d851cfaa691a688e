"""What the security tests share: every route of an application, and whether a request changed anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fastapi.testclient import TestClient
from labeling_helpers import add_people
from sqlalchemy import select

from labeling_app.auth import COOKIE
from labeling_app.store import people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import login_failures, metadata

SITE = "http://labels.test"
KEY = "0123456789abcdef"
# Opens the dialogs that come after a task with a known answer and after a change of the guideline.
OPEN_DIALOGS = """async ({ text, html }) => {
    const { changeDialog, feedbackDialog } = await import('/ui/dialogs.js');
    const { difference } = await import('/ui/diff.js');
    const form = { dimensions: [{ name: 'd', label: text }] };
    const task = { outputs: [{ letter: 'A' }, { letter: 'B' }], form };
    const work = { ranks: [1, 2], allBad: false, ratings: { d: [1, 1] } };
    const ratings = { d: [1, 2] };
    const known = { right: false, expected: [2, 1], ratings, practice: null, explanation_html: html };
    for (const node of [
        feedbackDialog(known, task, work, () => {}),
        changeDialog(difference(text, `new ${text}`), 1, { version: 2, html }),
        changeDialog(null, 1, { version: 2, html }),
    ]) {
        document.querySelector('.rb').append(node);
        node.showModal();
    }
}"""
SAMPLES = {"version": "1", "name": "default", "token": "x" * 43}


def routes(app: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(method, path) of every route, also of mounted applications; a folder of files is ("FILES", path)."""
    for route in app.routes if hasattr(app, "routes") else app:
        inner = getattr(route, "original_router", None)  # what include_router leaves
        if inner is not None:
            yield from routes(inner.routes, prefix + route.include_context.prefix)
            continue
        path = prefix + route.path
        below = getattr(route, "routes", None)
        if below:
            yield from routes(below, path)
        elif not getattr(route, "methods", None):
            yield "FILES", path
        for method in sorted(getattr(route, "methods", None) or ()):
            yield method, path


def filled(path: str, **values: str) -> str:
    """The path with its parameters replaced: {public_id}, {path:path} …"""
    known = {**SAMPLES, **values}
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: known.get(found[1], "x"), path)


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the database but the counters of failed attempts."""
    with store.read() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table)).all()), key=repr)
            for table in metadata.sorted_tables
            if table is not login_failures
        }


class NoHashing(people.Passwords):
    """Every password is wrong, at once."""

    def matches(self, password_hash: str | None, password: str) -> bool:
        return False


def client_of(app: Any, token: str | None = None, base: str = SITE, **options: Any) -> TestClient:
    """A browser, with this session if there is one."""
    client = TestClient(app, base_url=base, follow_redirects=False, **options)
    if token is not None:
        client.cookies.set(COOKIE, token, domain="labels.test")
    return client


def session_of(store: Store, login: str, role: str = "annotator") -> str:
    """The token of a new session of this account, which is made if there is none."""
    with store.read() as connection:
        row = people.find_login(connection, login)
    row = row or add_people(store, login)[0]
    with store.write() as tx:
        people.set_role(tx, utcnow(), login, role, "test")
        return people.start_session(tx, utcnow(), row["id"])
