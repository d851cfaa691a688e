"""Every route of the application, found by walking it: refused without a session, with another person's, with
a lesser role, and nothing is changed. A new route that is not named as open here has to refuse, or it fails.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from labeling_helpers import add_tasks, make_records
from security_helpers import KEY, client_of, contents, filled, routes, session_of
from sqlalchemy import update

from alignment.data.files import write_records
from labeling_app import auth, imports
from labeling_app.store import people, tokens
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import sessions

# Open to everybody: signing in, invitations (their token says who), what browsers fetch, the API's docs.
OPEN = {
    ("GET", "/"),
    ("GET", "/favicon.ico"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("GET", "/invite/{token}"),
    ("GET", "/invite"),
    ("POST", "/invite"),
    ("POST", "/invite/oidc"),
    ("GET", "/oidc/start"),
    ("GET", "/oidc/callback"),
    ("GET", "/v1/docs"),
    ("GET", "/v1/openapi.json"),
    ("FILES", "/ui"),
}
# What an annotator may use. Everything else is for staff, or for programs with a token.
ANNOTATORS = {
    ("GET", "/account"),
    ("POST", "/account/password"),
    ("POST", "/account/sessions"),
    ("POST", "/account/link"),
    ("GET", "/api/me"),
    ("POST", "/api/next"),
    ("PUT", "/api/assignments/{public_id}/draft"),
    ("POST", "/api/assignments/{public_id}/heartbeat"),
    ("POST", "/api/assignments/{public_id}/judgment"),
    ("POST", "/api/assignments/{public_id}/skip"),
    ("GET", "/api/history"),
    ("GET", "/api/pace"),
    ("GET", "/api/pace"),
    ("GET", "/api/assignments/{public_id}"),
    ("GET", "/api/assignments/{public_id}/guideline/{version}"),
    ("POST", "/api/start/consent"),
    ("POST", "/api/start/warning"),
    ("POST", "/api/start/practice"),
    ("GET", "/api/start/projects"),
    ("POST", "/api/start/project"),
    ("GET", "/app/"),
    ("HEAD", "/app/"),
    ("GET", "/app/theme.css"),
    ("GET", "/app/static/{path:path}"),
    ("GET", "/app/assets/{path:path}"),
}
BODIES: dict[str, Any] = {
    "tasks": [],
    "draft": {"client_seq": 1, "payload": {"ranks": [1, 2, 3]}},
    "judgment": {"submit_key": KEY, "ranks": [1, 2, 3]},
}


@pytest.fixture
def app(server: tuple[Any, str], site: str) -> Any:
    """The whole application, with the pages that Gradio draws, on `store`."""
    return server[0]


def send(client: Any, method: str, path: str, **options: Any) -> Any:
    body = None if method in ("GET", "HEAD") else BODIES.get(path.rsplit("/", 1)[1], {})
    return client.request(method, path, json=body, **options)


def test_the_lists_name_routes_that_there_are(app: Any) -> None:
    assert set(routes(app)) >= OPEN | ANNOTATORS


def test_without_a_session_everything_else_is_refused(app: Any, store: Store) -> None:
    add_tasks(store, 2)
    task = client_of(app, session_of(store, "anna")).post("/api/next", json={}).json()["task"]
    made_up, expired, ended, closed = ("x" * 43, *(session_of(store, name) for name in ("ed", "eve", "cy")))
    with store.write() as tx:
        mine = sessions.c.token_hash == people.token_hash(expired)
        tx.execute(update(sessions).where(mine).values(expires_at=utcnow()))
        people.close_session(tx, ended)
        people.set_active(tx, utcnow(), "cy", False, "test")
    before = contents(store)
    strangers = [client_of(app, token) for token in (None, made_up, expired, ended, closed)]
    taken = []
    for method, path in sorted(set(routes(app)) - OPEN):
        for client in strangers:
            answer = send(client, method, filled(path, public_id=task["id"]))
            to_login = answer.status_code == 303 and answer.headers["location"] == "/login"
            no_write = answer.status_code == 405 and path.startswith("/app/") and method != "GET"
            if not (answer.status_code == 401 or to_login or no_write):
                taken.append((method, path, answer.status_code))
    assert taken == []
    assert contents(store) == before


def test_what_is_open_changes_nothing_for_a_stranger(app: Any, store: Store) -> None:
    add_tasks(store, 1)
    before = contents(store)
    for method, path in OPEN - {("FILES", "/ui")}:
        assert client_of(app).request(method, filled(path)).status_code < 500
    assert contents(store) == before


def test_another_persons_assignment_is_not_there(app: Any, store: Store) -> None:
    """Leased, judged and skipped; the same requests by its owner are answered."""
    add_tasks(store, 3, overlap=2)
    anna, ben = (client_of(app, session_of(store, login)) for login in ("anna", "ben"))
    of_one = sorted(one for one in ANNOTATORS if "{public_id}" in one[1])
    assert of_one == sorted(one for one in routes(app) if "{public_id}" in one[1])
    task = anna.post("/api/next", json={}).json()["task"]
    for state in ("leased", "judged", "skipped"):
        if state == "judged":
            assert send(anna, "POST", f"/api/assignments/{task['id']}/judgment").status_code == 200
        elif state == "skipped":
            task = anna.post("/api/next", json={}).json()["task"]
            assert send(anna, "POST", f"/api/assignments/{task['id']}/skip").status_code == 200
        before = contents(store)
        for method, path in of_one:
            answer = send(ben, method, filled(path, public_id=task["id"]))
            assert (answer.status_code, state) == (404, state), path
            assert "Question" not in answer.text
        assert contents(store) == before
    answers = {path: send(anna, method, filled(path, public_id=task["id"])) for method, path in of_one}
    assert {answer.status_code for answer in answers.values()} & {200, 409}


def test_an_annotator_is_refused_what_is_for_staff(app: Any, store: Store) -> None:
    add_tasks(store, 1)
    anna = client_of(app, session_of(store, "anna"))
    before = contents(store)
    for method, path in sorted(set(routes(app)) - OPEN - ANNOTATORS):
        status = send(anna, method, filled(path)).status_code
        if path.startswith("/v1/"):
            assert status == 401, path  # a session is no token
        elif path.startswith("/app/"):
            assert status in (404, 405), path  # what Gradio would serve, and no page of ours asks for
        else:
            assert status == 403, (method, path)
    assert contents(store) == before


def test_a_program_does_what_its_token_allows(app: Any, store: Store) -> None:
    add_tasks(store, 1)
    imports.import_records(store, make_records(1), project="other")
    admin = client_of(app, session_of(store, "boss", "admin"))
    with store.write() as tx:
        reads = tokens.add_token(tx, utcnow(), "reads")
        writes = tokens.add_token(tx, utcnow(), "writes", can_write=True)
        elsewhere = tokens.add_token(tx, utcnow(), "elsewhere", can_write=True, project="other")
        gone = tokens.add_token(tx, utcnow(), "gone", can_write=True)
        tokens.revoke_token(tx, utcnow(), 4)
    before = contents(store)
    of_programs = sorted(one for one in set(routes(app)) - OPEN if one[1].startswith("/v1/"))
    assert len(of_programs) >= 5
    for method, path in of_programs:

        def status(token: str, method: str = method, path: str = path) -> int:
            return send(admin, method, filled(path), headers={"Authorization": f"Bearer {token}"}).status_code

        assert status("akl_wrong") == status(gone) == 401, path
        if method != "GET":
            assert status(reads) == 403, path
        elif path.endswith("/progress"):
            assert status(reads) == status(writes) == 200, path
        if "{name}" in path:
            assert status(elsewhere) == 404, path
    assert contents(store) == before


# Admin pages whose handlers a reviewer may call; those of any other page, also a new one, are for admins.
REVIEWERS = {"", "progress", "agreement", "annotators", "bias", "review"}


def handlers(app: Any) -> dict[int, tuple[str, list[Any]]]:
    """Every function of the admin pages by its number: its page, and values as its inputs begin with."""
    (mounted,) = [route.app for route in app.routes if getattr(route, "path", "") == "/admin"]
    config = mounted.get_blocks().get_config_file()
    pages = {number: path for path, page in config["page"].items() for number in page["dependencies"]}
    first = {one["id"]: one["props"].get("value") for one in config["components"]}
    return {
        one["id"]: (pages[one["id"]], [first[number] for number in one["inputs"]])
        for one in config["dependencies"]
    }


def call(client: Any, number: int, values: list[Any], query: str = "") -> Any:
    body = {"data": values, "fn_index": number, "session_hash": "abc"}
    return client.post(f"/admin/gradio_api/run/predict{query}", json=body)


def test_every_handler_knows_whom_it_serves(app: Any, store: Store, monkeypatch: Any) -> None:
    """By number, as anybody could call: a stranger, an annotator with and without the guard, a reviewer."""
    add_tasks(store, 2)
    every = handlers(app)
    assert len(every) > 15
    tokens_of = {role: session_of(store, role, role) for role in ("annotator", "reviewer", "admin")}
    stranger, annotator, reviewer, admin = (
        client_of(app, token, raise_server_exceptions=False) for token in (None, *tokens_of.values())
    )
    before, served = contents(store), set()
    for number, (page, values) in every.items():
        assert call(stranger, number, values).status_code == 401
        assert call(annotator, number, values).status_code == 403
        with monkeypatch.context() as patch:
            patch.setattr(auth, "role_of", lambda *_: "admin")  # the guard is fooled; Gradio's door is not
            assert call(annotator, number, values).status_code == 401
        refused = call(reviewer, number, values)
        if refused.status_code == 200:
            served.add(page)
        else:
            assert "This is for admins." in refused.text, (page, refused.text)
    assert served == REVIEWERS
    assert contents(store) == before
    assert {call(admin, number, values).status_code for number, (_, values) in every.items()} == {200}


def test_an_upload_is_all_that_a_handler_reads(app: Any, store: Store, tmp_path: Path) -> None:
    """A path that the browser makes up is not opened, not told of and not deleted; a name leads nowhere."""
    secret = tmp_path / "secret.jsonl"
    write_records(secret, make_records(1, start=7))
    add_tasks(store, 1)
    admin = client_of(app, session_of(store, "boss", "admin"), raise_server_exceptions=False)
    before = contents(store)
    for path in (str(secret), "/etc/passwd", str(tmp_path / "labels.db"), "../../../../etc/passwd"):
        given = {"path": path, "orig_name": "x.jsonl", "meta": {"_type": "gradio.FileData"}}
        for number, (page, values) in handlers(app).items():
            if page == "records":
                for file in (given, path, [given], {**given, "url": f"file://{path}"}):
                    answer = call(admin, number, [file, *values[1:]] if values else [], "?project=1")
                    for words in ("secret-model", "root:", "Format:", "tasks added"):
                        assert words not in answer.text, (number, file)
    assert secret.exists()
    assert (tmp_path / "labels.db").exists()
    assert contents(store) == before
    for name in ("../../evil", "/tmp/evil", "..\\evil", "<img src=x onerror=xss()>", "a\x00b"):
        sent = admin.post("/admin/gradio_api/upload", files={"files": (name, b"{}")})
        assert sent.status_code in (200, 400, 422), name
        for at in sent.json() if sent.status_code == 200 else []:
            inside = Path(at).resolve()
            assert inside.is_relative_to(Path(tempfile.gettempdir(), "gradio").resolve()), name
            assert "<" not in inside.name
            inside.unlink()
    for role in ("reviewer", "annotator"):
        other = client_of(app, session_of(store, role, role))
        assert other.post("/admin/gradio_api/upload", files={"files": ("x", b"{}")}).status_code == 403, role


def test_the_annotate_page_has_no_event_and_serves_no_file(app: Any, store: Store) -> None:
    """Gradio answers whatever its Blocks has: there is nothing, and the guard lets nothing through to it."""
    (mounted,) = [route.app for route in app.routes if getattr(route, "path", "") == "/app"]
    blocks = mounted.get_blocks()
    assert blocks.fns == {}
    assert {type(block).__name__ for block in blocks.blocks.values()} <= {"HTML", "Column", "Row"}
    anna = client_of(app, session_of(store, "anna"))
    for path in (
        "config",
        "info",
        "gradio_api/info",
        "gradio_api/file=/etc/passwd",
        "gradio_api/heartbeat/x",
    ):
        assert anna.get(f"/app/{path}").status_code == 404, path
