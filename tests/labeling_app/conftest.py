"""A labeling database, on SQLite and, where its programs are installed, PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from labeling_helpers import Caller, Visitor, add_people, serving
from postgres_cluster import Cluster, NoPostgres

from labeling_app.auth import COOKIE
from labeling_app.server import create_app
from labeling_app.store import people
from labeling_app.store.database import Store, utcnow


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL made here by the installed programs."""
    pytest.importorskip("psycopg")
    try:
        made = Cluster(durable=False)
    except NoPostgres as reason:
        pytest.skip(str(reason))
    made.start()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> str:
    """The URL of a PostgreSQL: ALIGNKIT_TEST_POSTGRES, or the cluster made here."""
    return os.environ.get("ALIGNKIT_TEST_POSTGRES") or request.getfixturevalue("cluster").url


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty SQLite database."""
    made = Store(f"sqlite:///{tmp_path / 'labels.db'}", create=True)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty database of either kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'labels.db'}"
    else:
        url = request.getfixturevalue("postgres")
    made = Store(url, create=True)
    yield made
    if request.param == "postgresql":
        made.downgrade("base")
    made.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """One real server for all tests, because Gradio's pages take seconds to make: the app and its address."""
    app = create_app(Store(f"sqlite:///{tmp_path_factory.mktemp('site') / 'empty.db'}", create=True))
    with serving(app) as base:
        yield app, base


@pytest.fixture
def site(server: tuple[Any, str], store: Store) -> str:
    """The address of the server, which serves `store` from now on."""
    app, base = server
    app.state.store = store
    return base


@pytest.fixture
def visit(chromium: Any, store: Store, site: str) -> Iterator[Callable[..., Visitor]]:
    """Open a context, signed in as `login` unless it is None; at the end nothing forbidden has happened."""
    visitors: list[Visitor] = []

    def make(login: str | None = "anna", **options: Any) -> Visitor:
        visitor = Visitor(chromium, site, **options)
        visitors.append(visitor)
        if login is not None:
            with store.write() as tx:
                row = people.find_login(tx, login)
            row = row or add_people(store, login)[0]
            with store.write() as tx:
                token = people.open_session(tx, utcnow(), row["id"], login, "test")
            visitor.context.add_cookies([{"name": COOKIE, "value": token, "url": site, "httpOnly": True}])
        return visitor

    yield make
    for visitor in visitors:
        visitor.context.close()
        assert visitor.faults == []
        assert visitor.foreign == []


@pytest.fixture
def caller(site: str, store: Store) -> Iterator[Any]:
    made: list[Caller] = []

    def make(role: str | None) -> Caller:
        made.append(Caller(site, store, role))
        return made[-1]

    yield make
    for one in made:
        one.client.close()
