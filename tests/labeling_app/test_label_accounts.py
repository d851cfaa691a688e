"""Accounts: roles, closing, one's own password and sessions, invitations; and who is refused what."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from labeling_helpers import PASSWORD, add_people
from sqlalchemy import func, select, update

from alignment.errors import UserError
from labeling_app import accounts
from labeling_app.auth import COOKIE
from labeling_app.server import create_api
from labeling_app.store import audit, invitations, people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import annotators, audit_log, sessions
from labeling_app.store.models import invitations as invitation_rows

SITE = "http://labels.test"
NEW = "a new long password"


@pytest.fixture
def app(store: Store) -> Any:
    return create_api(store)


def client_of(app: Any, base: str = SITE) -> TestClient:
    return TestClient(app, base_url=base, follow_redirects=False)


def session_of(store: Store, login: str) -> str:
    with store.write() as tx:
        row = people.find_login(tx, login)
        assert row is not None
        return people.start_session(tx, utcnow(), row["id"])


def signed_in(store: Store, app: Any, login: str) -> TestClient:
    client = client_of(app)
    client.cookies.set(COOKIE, session_of(store, login), domain="labels.test")
    return client


def set_role(store: Store, login: str, role: str) -> None:
    with store.write() as tx:
        people.set_role(tx, utcnow(), login, role, "test")


def change(client: TestClient, **fields: str) -> Any:
    return client.post(
        "/account/password", data={"current": PASSWORD, "password": NEW, "again": NEW, **fields}
    )


def invited(store: Store, role: str = "annotator", days: float = 7) -> str:
    with store.write() as tx:
        return invitations.invite(tx, utcnow(), role, days, None)


def accept(client: TestClient, **fields: str) -> Any:
    return client.post("/invite", data={"login": "new.person", "password": NEW, "again": NEW, **fields})


def test_the_last_admin_stays(any_store: Store) -> None:
    add_people(any_store, "anna", "ben")
    set_role(any_store, "anna", "admin")
    for action in (
        lambda tx: people.set_role(tx, utcnow(), "anna", "annotator", "test"),
        lambda tx: people.set_active(tx, utcnow(), "anna", False, "test"),
    ):
        with any_store.write() as tx, pytest.raises(UserError, match="last active admin"):
            action(tx)
    set_role(any_store, "ben", "admin")
    with any_store.write() as tx:
        people.set_active(tx, utcnow(), "anna", False, "test")
    with any_store.write() as tx, pytest.raises(UserError, match="last active admin"):
        people.set_role(tx, utcnow(), "ben", "reviewer", "test")  # the other admin is inactive
    with any_store.read() as connection:
        assert audit.verify(connection) == 3


def test_two_admins_cannot_take_each_other_the_role(any_store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    add_people(any_store, "anna", "ben")
    set_role(any_store, "anna", "admin")
    set_role(any_store, "ben", "admin")

    def take(login: str) -> bool:
        try:
            set_role(any_store, login, "annotator")
        except UserError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(take, ["anna", "ben"])) == [False, True]


def test_a_closed_account_is_out_and_its_old_sessions_do_not_come_back(store: Store, app: Any) -> None:
    add_people(store, "anna")
    anna = signed_in(store, app, "anna")
    for active in (False, True):
        with store.write() as tx:
            people.set_active(tx, utcnow(), "anna", active, "test")
        assert anna.get("/api/me").status_code == 401
    assert client_of(app).post("/login", data={"login": "anna", "password": PASSWORD}).status_code == 303


def test_a_role_counts_from_the_next_request_on(store: Store, app: Any) -> None:
    add_people(store, "anna")
    anna = signed_in(store, app, "anna")
    html = {"Accept": "text/html"}
    refused = anna.get("/admin/", headers=html)
    assert (refused.status_code, "reviewers and admins" in refused.text) == (403, True)
    assert anna.post("/admin/gradio_api/queue/join", json={}).status_code == 403
    set_role(store, "anna", "reviewer")
    assert anna.get("/admin/", headers=html).status_code != 403
    foreign = {"Origin": "http://evil.test"}
    assert anna.post("/admin/gradio_api/queue/join", json={}, headers=foreign).status_code == 403
    nobody = client_of(app)
    assert nobody.get("/admin/", headers=html).headers["location"] == "/login"
    assert nobody.get("/admin/config").status_code == 401
    assert nobody.post("/admin/gradio_api/upload").status_code == 401
    huge = {"Content-Length": str(1 << 30)}
    assert anna.post("/admin/gradio_api/upload", headers=huge).status_code == 413


def test_a_new_password_ends_every_session_and_this_browser_gets_a_new_one(store: Store, app: Any) -> None:
    add_people(store, "anna")
    here, there = signed_in(store, app, "anna"), signed_in(store, app, "anna")
    before = here.cookies[COOKIE]
    answer = change(here)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account?done=password")
    assert here.cookies[COOKIE] != before
    assert "Your password is changed" in here.get("/account?done=password").text
    assert there.get("/api/me").status_code == 401
    planted = client_of(app)
    planted.cookies.set(COOKIE, before)
    assert planted.get("/api/me").status_code == 401
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(sessions)) == 1
        row = people.find_login(connection, "anna")
    assert row is not None
    assert people.Passwords().matches(row["password_hash"], NEW)


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"current": "not it"}, 401, "The current password is not right."),
        ({"current": ""}, 401, "not right"),
        ({"again": "another"}, 422, "not the same"),
        ({"password": "short", "again": "short"}, 422, "8 to 1024 characters"),
    ],
)
def test_a_password_is_not_changed_without_reason(
    store: Store, app: Any, fields: dict[str, str], status: int, said: str
) -> None:
    row = add_people(store, "anna")[0]
    answer = change(signed_in(store, app, "anna"), **fields)
    assert (answer.status_code, said in answer.text) == (status, True)
    with store.read() as connection:
        assert people.account_of(connection, row["id"])["password_hash"] == row["password_hash"]


def test_guessing_the_current_password_is_braked(store: Store, app: Any) -> None:
    add_people(store, "anna")
    anna = signed_in(store, app, "anna")
    with store.write() as tx:
        for _ in range(people.MAX_PER_LOGIN_AND_ADDRESS):
            people.count_attempt(tx, utcnow(), "anna", "testclient")
    assert change(anna).status_code == 429


def test_other_browsers_are_signed_out(store: Store, app: Any) -> None:
    add_people(store, "anna", "ben")
    here, there, ben = (signed_in(store, app, login) for login in ("anna", "anna", "ben"))
    assert "and one other" in here.get("/account").text
    assert here.post("/account/sessions").status_code == 303
    assert [client.get("/api/me").status_code for client in (here, there, ben)] == [200, 401, 200]
    assert "one other" not in here.get("/account").text


def test_signing_in_again_ends_the_session_that_the_browser_brought(store: Store, app: Any) -> None:
    add_people(store, "anna", "ben")
    client = signed_in(store, app, "anna")
    brought = client.cookies[COOKIE]
    client.post("/login", data={"login": "ben", "password": PASSWORD})
    assert client.get("/api/me").json()["login"] == "ben"
    client.cookies.clear()
    client.cookies.set(COOKIE, brought)
    assert client.get("/api/me").status_code == 401


def test_an_invitation_makes_one_account(any_store: Store) -> None:
    app = create_api(any_store)
    token = invited(any_store, "reviewer")
    person = client_of(app, "https://labels.test")
    opened = person.get(f"/invite/{token}")
    assert (opened.status_code, opened.headers["location"]) == (303, "/invite")
    cookie = opened.headers["set-cookie"]
    assert all(flag in cookie for flag in ("HttpOnly", "Secure", "SameSite=lax", "Path=/invite"))
    page = person.get("/invite").text
    assert "as a reviewer" in page
    assert token not in page
    made = accept(person)
    assert (made.status_code, made.headers["location"]) == (303, "/app/")
    assert person.get("/api/me").json() == {"login": "new.person", "role": "reviewer"}
    assert person.post("/login", data={"login": "New.Person", "password": NEW}).status_code == 303
    other = client_of(app)
    other.cookies.set(accounts.INVITE_COOKIE, token, path="/invite")
    assert other.get("/invite").status_code == 410
    assert accept(other, login="second").status_code == 410
    with any_store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(annotators)) == 1
        assert audit.verify(connection) == 2
        row = connection.execute(select(invitation_rows)).mappings().one()
        assert token not in str(dict(row))
        assert row["used_by"] is not None
        said = connection.execute(select(audit_log.c.actor, audit_log.c.after)).all()
        assert "new.person" not in str(said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"login": "anna"}, "is taken"),
        ({"login": ' "><script>'}, "may have letters"),
        ({"password": "short", "again": "short"}, "8 to 1024 characters"),
        ({"again": "another"}, "not the same"),
    ],
)
def test_an_invitation_can_be_tried_again(store: Store, app: Any, fields: dict[str, str], said: str) -> None:
    add_people(store, "anna")
    person = client_of(app)
    person.get(f"/invite/{invited(store)}")
    answer = accept(person, **fields)
    assert (answer.status_code, said in answer.text, "<script>" in answer.text) == (422, True, False)
    assert accept(person).status_code == 303


def test_an_invitation_ends(store: Store, app: Any) -> None:
    token = invited(store)
    person = client_of(app)
    person.get(f"/invite/{token}")
    with store.write() as tx:
        tx.execute(update(invitation_rows).values(expires_at=utcnow() - timedelta(seconds=1)))
    assert accept(person).status_code == 410
    other = invited(store)
    with store.write() as tx:
        (row,) = invitations.open_invitations(tx, utcnow())
        invitations.withdraw(tx, utcnow(), row["id"], "test")
        with pytest.raises(UserError, match="no open invitation"):
            invitations.withdraw(tx, utcnow(), row["id"], "test")
    person.get(f"/invite/{other}")
    assert person.get("/invite").status_code == 410
    for wrong in ("x", "ä" * 30, "a" * 40, "%0d%0aSet-Cookie:x=1"):
        assert client_of(app).get(f"/invite/{wrong}", follow_redirects=True).status_code == 410


def test_one_invitation_at_once_by_many_makes_one_account(any_store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    token = invited(any_store)

    def use(number: int) -> bool:
        try:
            with any_store.write() as tx:
                invitations.accept(tx, utcnow(), token, f"person-{number}", "hash")
        except UserError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(use, range(8))) == 1
    with any_store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(annotators)) == 1


def test_every_page_of_accounts_asks_who_it_is(app: Any) -> None:
    routes = {(next(iter(route.methods)), route.path) for route in accounts.router.routes}
    open_to_all = {("GET", "/invite/{token}"), ("GET", "/invite"), ("POST", "/invite")}  # the token says who
    for method, path in routes - open_to_all:
        answer = client_of(app).request(method, path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login"), path
    assert client_of(app).get("/invite").status_code == 410


@pytest.mark.parametrize("path", ["/account/password", "/account/sessions", "/invite", "/logout", "/login"])
def test_no_other_site_can_post(store: Store, app: Any, path: str) -> None:
    add_people(store, "anna")
    anna = signed_in(store, app, "anna")
    anna.cookies.set(accounts.INVITE_COOKIE, invited(store), path="/invite")
    fields = {"login": "x", "current": PASSWORD, "password": NEW, "again": NEW}
    for headers in ({"Origin": "http://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert anna.post(path, data=fields, headers=headers).status_code == 403
    plain = f"current={PASSWORD}&password={NEW}&again={NEW}&login=x"
    anna.post("/account/password", content=plain, headers={"Content-Type": "text/plain"})
    anna.post("/invite", content=plain, headers={"Content-Type": "text/plain"})
    with store.read() as connection:
        row = people.find_login(connection, "anna")
        assert connection.scalar(select(func.count()).select_from(annotators)) == 1
        assert connection.scalar(select(func.count()).select_from(sessions)) == 1
    assert row is not None
    assert people.Passwords().matches(row["password_hash"], PASSWORD)


def test_names_are_shown_as_text(store: Store, app: Any) -> None:
    """No login can have such signs, but the page does not rely on it."""
    add_people(store, "anna")
    with store.write() as tx:
        tx.execute(update(annotators).values(login="<img src=x onerror=alert(1)>"))
        token = people.start_session(tx, utcnow(), tx.scalar(select(annotators.c.id)))
    client = client_of(app)
    client.cookies.set(COOKIE, token)
    assert "<img src=x" not in client.get("/account").text
    assert "<script>" not in client.get("/account?done=<script>").text


def test_without_a_provider_there_is_nothing(store: Store) -> None:
    add_people(store, "anna")
    client = client_of(create_api(store))
    assert "Sign in with" not in client.get("/login").text
    for path in ("/oidc/start", "/oidc/callback?code=x&state=y"):
        assert client.get(path).status_code == 404
    assert client.post("/invite/oidc").status_code == 404
    assert client.post("/login", data={"login": "anna", "password": PASSWORD}).status_code == 303
