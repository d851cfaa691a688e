"""What people and programs write: signs of SQL, numbers without end, made-up ids; on both databases."""

from __future__ import annotations

import json
from typing import Any

import pytest
from labeling_helpers import add_tasks, make_records
from security_helpers import KEY, NoHashing, client_of, session_of
from sqlalchemy import select

from labeling_app import imports
from labeling_app.server import create_api
from labeling_app.store import invitations, tokens
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import annotators, assignments, judgments, sessions

HALF = "\ud800"  # of a character pair
NASTY = [
    "'; DROP TABLE judgments; --",
    '" OR "1"="1',
    "' UNION SELECT password_hash FROM annotators --",
    "%_%\\",
    ":name %(name)s ? $1 {0} {name}",
    "); DELETE FROM sessions; /*",
    "\x1a\\x00\r\n\t\x7f",
    "ﷺ\u202e\u0000",
    "x\x00y",
    HALF,
]


def send(client: Any, method: str, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    """JSON with every sign escaped: httpx refuses to send half a character."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    return client.request(method, path, content=json.dumps(body), headers=sent)


def test_signs_of_sql_are_only_signs(any_store: Store) -> None:
    """In every field of every route, on both databases: no fault, and what is stored is what was written."""
    app = create_api(any_store)
    app.state.passwords = NoHashing()
    add_tasks(any_store, 3 * len(NASTY))
    with any_store.write() as tx:
        tx.exec_driver_sql('UPDATE projects SET form = \'{"rationale": "optional", "rewrite": true}\'')
        bearer = {"Authorization": f"Bearer {tokens.add_token(tx, utcnow(), 'test', can_write=True)}"}
        invitation = invitations.invite(tx, utcnow(), "annotator", 7, None)
    people_before, kept = None, []
    for number, text in enumerate(NASTY):
        anna = client_of(app, session_of(any_store, "anna"), client=(f"198.51.100.{number}", 1))
        anna.cookies.set("alignkit_invitation", invitation, domain="labels.test", path="/invite")
        with any_store.read() as connection:
            people_before = connection.scalars(select(annotators.c.login)).all()
        plain = text.encode("utf-8", "replace").decode()
        for fields in ({"login": plain, "password": plain, "again": plain}, {"current": plain}):
            for path in ("/login", "/invite", "/account/password"):
                assert anna.post(path, data=fields).status_code in (401, 422, 429), (path, text)
        escaped = "".join(f"%{byte:02x}" for byte in plain.encode())
        for path in (
            f"/api/assignments/{escaped}",
            f"/api/assignments/{escaped}/guideline/1",
            f"/invite/{escaped}",
            f"/account?done={escaped}",
            f"/api/history?offset={escaped}",
            f"/oidc/callback?code={escaped}&state={escaped}",
            f"/v1/projects/{escaped}/progress",
            f"/v1/projects/default/judgments?after={escaped}",
        ):
            answer = anna.get(path, headers=bearer)
            assert answer.status_code in (200, 303, 404, 410, 422), (path, text)
        for path in ("consent", "warning", "practice", "project"):
            answer = {"version": "0" * 64, "agree": True} if path in ("consent", "warning") else {}
            status = send(anna, "POST", f"/api/start/{path}", {"project": text, **answer}).status_code
            assert status in (404, 409, 422), (path, text)
        task = send(anna, "POST", "/api/next", {}).json()["task"]
        path = f"/api/assignments/{task['id']}"
        draft = {"client_seq": 1, "payload": {"ranks": [1, 2, 3], text: text}}
        said = {"submit_key": f"{KEY}{number:03}", "ranks": [1, 2, 3], "rationale": text, "flag": text}
        said["edited_text"] = {"output": 0, "text": text}
        stays = 422 if text == HALF else 200
        assert send(anna, "PUT", f"{path}/draft", draft).status_code == stays
        if stays == 200:
            again = send(anna, "POST", "/api/next", {}).json()["task"]
            assert again["draft"]["payload"] == draft["payload"]
            kept.append(text)
        assert send(anna, "POST", f"{path}/judgment", said).status_code == stays
        path = f"/api/assignments/{send(anna, 'POST', '/api/next', {}).json()['task']['id']}"
        assert send(anna, "POST", f"{path}/skip", {"kind": "flag", "reason": text}).status_code == stays
        outputs = [{"content": text}, {"content": "b"}]
        record = {"prompt": [{"role": "user", "content": text}], "id": text, "completions": outputs}
        added = send(anna, "POST", "/v1/projects/default/tasks", [record], headers=bearer)
        assert added.status_code in (200, 422), (added.text, text)
    with any_store.read() as connection:
        stored = connection.execute(
            select(judgments.c.rationale, judgments.c.edited_text).order_by(judgments.c.id)
        ).all()
        assert connection.scalars(select(annotators.c.login)).all() == people_before == ["anna"]
        assert connection.scalar(select(sessions.c.token_hash)) is not None
    assert [(why.strip(), edit["text"]) for why, edit in stored] == [(text.strip(), text) for text in kept]


@pytest.mark.parametrize("number", [-1, 0, 2**31, 2**63, 10**30])
def test_numbers_that_no_database_holds(any_store: Store, number: int) -> None:
    app = create_api(any_store)
    add_tasks(any_store, 1)
    anna = client_of(app, session_of(any_store, "anna"))
    task = anna.post("/api/next", json={}).json()["task"]
    path = f"/api/assignments/{task['id']}"
    for field in ("revision", "seconds", "strength", "guideline_version"):
        if field != "seconds" or number < 0 or number > 2**31:
            body = {"submit_key": KEY, "ranks": [1, 2, 3], field: number}
            assert anna.post(f"{path}/judgment", json=body).status_code == 422, field
    assert anna.post(f"{path}/judgment", json={"submit_key": KEY, "ranks": [1, 2, number]}).status_code == 422
    assert anna.put(f"{path}/draft", json={"client_seq": number, "payload": {}}).status_code == 422
    assert anna.get(f"{path}/guideline/{number}").status_code == 422
    if number:
        assert anna.get(f"/api/history?offset={number}").status_code == 422


def test_ids_tell_nothing_and_cannot_be_counted_through(store: Store) -> None:
    app = create_api(store)
    imports.import_records(store, make_records(20))
    seen = set()
    for number in range(20):
        client = client_of(app, session_of(store, f"person-{number}"))
        answer = client.post("/api/next", json={})
        identity = answer.json()["task"]["id"]
        assert len(identity) == 16  # 96 bits
        assert "record-" not in answer.text
        seen.add(identity)
        for guess in ("1", str(number), identity[:-1], identity.upper(), identity + "0", identity + "%20"):
            assert client.get(f"/api/assignments/{guess}").status_code == 404
    assert len(seen) == 20
    assert len({identity[:8] for identity in seen}) == 20
    with store.read() as connection:
        hashes = connection.scalars(select(sessions.c.token_hash)).all()
        assert connection.scalars(select(assignments.c.public_id)).all() != []
    assert {len(one) for one in hashes} == {64}
