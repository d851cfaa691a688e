"""Signing in through an OpenID provider that the test starts: who comes in, and every lie that is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from labeling_helpers import add_people, serving
from sqlalchemy import func, select
from typer.testing import CliRunner

from alignment.cli.label import app as command
from alignment.errors import UserError

pytest.importorskip("joserfc")
from joserfc.jwk import OctKey, RSAKey
from oidc_provider import CLIENT, SECRET, FakeProvider

from labeling_app import oidc
from labeling_app.auth import COOKIE
from labeling_app.server import create_api
from labeling_app.single_sign_on import OIDC_COOKIE
from labeling_app.store import audit, invitations, people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import annotators, sessions

SITE = "https://labels.test"


@pytest.fixture(scope="module")
def running() -> Iterator[FakeProvider]:
    fake = FakeProvider()
    with serving(fake.app) as fake.issuer:
        yield fake


@pytest.fixture
def fake(running: FakeProvider) -> FakeProvider:
    """The running provider, telling the truth again."""
    running.claims, running.header, running.answer, running.metadata = (
        {},
        {"alg": "RS256", "kid": "one"},
        {},
        {},
    )
    running.signing_key, running.published = running.key, [running.key]
    running.asked.clear()
    return running


def provider_of(fake: FakeProvider, **settings: Any) -> oidc.Provider:
    return oidc.Provider(oidc.Settings(fake.issuer, CLIENT, SECRET, "Example", **settings))


def client_of(store: Store, fake: FakeProvider, **settings: Any) -> TestClient:
    app = create_api(store, provider_of(fake, **settings))
    return TestClient(app, base_url=SITE, follow_redirects=False)


def go(client: TestClient, away: str) -> Any:
    """The browser at the provider and back."""
    back = httpx.get(away)
    assert back.status_code == 303
    return client.get(back.headers["location"])


def sign_on(client: TestClient) -> Any:
    return go(client, client.get("/oidc/start").headers["location"])


def sign_in(client: TestClient, store: Store, login: str) -> None:
    with store.write() as tx:
        row = people.find_login(tx, login)
        assert row is not None
        client.cookies.set(COOKIE, people.start_session(tx, utcnow(), row["id"]), domain="labels.test")


def how_many(store: Store, table: Any) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def address_in(page: str) -> str:
    """Where a page that goes on by itself goes."""
    return page.split("url=")[1].split('"')[0].replace("&amp;", "&")


def test_whoever_the_rule_lets_in_gets_an_account_and_comes_back_to_it(any_store: Store, fake: Any) -> None:
    client = client_of(any_store, fake, allowed=("@example.org",), role="reviewer")
    assert "Sign in with Example" in client.get("/login").text
    entered = sign_on(client)
    assert (entered.status_code, entered.headers["location"]) == (303, "/app/")
    assert client.get("/api/me").json() == {"login": "ada@example.org", "role": "reviewer"}
    fake.claims = {"email": "new@address.org"}  # the person is known by the subject
    again = client_of(any_store, fake)
    assert sign_on(again).status_code == 303
    assert again.get("/api/me").json()["login"] == "ada@example.org"
    with any_store.read() as connection:
        row = connection.execute(select(annotators)).mappings().one()
        assert audit.verify(connection) == 1
    assert (row["oidc_issuer"], row["oidc_subject"], row["password_hash"]) == (fake.issuer, "person-1", None)
    assert client.post("/login", data={"login": "ada@example.org", "password": ""}).status_code == 401
    assert "Change your password" not in client.get("/account").text


def test_what_the_provider_is_asked(store: Store, fake: Any) -> None:
    client = client_of(store, fake, allowed=("*",))
    start = client.get("/oidc/start?next=https://evil.test/&redirect_uri=https://evil.test/")
    cookie = start.headers["set-cookie"]
    assert all(flag in cookie for flag in ("HttpOnly", "Secure", "SameSite=lax", "Path=/oidc"))
    go(client, start.headers["location"])
    (asked,) = fake.asked
    assert asked["redirect_uri"] == f"{SITE}/oidc/callback"
    assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
    assert asked["code_challenge_method"] == "S256"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    assert "evil" not in str(asked)
    assert SECRET not in repr(client.app.state.provider.settings)


def test_a_new_session_and_an_end_to_what_the_browser_brought(store: Store, fake: Any) -> None:
    add_people(store, "ben")
    client = client_of(store, fake, allowed=("*",))
    sign_in(client, store, "ben")
    planted = client.cookies[COOKIE]
    entered = sign_on(client)
    assert client.cookies[COOKIE] != planted
    assert OIDC_COOKIE not in client.cookies
    assert all(flag in entered.headers["set-cookie"] for flag in ("HttpOnly", "Secure", "SameSite=lax"))
    assert client.get("/api/me").json()["login"] == "ada@example.org"
    client.cookies.clear()
    client.cookies.set(COOKIE, planted)
    assert client.get("/api/me").status_code == 401


@pytest.mark.parametrize(
    ("settings", "claims"),
    [
        ({}, {}),
        ({"allowed": ("@example.com",)}, {}),
        ({"allowed": ("@example.org",)}, {"email_verified": False}),
        ({"allowed": ("@example.org",)}, {"email_verified": "true"}),
        ({"allowed": ("@example.org",)}, {"email_verified": None}),
        ({"allowed": ("@example.org",)}, {"email": "ada@evil.example.org"}),
        ({"allowed": ("@example.org",)}, {"email": "ada@example.org@evil.test"}),
        ({"allowed": ("@example.org",)}, {"email": None}),
        ({"allowed": ("ada@example.org",)}, {"email": "eve@example.org"}),
    ],
)
def test_whoever_no_rule_lets_in_stays_out(store: Store, fake: Any, settings: Any, claims: Any) -> None:
    fake.claims = claims
    add_people(store, "ada@example.org")  # that the provider names the same address opens nothing
    client = client_of(store, fake, **settings)
    refused = sign_on(client)
    assert (refused.status_code, "you have no account here" in refused.text) == (403, True)
    assert COOKIE not in client.cookies
    assert (how_many(store, annotators), how_many(store, sessions)) == (1, 0)


def test_the_account_with_the_login_of_an_address_stays_closed_to_it(store: Store, fake: Any) -> None:
    add_people(store, "ada@example.org")
    client = client_of(store, fake, allowed=("ada@example.org",))
    assert sign_on(client).status_code == 303
    assert client.get("/api/me").json()["login"].startswith("ada@example.org-")


OTHER = RSAKey.generate_key(2048, {"kid": "one"})
LIES: dict[str, dict[str, Any]] = {
    "another nonce": {"claims": {"nonce": "x" * 43}},
    "no nonce": {"claims": {"nonce": None}},
    "another audience": {"claims": {"aud": "another client"}},
    "no audience": {"claims": {"aud": None}},
    "several audiences, made for another": {"claims": {"aud": [CLIENT, "b"], "azp": "b"}},
    "several audiences, made for nobody": {"claims": {"aud": [CLIENT, "b"]}},
    "made for another": {"claims": {"azp": "b"}},
    "another issuer": {"claims": {"iss": "https://evil.test"}},
    "no issuer": {"claims": {"iss": None}},
    "expired": {"claims": {"exp": int(time.time()) - 120}},
    "no end": {"claims": {"exp": None}},
    "not valid yet": {"claims": {"nbf": int(time.time()) + 3600}},
    "no subject": {"claims": {"sub": None}},
    "empty subject": {"claims": {"sub": ""}},
    "a subject that is no text": {"claims": {"sub": 1}},
    "a subject without end": {"claims": {"sub": "x" * 256}},
    "another key of the same name": {"signing_key": OTHER},
    "a key that is not known": {"signing_key": OTHER, "header": {"alg": "RS256", "kid": "two"}},
    "not signed": {"header": {"alg": "none"}},
    "signed with the client's secret": {
        "signing_key": OctKey.import_key(SECRET * 4),
        "header": {"alg": "HS256", "kid": "one"},
    },
    "signed by a key in the token": {
        "signing_key": OTHER,
        "header": {"alg": "RS256", "kid": "one", "jwk": OTHER.as_dict(private=False)},
    },
    "the answer of another issuer": {"answer": {"iss": "https://evil.test"}},
    "another state": {"answer": {"state": "x" * 43}},
    "no state": {"answer": {"state": ""}},
    "no code": {"answer": {"code": ""}},
    "another code": {"answer": {"code": "x" * 22}},
    "an error": {"answer": {"error": "server_error", "error_description": "<script>alert(1)</script>"}},
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(store: Store, fake: Any, lie: str) -> None:
    for name, value in LIES[lie].items():
        setattr(fake, name, value)
    client = client_of(store, fake, allowed=("*",))
    refused = sign_on(client)
    assert (refused.status_code, "You are not signed in" in refused.text) == (400, True)
    assert "<script>" not in refused.text
    assert COOKIE not in client.cookies
    assert OIDC_COOKIE not in client.cookies
    assert (how_many(store, annotators), how_many(store, sessions)) == (0, 0)


def test_one_of_several_audiences_will_do_and_keys_may_change(store: Store, fake: Any) -> None:
    client = client_of(store, fake, allowed=("*",))
    fake.claims = {"aud": [CLIENT, "b"], "azp": CLIENT}
    assert sign_on(client).status_code == 303
    fake.signing_key = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})
    fake.published, fake.header = [fake.key, fake.signing_key], {"alg": "RS256", "kid": "two"}
    assert sign_on(client).status_code == 400  # asked a moment ago
    client.app.state.provider._keys_at -= oidc.KEYS_SECONDS + 1
    assert sign_on(client).status_code == 303


def test_an_answer_counts_once_and_in_the_browser_that_asked(store: Store, fake: Any) -> None:
    client = client_of(store, fake, allowed=("*",))
    away = client.get("/oidc/start")
    cookie = client.cookies[OIDC_COOKIE]
    back = httpx.get(away.headers["location"]).headers["location"]
    other = TestClient(client.app, base_url=SITE, follow_redirects=False)
    assert other.get(back).status_code == 400
    other.get("/oidc/start")
    assert other.get(back).status_code == 400  # a sign-in of its own, but not this one
    assert client.get(back).status_code == 303
    client.cookies.set(OIDC_COOKIE, cookie, domain="labels.test", path="/oidc")
    assert client.get(back).status_code == 400  # replayed
    fresh = httpx.get(away.headers["location"]).headers["location"]
    assert client.get(fresh).status_code == 400  # a new code, an old state


def test_a_sign_in_does_not_wait_for_ever_and_its_cookie_cannot_be_made(
    store: Store, fake: Any, monkeypatch: Any
) -> None:
    client = client_of(store, fake, allowed=("*",))
    with monkeypatch.context() as patch:
        patch.setattr(oidc, "TRANSACTION_SECONDS", -1)
        away = client.get("/oidc/start").headers["location"]
    client.cookies.set(OIDC_COOKIE, forged(away), domain="labels.test", path="/oidc")
    assert go(client, away).status_code == 400
    for cookie in ("", "x", "a.b.c", "ä"):
        answer = client.get(
            "/oidc/callback?code=x&state=x", headers={"Cookie": f"{OIDC_COOKIE}={cookie}".encode()}
        )
        assert answer.status_code == 400


def forged(away: str) -> str:
    from joserfc import jwt

    state = httpx.URL(away).params["state"]
    claims = {
        "state": state,
        "nonce": "n",
        "verifier": "v",
        "redirect_uri": "r",
        "purpose": {"do": "sign in"},
    }
    return jwt.encode({"alg": "HS256"}, claims | {"exp": time.time() + 99}, OctKey.generate_key(256))


def test_cancelled(store: Store, fake: Any) -> None:
    fake.answer = {"code": "", "error": "access_denied"}
    answer = sign_on(client_of(store, fake))
    assert (answer.status_code, "was cancelled" in answer.text) == (400, True)


def test_a_closed_account_stays_closed(store: Store, fake: Any) -> None:
    client = client_of(store, fake, allowed=("*",))
    sign_on(client)
    with store.write() as tx:
        people.set_active(tx, utcnow(), "ada@example.org", False, "test")
    refused = sign_on(client)
    assert (refused.status_code, "account is closed" in refused.text) == (403, True)
    assert (how_many(store, annotators), how_many(store, sessions)) == (1, 0)


def test_an_account_is_linked_by_its_owner(store: Store, fake: Any) -> None:
    add_people(store, "anna", "ben")
    client = client_of(store, fake)
    assert client.post("/account/link").headers["location"] == "/login"
    sign_in(client, store, "anna")
    assert client.post("/account/link", headers={"Origin": "https://evil.test"}).status_code == 403
    page = client.post("/account/link")
    assert page.status_code == 200
    done = go(client, address_in(page.text))
    assert done.headers["location"] == "/account?done=linked"
    assert "You can sign in with Example" in client.get("/account").text
    client.cookies.clear()
    assert sign_on(client).status_code == 303
    assert client.get("/api/me").json()["login"] == "anna"
    sign_in(client, store, "ben")
    taken = go(client, address_in(client.post("/account/link").text))
    assert (taken.status_code, "linked to that person already" in taken.text) == (403, True)


def test_a_link_is_for_the_account_that_asked(store: Store, fake: Any) -> None:
    add_people(store, "anna", "ben")
    client = client_of(store, fake)
    sign_in(client, store, "anna")
    away = address_in(client.post("/account/link").text)
    sign_in(client, store, "ben")
    assert go(client, away).status_code == 403
    with store.read() as connection:
        assert connection.scalars(select(annotators.c.oidc_subject)).all() == [None, None]


def test_an_invitation_is_accepted_through_the_provider_once(store: Store, fake: Any) -> None:
    with store.write() as tx:
        token = invitations.invite(tx, utcnow(), "admin", 7, None)
    client = client_of(store, fake)
    client.get(f"/invite/{token}")
    page = client.get("/invite").text
    assert 'action="/invite/oidc"' in page
    away = address_in(client.post("/invite/oidc").text)
    assert token not in away
    assert go(client, away).status_code == 303
    assert client.get("/api/me").json() == {"login": "ada@example.org", "role": "admin"}
    fake.claims = {"sub": "person-2"}
    other = client_of(store, fake)
    other.get(f"/invite/{token}")
    assert go(other, address_in(other.post("/invite/oidc").text)).status_code == 403
    assert how_many(store, annotators) == 1


def test_names_of_people_become_logins(store: Store, fake: Any) -> None:
    client = client_of(store, fake, allowed=("*",))
    for number, (claims, login) in enumerate(
        [
            ({"preferred_username": "Ada Lovelace <script>"}, "ada.lovelace.script"),
            ({"preferred_username": None, "email": None, "name": "Zoë Ω"}, "zoë.ω"),
            ({"email": None, "name": "!!"}, "person"),
            ({"preferred_username": "x" * 300}, "x" * 80),
        ]
    ):
        fake.claims = {"sub": f"s{number}", **claims}
        assert sign_on(client).status_code == 303
        assert client.get("/api/me").json()["login"] == login


def test_a_provider_that_is_away_or_another_is_said(store: Store, fake: Any) -> None:
    away = oidc.Provider(oidc.Settings("http://127.0.0.1:9", CLIENT, SECRET))
    answer = TestClient(create_api(store, away)).get("/oidc/start", follow_redirects=False)
    assert (answer.status_code, "does not answer as it should" in answer.text) == (502, True)
    with pytest.raises(UserError, match="calls itself"):
        oidc.Provider(oidc.Settings(fake.issuer + "/", CLIENT, SECRET)).metadata()
    fake.metadata = {"token_endpoint": "http://evil.test/token"}
    with pytest.raises(UserError, match="token_endpoint is not https"):
        provider_of(fake).metadata()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"issuer": "http://login.example.org"}, "must be an https address"),
        ({"issuer": "https://"}, "must be an https address"),
        ({"role": "admin"}, "annotator or reviewer"),
        ({"allowed": ("example.org",)}, "no address"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, Any], words: str) -> None:
    right = {"issuer": "https://login.example.org", "client_id": "x", "client_secret": None}
    with pytest.raises(UserError, match=words):
        oidc.Provider(oidc.Settings(**{**right, **settings}))


def test_the_command_tells_what_is_missing(tmp_path: Path, fake: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv(oidc.SECRET_VARIABLE, raising=False)
    serve = ["serve", "--db", f"sqlite:///{tmp_path}/labels.db", "--port", "47", "--oidc-issuer"]
    monkeypatch.setattr("labeling_app.server.check_port", lambda host, port: None)
    for secret, arguments, words in (
        (None, [fake.issuer], "needs --oidc-client-id"),
        (None, [fake.issuer, "--oidc-client-id", "x"], "set ALIGNKIT_OIDC_CLIENT_SECRET"),
        ("", [fake.issuer + "/", "--oidc-client-id", "x"], "calls itself"),
    ):
        if secret is not None:
            monkeypatch.setenv(oidc.SECRET_VARIABLE, secret)
        result = CliRunner().invoke(command, serve + arguments)
        assert isinstance(result.exception, UserError)
        assert words in str(result.exception)
    assert not (tmp_path / "labels.db").exists()
