"""The HTTP API for programs: who may do what, nothing twice, nothing left out, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from labeling_helpers import add_people, add_tasks, make_records
from sqlalchemy import func, select

from alignment.data.records import decode_record, encode_record
from labeling_app import guard, http_api, imports
from labeling_app.server import create_api
from labeling_app.store import audit, judging, queue, tokens
from labeling_app.store.database import Store, utcnow
from labeling_app.store.judging import Answer
from labeling_app.store.models import exported, exports, login_failures, tasks


def client_of(store: Store, *, write: bool = False, project: str | None = None) -> TestClient:
    with store.write() as tx:
        token = tokens.add_token(tx, utcnow(), "loop", can_write=write, project=project)
    client = TestClient(create_api(store), base_url="http://labels.test", follow_redirects=False)
    client.headers["Authorization"] = f"Bearer {token}"
    return client


def judge(store: Store, person: Any, ranks: list[int], **said: Any) -> None:
    now = utcnow()
    with store.write() as tx:
        task = queue.lease_task(tx, person["id"], now)
        assert task is not None
        key = f"submit-key-{task['public_id']}"
        judging.submit(tx, person, task["public_id"], key, 1, Answer(ranks, **said), now)


def lines(count: int, **options: Any) -> bytes:
    return b"\n".join(encode_record(record) for record in make_records(count, **options)) + b"\n"


def post(client: TestClient, body: bytes, kind: str = http_api.LINES[0], **query: Any) -> Any:
    headers = {"Content-Type": kind}
    return client.post("/v1/projects/default/tasks", content=body, headers=headers, params=query)


def test_tasks_in_and_judgments_out(any_store: Store) -> None:
    client = client_of(any_store, write=True)
    assert post(client, lines(3)).status_code == 404
    made = post(client, lines(3), create=True)
    assert (made.status_code, made.json()) == (
        200,
        {"project": "default", "added": 3, "present": 0, "left_out": {}, "personal": {}},
    )
    array = b"[" + b",".join(encode_record(record) for record in make_records(2, start=2)) + b"]"
    assert post(client, array, "application/json; charset=utf-8").json()["added"] == 1
    (project,) = client.get("/v1/projects").json()["projects"]
    assert (project["name"], project["asks"], project["overlap"]) == ("default", "ranking", 1)

    (anna,) = add_people(any_store, "anna")
    judge(any_store, anna, [2, 1, 1], rationale="It is true.")
    judge(any_store, anna, [1, 2, 3])
    progress = client.get("/v1/projects/default/progress").json()
    assert progress == {"project": "default", "tasks": 4, "done": 2, "judgments": 2, "wanted": 4}

    first = client.get("/v1/projects/default/judgments", params={"limit": 1}).json()
    (told,) = first["judgments"]
    assert (told["project"], told["task"], told["gold"]) == ("default", "record-0", False)
    said = told["judgment"]
    assert (said["by"], said["ranks"], said["rationale"]) == ("ann-anna", [2, 1, 1], "It is true.")
    second = client.get("/v1/projects/default/judgments", params={"after": first["next"]}).json()
    assert [one["task"] for one in second["judgments"]] == ["record-1"]
    nothing = client.get("/v1/projects/default/judgments", params={"after": second["next"]}).json()
    assert nothing == {"judgments": [], "next": second["next"]}

    answer = client.get("/v1/projects/default/export.jsonl")
    records = [decode_record(line, "export") for line in answer.content.splitlines()]
    assert [record.id for record in records] == ["record-0", "record-1"]
    assert records[0].completions[0].source.name == "secret-model-0"
    assert len(client.get("/v1/projects/default/export.jsonl?all=true").content.splitlines()) == 4
    with any_store.read() as connection:
        audit.verify(connection)
        actors = connection.scalars(select(exports.c.actor).order_by(exports.c.id)).all()
        assert actors == ["token/1"] * 4  # two pages with a judgment in them, two files
        held = connection.execute(select(exported.c.task_id).where(exported.c.export_id == 1)).all()
        assert held == [(1,)]


def test_who_may_what(store: Store) -> None:
    add_tasks(store, 1)
    imports.import_records(store, make_records(1), "other")
    writer, reader = client_of(store, write=True), client_of(store)
    bound = client_of(store, write=True, project="other")
    nobody = TestClient(create_api(store), base_url="http://labels.test")
    paths = ("", "/default/progress", "/default/judgments", "/default/export.jsonl?all=true")
    for path in paths:
        assert writer.get(f"/v1/projects{path}").status_code == 200
        assert reader.get(f"/v1/projects{path}").status_code == 200
        refused = nobody.get(f"/v1/projects{path}")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert nobody.get(f"/v1/projects{path}", headers={"Authorization": "Basic x"}).status_code == 401
        if path:
            assert bound.get(f"/v1/projects{path}").status_code == 404
    assert [one["name"] for one in bound.get("/v1/projects").json()["projects"]] == ["other"]
    assert post(nobody, lines(9)).status_code == 401
    assert post(reader, lines(9)).status_code == 403
    # A project of another token is not to be told from one that is not there.
    strange = bound.get("/v1/projects/nowhere/progress").json()
    assert bound.get("/v1/projects/default/progress").json() == strange
    for name in ("default", "nowhere"):
        answer = bound.post(
            f"/v1/projects/{name}/tasks?create=true",
            content=lines(9),
            headers={"Content-Type": http_api.LINES[0]},
        )
        assert answer.status_code == 404
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(tasks)) == 2


def test_a_session_is_no_token_and_a_token_no_session(store: Store) -> None:
    add_tasks(store, 1)
    client = client_of(store, write=True)
    assert client.get("/api/me").status_code == 401
    assert client.post("/api/next", json={}).status_code == 401
    assert client.get("/account").headers["location"] == "/login"


def test_a_token_ends(store: Store) -> None:
    add_tasks(store, 1)
    client = client_of(store)
    with store.write() as tx:
        tokens.revoke_token(tx, utcnow(), 1)
        brief = tokens.add_token(tx, utcnow() - timedelta(days=2), "brief", days=1)
    assert client.get("/v1/projects").status_code == 401
    client.headers["Authorization"] = f"Bearer {brief}"
    assert client.get("/v1/projects").status_code == 401


def test_guessing_a_token_is_braked_and_the_right_one_still_works(store: Store) -> None:
    add_tasks(store, 1)
    client = client_of(store)
    for number in range(tokens.MAX_BAD):
        wrong = client.get("/v1/projects", headers={"Authorization": f"Bearer akl_{number}"})
        assert wrong.status_code == 401
    braked = client.get("/v1/projects", headers={"Authorization": "Bearer akl_x"})
    assert braked.status_code == 429
    assert int(braked.headers["retry-after"]) > 0
    assert client.get("/v1/projects").status_code == 200
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(login_failures)) == tokens.MAX_BAD


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (b"[]", "application/json", 422, "no record"),
        (b"{}", "application/json", 422, "no JSON array"),
        (b'[{"prompt":[],"completoins":[]}]', "application/json", 422, 'mean "completions"'),
        (b'{"prompt":1}\n', "application/x-ndjson", 422, "Line 1: prompt"),
        (b"[]", "text/plain", 415, "application/json"),
        (b"[" + b" " * guard.MAX_API_BODY + b"]", "application/json", 413, "too large"),
    ],
)
def test_what_cannot_be_tasks_is_said(store: Store, body: bytes, kind: str, status: int, words: str) -> None:
    add_tasks(store, 1)
    answer = post(client_of(store, write=True), body, kind)
    assert (answer.status_code, words in answer.json()["message"]) == (status, True), answer.text


def test_a_batch_is_stored_whole_or_not_at_all(store: Store) -> None:
    add_tasks(store, 1)
    client = client_of(store, write=True)
    changed = make_records(1)
    changed[0].completions[0].content = "other words"
    body = lines(3, start=5) + encode_record(changed[0])
    answer = post(client, body)
    assert (answer.status_code, "another prompt" in answer.json()["message"]) == (422, True)
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(tasks)) == 1


def test_an_order_and_a_warning(store: Store) -> None:
    client = client_of(store, write=True)
    records = make_records(2)
    records[1].meta["urgency"] = 3
    records[0].prompt[0].content = "Write to ann@example.org, please."
    body = b"\n".join(encode_record(record) for record in records)
    answer = post(client, body, create=True, priority_from="meta.urgency").json()
    assert (answer["added"], answer["personal"]) == (2, {"EMAIL": 1})
    with store.read() as connection:
        first = connection.scalar(select(tasks.c.external_id).order_by(tasks.c.priority.desc()).limit(1))
    assert first == "record-1"
    assert post(client, body, priority_from="meta.tags").status_code == 422


def test_odd_questions(store: Store) -> None:
    add_tasks(store, 1)
    client = client_of(store)
    for query in ("after=-1", "after=x", "limit=0", "limit=100000"):
        answer = client.get(f"/v1/projects/default/judgments?{query}")
        assert (answer.status_code, query.split("=")[0] in answer.json()["message"]) == (422, True)
    assert client.get("/v1/projects/default/export.jsonl").status_code == 409
    assert client.get("/v1/projects/..%2f..%2fetc%2fpasswd/progress").status_code == 404
    assert client.get("/v1/projects/' OR 1=1 --/progress").status_code == 404


def test_an_edit_comes_as_a_revision_and_practice_not_at_all(store: Store) -> None:
    (anna,) = add_people(store, "anna")
    add_tasks(store, 1)
    now = utcnow()
    with store.write() as tx:
        task = queue.lease_task(tx, anna["id"], now)
        for revision, ranks in ((1, [1, 2, 3]), (2, [3, 2, 1])):
            key = f"submit-key-000-{revision}"
            judging.submit(tx, anna, task["public_id"], key, revision, Answer(ranks), now)
    client = client_of(store)
    told = client.get("/v1/projects/default/judgments").json()["judgments"]
    assert [one["judgment"]["revision"] for one in told] == [1, 2]
    assert [one["judgment"]["ranks"] for one in told] == [[1, 2, 3], [3, 2, 1]]
    with store.write() as tx:
        tx.execute(tasks.update().values(is_practice=True))
    assert client.get("/v1/projects/default/judgments").json()["judgments"] == []


def test_the_api_describes_itself(store: Store) -> None:
    client = TestClient(create_api(store), base_url="http://labels.test")
    described = client.get("/v1/openapi.json").json()
    assert described["openapi"].startswith("3.")
    assert set(described["paths"]) == {
        "/v1/projects",
        "/v1/projects/{name}/progress",
        "/v1/projects/{name}/tasks",
        "/v1/projects/{name}/judgments",
        "/v1/projects/{name}/export.jsonl",
    }
    for methods in described["paths"].values():
        for operation in methods.values():
            assert operation["security"] == [{"HTTPBearer": []}]
    page = client.get("/v1/docs")
    assert ("<script" in page.text, "`" in page.text) == (False, False)
    assert "unsafe" not in page.headers["content-security-policy"]
    for path in described["paths"]:
        assert path in page.text


def test_a_reader_misses_nothing_that_is_written_meanwhile(any_store: Store) -> None:
    found = add_people(any_store, *(f"worker-{number}" for number in range(4)))
    add_tasks(any_store, 10, overlap=4)
    client = client_of(any_store)

    def work(person: Any) -> None:
        for _ in range(10):
            judge(any_store, person, [1, 2, 3])

    told: list[tuple[str, str]] = []
    after, idle = 0, False
    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, person) for person in found]
        while not idle:
            idle = all(worker.done() for worker in workers)  # looked at before the last read
            page = client.get("/v1/projects/default/judgments", params={"after": after, "limit": 3}).json()
            told += [(one["task"], one["judgment"]["by"]) for one in page["judgments"]]
            idle = idle and not page["judgments"]
            after = page["next"]
        for worker in workers:
            worker.result()
    assert len(told) == len(set(told)) == 40


def test_two_that_add_the_same_tasks_add_them_once(any_store: Store) -> None:
    client = client_of(any_store, write=True)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: post(client, lines(20), create=True), range(2)))
    for answer in answers:
        assert answer.status_code in (200, 409)
    again = post(client, lines(20)).json()
    assert (again["added"], again["present"]) == (0, 20)
