"""The routes: who may do what, what is refused, what a browser gets to see."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from labeling_helpers import PASSWORD, add_people, add_tasks
from sqlalchemy import func, select, text

from labeling_app import api, guard
from labeling_app.auth import COOKIE
from labeling_app.server import create_api, create_app
from labeling_app.store import judging, people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import judgments, sessions

SITE = "http://labels.test"
KEY = "0123456789abcdef"


@pytest.fixture
def app(store: Store) -> Any:
    return create_api(store)


def client_of(app: Any, base: str = SITE) -> TestClient:
    return TestClient(app, base_url=base, follow_redirects=False)


def sign_in(store: Store, client: TestClient, login: str) -> TestClient:
    """A session made as the login route makes it, without the cost of hashing."""
    with store.write() as tx:
        row = people.find_login(tx, login)
        assert row is not None
        client.cookies.set(COOKIE, people.open_session(tx, utcnow(), row["id"], login, "test"))
    return client


@pytest.fixture
def anna(store: Store, app: Any) -> TestClient:
    add_people(store, "anna")
    return sign_in(store, client_of(app), "anna")


def put_next(client: TestClient) -> dict[str, Any]:
    return client.post("/api/next", json={}).json()


def judge(client: TestClient, task: dict[str, Any], **changes: Any):
    body = {"submit_key": KEY, "ranks": [1, 2, 3], "seconds": 1.5, **changes}
    return client.post(f"/api/assignments/{task['id']}/judgment", json=body)


def test_signing_in_and_out(store: Store, app: Any) -> None:
    add_people(store, "anna")
    client = client_of(app)
    page = client.get("/login")
    assert "Sign in" in page.text
    assert "unsafe" not in page.headers["content-security-policy"]
    wrong = client.post("/login", data={"login": 'anna"><script>alert(1)</script>', "password": "x"})
    assert (wrong.status_code, "<script>" in wrong.text) == (401, False)
    assert client.post("/login", data={}).status_code == 401
    right = client.post("/login", data={"login": "Anna", "password": PASSWORD})
    assert (right.status_code, right.headers["location"]) == (303, "/app/")
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert "secure" not in cookie.lower()
    assert client.get("/api/me").json() == {"login": "anna", "role": "annotator"}
    assert client.get("/login").status_code == 303
    assert client.post("/logout").headers["location"] == "/login"
    assert client.get("/api/me").status_code == 401
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(sessions)) == 0


def test_under_tls_the_cookie_is_secure_and_no_session_is_taken_over(store: Store, app: Any) -> None:
    add_people(store, "anna")
    client = client_of(app, "https://labels.test")
    client.cookies.set(COOKIE, "a token that somebody planted")
    answer = client.post("/login", data={"login": "anna", "password": PASSWORD})
    assert "Secure" in answer.headers["set-cookie"]
    assert "planted" not in answer.headers["set-cookie"]


def test_guessing_is_braked(store: Store, app: Any) -> None:
    add_people(store, "anna")
    client = client_of(app)
    with store.write() as tx:
        for _ in range(people.MAX_PER_LOGIN_AND_ADDRESS):
            people.count_attempt(tx, utcnow(), "anna", "testclient")
    braked = client.post("/login", data={"login": "anna", "password": PASSWORD})
    assert braked.status_code == 429
    assert 0 < int(braked.headers["retry-after"]) <= 301


def test_a_session_survives_a_restart_and_ends_when_it_should(store: Store, anna: TestClient) -> None:
    other = client_of(create_api(Store(store.url.render_as_string())))
    other.cookies = anna.cookies
    assert other.get("/api/me").status_code == 200
    with store.write() as tx:
        tx.execute(sessions.update().values(expires_at=utcnow() - timedelta(seconds=1)))
    assert anna.get("/api/me").status_code == 401


def test_an_inactive_account_is_out_at_once(store: Store, anna: TestClient) -> None:
    with store.write() as tx:
        tx.execute(text("UPDATE annotators SET active = false"))
    assert anna.get("/api/me").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/me"),
        ("POST", "/api/next"),
        ("PUT", "/api/assignments/x/draft"),
        ("POST", "/api/assignments/x/heartbeat"),
        ("POST", "/api/assignments/x/judgment"),
        ("POST", "/api/assignments/x/skip"),
        ("GET", "/api/assignments/x"),
        ("GET", "/api/assignments/x/guideline/1"),
        ("GET", "/api/history"),
        ("GET", "/api/pace"),
    ],
)
def test_every_route_of_the_api_asks_who_it_is(app: Any, method: str, path: str) -> None:
    routes = {route.path for route in api.router.routes}
    assert path.replace("/x", "/{public_id}").replace("/1", "/{version}") in routes
    assert len(routes) == 10  # a new route needs a line above
    answer = client_of(app).request(method, path, json={"client_seq": 1, "payload": {}})
    assert answer.status_code == 401


def test_writes_come_from_our_own_pages_as_json(store: Store, anna: TestClient) -> None:
    add_tasks(store, 1)
    path = "/api/next"
    for headers, status in (
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": SITE + ":81"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": SITE}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ):
        assert anna.post(path, json={}, headers=headers).status_code == status, headers
    assert anna.post(path, content="{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert anna.post("/login", data={"login": "x"}, headers={"Origin": "http://evil.test"}).status_code == 403


def test_a_large_body_is_refused(store: Store, anna: TestClient) -> None:
    add_tasks(store, 1)
    path = f"/api/assignments/{put_next(anna)['task']['id']}/draft"
    big = json.dumps({"client_seq": 1, "payload": {"x": "y" * guard.MAX_BODY}}).encode()
    json_type = {"Content-Type": "application/json"}
    assert anna.put(path, content=big, headers=json_type).status_code == 413
    assert anna.put(path, content=iter([big]), headers=json_type).status_code == 413  # no length announced


def test_a_task_shows_nothing_that_unblinds(store: Store, anna: TestClient) -> None:
    add_tasks(store, 3)
    answer = anna.post("/api/next", json={})
    assert "secret-model" not in answer.text
    assert "record-" not in answer.text
    task = answer.json()["task"]
    assert [output["letter"] for output in task["outputs"]] == ["A", "B", "C"]
    assert answer.json()["progress"] == {
        "done": 0,
        "left": 3,
        "left_is_more": False,
        "held": 0,
        "free_at": None,
    }
    assert answer.headers["cache-control"] == "no-store"


def test_ranks_go_to_the_outputs_that_were_shown(store: Store, anna: TestClient) -> None:
    add_tasks(store, 12)
    for number in range(12):
        task = put_next(anna)["task"]
        texts = [output["turns"][0]["text"] for output in task["outputs"]]  # "Answer n.ordinal"
        wanted = {"0": 2, "1": 1, "2": 3}
        ranks = [wanted[shown[-1]] for shown in texts]
        assert judge(anna, task, submit_key=f"{KEY}-{number}", ranks=ranks).status_code == 200
    assert put_next(anna)["task"] is None
    with store.read() as connection:
        assert connection.scalars(select(judgments.c.ranks)).all() == [[2, 1, 3]] * 12


def test_the_same_submit_again_is_answered_from_what_is_stored(store: Store, anna: TestClient) -> None:
    add_tasks(store, 1)
    task = put_next(anna)["task"]
    first, second = judge(anna, task).json(), judge(anna, task, ranks=[3, 3, 3]).json()
    assert (first["repeated"], second["repeated"]) == (False, True)
    assert first["saved_at"] == second["saved_at"]
    assert judge(anna, task, submit_key=KEY + "other").status_code == 409


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"ranks": [1, 2]}, 422),
        ({"ranks": [1, None, 2]}, 422),
        ({"ranks": [0, 1, 2]}, 422),
        ({"ranks": "123"}, 422),
        ({"seconds": -1}, 422),
        ({"seconds": "NaN"}, 422),
        ({"submit_key": "short"}, 422),
        ({"submit_key": "x' OR 1=1 --------"}, 422),
        ({"revision": 5}, 409),
        ({"surprise": 1}, 422),
    ],
)
def test_a_bad_judgment_stores_nothing(store: Store, anna: TestClient, changes: dict, status: int) -> None:
    add_tasks(store, 1)
    assert judge(anna, put_next(anna)["task"], **changes).status_code == status
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(judgments)) == 0


def test_another_persons_task_does_not_exist(store: Store, app: Any, anna: TestClient) -> None:
    add_people(store, "ben")
    add_tasks(store, 2)
    task = put_next(anna)["task"]
    ben = sign_in(store, client_of(app), "ben")
    path = f"/api/assignments/{task['id']}"
    assert judge(ben, task).status_code == 404
    assert ben.put(f"{path}/draft", json={"client_seq": 1, "payload": {}}).status_code == 404
    assert ben.post(f"{path}/heartbeat", json={}).status_code == 404
    assert ben.post(f"{path}/skip", json={}).status_code == 404


def test_drafts_come_back_and_skips_do_not(store: Store, anna: TestClient) -> None:
    add_tasks(store, 2)
    task = put_next(anna)["task"]
    path = f"/api/assignments/{task['id']}"
    assert anna.put(f"{path}/draft", json={"client_seq": 4, "payload": {"ranks": [1]}}).json() == {
        "live": True
    }
    again = put_next(anna)["task"]
    assert (again["id"], again["draft"]) == (task["id"], {"payload": {"ranks": [1]}, "client_seq": 4})
    assert anna.post(f"{path}/heartbeat", json={}).json() == {"live": True}
    assert anna.post(f"{path}/skip", json={}).status_code == 200
    other = put_next(anna)
    assert other["task"]["id"] != task["id"]
    assert (other["task"]["draft"], other["progress"]["left"]) == (None, 1)


def test_a_database_that_does_not_answer_is_said(store: Store, anna: TestClient, monkeypatch) -> None:
    """Locked, full or gone is 503, which the page shows as not saved; nothing is stored."""
    from sqlalchemy.exc import OperationalError

    add_tasks(store, 1)
    task = put_next(anna)["task"]

    def fail(*_args: Any) -> None:
        raise OperationalError("COMMIT", {}, Exception("database or disk is full"))

    with monkeypatch.context() as patch:
        patch.setattr(judging, "_count", fail)
        assert judge(anna, task).status_code == 503
    assert judge(anna, task).json()["repeated"] is False


def test_the_pages_need_a_session_and_take_no_writes(store: Store) -> None:
    add_people(store, "anna")
    app = create_app(store)
    client = client_of(app)
    assert client.get("/").headers["location"] == "/app/"
    asked = client.get("/app/", headers={"Accept": "text/html,*/*"})
    assert (asked.status_code, asked.headers["location"]) == (303, "/login")
    for path in ("/app/config", "/app/gradio_api/info", "/app/assets/x.js", "/app/theme.css"):
        assert client.get(path).status_code == 401, path
    sign_in(store, client, "anna")
    page = client.get("/app/", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    for path in ("/app/gradio_api/upload", "/app/gradio_api/queue/join", "/app/login"):
        assert client.post(path, json={}).status_code == 405, path
    for path in ("/ui/../server.py", "/ui/%2e%2e/server.py", "/ui/..%2fserver.py"):
        assert client.get(path).status_code == 404, path
    assert "javascript" in client.get("/ui/board.js").headers["content-type"]
    for path in ("/", "/login", "/account", "/app/", "/ui/board.js"):
        asked, headed = (client.request(verb, path, follow_redirects=False) for verb in ("GET", "HEAD"))
        assert (headed.status_code, headed.headers.keys()) == (asked.status_code, asked.headers.keys()), path
