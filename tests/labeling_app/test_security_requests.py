"""What a request may look like: where it comes from, how large it is, what is in it; and what answers say."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from labeling_helpers import PASSWORD, add_people, add_tasks
from security_helpers import SITE, NoHashing, client_of, contents, filled, routes, session_of
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from labeling_app.auth import COOKIE
from labeling_app.store import people, tokens
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import annotators, login_failures

GIGABYTE = 1 << 30
DRAFT = "/api/assignments/x/draft"
# What Gradio's admin pages listen to does not end, and this client waits for an end.
STREAMS = ("/admin/gradio_api/queue/data", "/admin/gradio_api/heartbeat/")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def app(server: tuple[Any, str], site: str) -> Any:
    return server[0]


# ---- other sites ----


def test_no_other_site_can_write_anything(app: Any, store: Store) -> None:
    """Every route that writes, by whoever may do most, however a browser could be made to send it."""
    add_tasks(store, 1)
    client = client_of(app, session_of(store, "boss", "admin"))
    task = client.post("/api/next", json={}).json()["task"]
    before = contents(store)
    writes = [one for one in routes(app) if one[0] not in ("GET", "HEAD", "FILES")]
    assert len(writes) > 20
    for method, path in writes:
        if path.startswith("/v1/"):
            continue  # known by its token alone, which no other site has
        here = filled(path, public_id=task["id"])
        for headers in (
            {"Origin": "http://evil.test"},
            {"Origin": "null"},
            {"Origin": f"{SITE}.evil.test"},
            {"Origin": f"{SITE}:81"},
            {"Origin": "http://labels.test@evil.test"},
            {"Origin": ""},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            status = client.request(method, here, json={}, headers=headers).status_code
            assert status in (403, 405), (method, path, headers)
        if path.startswith("/api/"):
            body = '{"submit_key":"0123456789abcdef","ranks":[1,2,3],"client_seq":1,"payload":{}}'
            for kind in ("text/plain", FORM["Content-Type"], "multipart/form-data; boundary=x", None):
                sent = {"Content-Type": kind} if kind else {}
                assert client.request(method, here, content=body, headers=sent).status_code == 415, path
    assert contents(store) == before


def test_no_other_site_can_read_anything(app: Any, store: Store) -> None:
    client = client_of(app, session_of(store, "boss", "admin"))
    for method, path in routes(app):
        if method == "GET" and not path.startswith(STREAMS):
            answer = client.get(filled(path), headers={"Origin": "http://evil.labels.test"})
            assert "access-control-allow-origin" not in answer.headers, path
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"


# ---- what every answer says ----


def test_every_answer_has_its_policy(app: Any, store: Store, monkeypatch: Any) -> None:
    add_tasks(store, 1)
    client = client_of(app, session_of(store, "boss", "admin"), raise_server_exceptions=False)
    answers = [
        client.request(method, filled(path), json={}) for method, path in routes(app) if method != "FILES"
    ]
    answers += [
        client_of(app).request(method, filled(path)) for method, path in routes(app) if method != "FILES"
    ]
    answers += [client.get(path) for path in ("/none", "/ui/board.js", "/ui/none", "/app/none", "/api/none")]
    answers.append(client.post("/api/next", content=b"x" * (2 << 20)))

    def broken(*_: Any) -> None:
        raise RuntimeError("a fault")

    def away(*_: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    client = client_of(app, session_of(store, "boss", "admin"), raise_server_exceptions=False)
    for fault, status in ((broken, 500), (away, 503)):
        with monkeypatch.context() as patch:
            patch.setattr(people, "session_annotator", fault)
            answers += (found := [client.get(path) for path in ("/api/me", "/app/")])
        assert [answer.status_code for answer in found] == [status, status]
        assert "fault" not in found[0].text
    assert {answer.status_code for answer in answers} >= {200, 303, 401, 404, 405, 413, 500, 503}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        drawn = answer.request.url.path.startswith(("/app", "/admin"))
        assert ("unsafe" in policy) == drawn, answer.request.url
        for wanted in ("default-src '", "connect-src 'self'", "frame-ancestors 'none'", "form-action 'self'"):
            assert wanted in policy, answer.request.url
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"


# ---- cookies, and the proxy ----


def sign_in(client: Any, **headers: str) -> Any:
    return client.post("/login", data={"login": "anna", "password": PASSWORD}, headers=headers)


def test_the_session_cookie(app: Any, store: Store) -> None:
    add_people(store, "anna")
    for base, secure in ((SITE, False), ("https://labels.test", True)):
        cookie = sign_in(client_of(app, base=base)).headers["set-cookie"]
        flags = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/", "max-age=604800"} <= flags
        assert ("secure" in flags) == secure
        assert "domain" not in cookie.lower()
        gone = client_of(app, base=base).post("/logout").headers["set-cookie"].lower()
        assert "httponly" in gone
        assert ("secure" in gone) == secure


def test_behind_a_proxy(app: Any, store: Store, site: str) -> None:
    """A real server: a proxy on this machine is believed, and nobody else."""
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    add_people(store, "anna")
    says = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "198.51.100.7"}
    answer = httpx.post(f"{site}/login", data={"login": "anna", "password": PASSWORD}, headers=says)
    assert "; Secure" in answer.headers["set-cookie"]
    app.state.passwords, hasher = NoHashing(), app.state.passwords
    httpx.post(f"{site}/login", data={"login": "ben"}, headers=says)
    liar = client_of(ProxyHeadersMiddleware(app, "127.0.0.1"), client=("203.0.113.9", 50000))
    liar.post("/login", data={"login": "ben"}, headers=says)
    app.state.passwords = hasher
    assert "secure" not in sign_in(liar, **says).headers["set-cookie"].lower()
    with store.read() as connection:
        addresses = connection.scalars(select(login_failures.c.address).order_by(login_failures.c.id)).all()
    assert addresses == ["198.51.100.7", "203.0.113.9"]


# ---- guessing ----


@pytest.fixture
def guess(app: Any, store: Store) -> Any:
    """guess(login, address): the status of a wrong password."""
    hasher, app.state.passwords = app.state.passwords, NoHashing()
    add_people(store, "anna", "ben")

    def guess(login: str, address: str) -> int:
        return client_of(app, client=(address, 50000)).post("/login", data={"login": login}).status_code

    yield guess
    app.state.passwords = hasher


def test_one_address_on_one_login(guess: Callable[[str, str], int]) -> None:
    tried = [guess(login, "198.51.100.1") for login in ("anna", "ANNA ", "anna", "Anna", "anna", "anna")]
    assert tried == [401] * people.MAX_PER_LOGIN_AND_ADDRESS + [429]
    assert guess("ben", "198.51.100.1") == 401
    assert guess("anna", "198.51.100.2") == 401


def test_one_address_on_many_logins(guess: Callable[[str, str], int]) -> None:
    for number in range(people.MAX_PER_ADDRESS):
        host = f"2001:db8::{number:x}"  # all of them one person's
        assert guess(f"somebody{number}", host) == 401
    assert guess("anna", "2001:db8::ffff:1") == 429
    assert guess("anna", "2001:db8:0:1::1") == 401


def test_many_addresses_on_one_login(guess: Callable[[str, str], int], monkeypatch: Any) -> None:
    monkeypatch.setattr(people, "MAX_PER_LOGIN", 12)
    assert [guess("anna", f"198.51.100.{number}") for number in range(13)] == [401] * 12 + [429]
    assert guess("ben", "198.51.100.1") == 401


def test_nothing_tells_which_logins_there_are(app: Any, store: Store, monkeypatch: Any) -> None:
    """Unknown, closed, without a password, wrong password: the same answer, after the same work."""
    from argon2 import PasswordHasher, extract_parameters

    add_people(store, "anna", "closed", "elsewhere")
    with store.write() as tx:
        people.set_active(tx, utcnow(), "closed", False, "test")
        tx.execute(annotators.update().where(annotators.c.login == "elsewhere").values(password_hash=None))
    verify, work = PasswordHasher.verify, []

    def counted(self: Any, hashed: str, password: str) -> bool:
        work.append(extract_parameters(hashed))
        return verify(self, hashed, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    answers = []
    for login in ("unknown", "closed", "elsewhere", "anna"):
        answer = client_of(app).post("/login", data={"login": login, "password": "wrong"})
        answers.append((answer.status_code, answer.text.replace(login, "LOGIN"), sorted(answer.headers)))
    assert len(work) == 4
    assert all(one == work[0] for one in work)
    assert all(one == answers[0] for one in answers)


# ---- size ----


def send_raw(base: str, head: str, body: bytes = b"", most: int = 0) -> tuple[str, int]:
    """What a real server answers, and how many bytes it took first: `body` is repeated up to `most`."""
    parts = urlsplit(base)
    sent = 0
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        connection.sendall(head.encode())
        connection.settimeout(0.01)
        answer = b""
        while sent < most:
            try:
                if answer := connection.recv(65536):
                    break
            except TimeoutError:
                pass
            except ConnectionError:
                break
            try:
                connection.settimeout(30)
                connection.sendall(body)
                sent += len(body)
            except OSError:
                break
            connection.settimeout(0.001)
        connection.settimeout(30)
        try:
            while not answer or b"\r\n\r\n" not in answer:
                more = connection.recv(65536)
                if not more:
                    break
                answer += more
        except OSError:
            pass
    return answer.decode("latin-1"), sent


@pytest.mark.parametrize("path", ["/admin/gradio_api/upload", DRAFT, "/login", "/v1/projects/default/tasks"])
def test_a_gigabyte_is_refused_before_it_is_taken(site: str, store: Store, path: str) -> None:
    """Announced or in chunks without end; nothing of it is kept, in memory or on the disk."""
    add_tasks(store, 1)
    with store.write() as tx:
        bearer = tokens.add_token(tx, utcnow(), "test", can_write=True)
    kind = "multipart/form-data; boundary=x" if "upload" in path else "application/json"
    kind = FORM["Content-Type"] if path == "/login" else kind
    session = session_of(store, "boss", "admin")
    head = (
        f"{'PUT' if path == DRAFT else 'POST'} {path} HTTP/1.1\r\nHost: x\r\nCookie: {COOKIE}={session}\r\n"
        f"Authorization: Bearer {bearer}\r\nContent-Type: {kind}\r\n"
    )
    files = set(Path(tempfile.gettempdir()).glob("tmp*"))
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\n' + b"a" * 65536
    answer, _ = send_raw(site, f"{head}Content-Length: {GIGABYTE}\r\n\r\n")
    assert " 413 " in answer.split("\r\n")[0]
    chunk = f"{len(part):x}\r\n".encode() + part + b"\r\n"
    answer, sent = send_raw(site, f"{head}Transfer-Encoding: chunked\r\n\r\n", chunk, GIGABYTE)
    assert answer.split(" ")[1] == ("411" if path.startswith("/admin") else "413")
    assert sent < 40 << 20  # what /v1 takes, and what lies in sockets on the way
    assert set(Path(tempfile.gettempdir()).glob("tmp*")) <= files


# ---- paths ----


def test_no_path_leads_out(site: str, store: Store, tmp_path: Path) -> None:
    """Sent as they are, which no HTTP library would do, by whoever may do most."""
    token = session_of(store, "boss", "admin")
    inside = [
        "../server.py",
        "%2e%2e/server.py",
        "..%2fserver.py",
        "..%5cserver.py",
        "....//server.py",
        "%252e%252e/server.py",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "../../../../../../etc/passwd",
        "%00",
        "board.js%00.css",
        "C:/windows/win.ini",
        "~/.ssh/id_rsa",
    ]
    roots = ["/ui/", "/app/static/", "/app/assets/", "/admin/static/", "/admin/assets/"]
    files = [
        str(tmp_path / "labels.db"),
        "/etc/passwd",
        "../../etc/passwd",
        "/proc/self/environ",
        "labels.db",
    ]
    gradio = ["file=", "file/", "proxy=", "custom_component/x/", "stream/"]
    asked = [root + path for root in roots for path in inside]
    asked += [
        f"/{area}{middle}{name}{path}"
        for area in ("app", "admin")
        for middle in ("/gradio_api/", "/assets/../gradio_api/", "//gradio_api/")
        for name in gradio
        for path in (*files, "http://127.0.0.1:1/")
    ]
    for path in asked:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nCookie: {COOKIE}={token}\r\n\r\n"
        answer, _ = send_raw(site, head)
        status = answer.split(" ")[1]
        assert status in ("400", "401", "403", "404", "405", "422", "307"), (path, answer[:200])
        assert "root:" not in answer
        assert "SQLite" not in answer
