"""What a project's form asks for: refused when it is wrong, and every judgment checked against it."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from labeling_helpers import add_people, add_tasks
from sqlalchemy import func, select, update

from alignment.errors import UserError
from labeling_app.auth import COOKIE
from labeling_app.server import create_api
from labeling_app.store import people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.forms import parse_form
from labeling_app.store.models import assignments, drafts, flags, guidelines, judgments, projects

HELPFUL = {"name": "helpful", "label": "Helpful", "low": 1, "high": 5}
KEY = "0123456789abcdef"


@pytest.fixture
def anna(store: Store) -> TestClient:
    add_people(store, "anna")
    client = TestClient(create_api(store), base_url="http://labels.test")
    with store.write() as tx:
        row = people.find_login(tx, "anna")
        assert row is not None
        client.cookies.set(COOKIE, people.open_session(tx, utcnow(), row["id"], "anna", "test"))
    return client


def ask(store: Store, asks: str, form: dict[str, Any], outputs: int = 2, count: int = 1) -> None:
    add_tasks(store, count, outputs=outputs)
    with store.write() as tx:
        tx.execute(update(projects).values(asks=asks, form=form))


def put_next(client: TestClient) -> dict[str, Any]:
    return client.post("/api/next", json={}).json()["task"]


def judge(client: TestClient, task: dict[str, Any], **body: Any) -> Any:
    return client.post(f"/api/assignments/{task['id']}/judgment", json={"submit_key": KEY, **body})


def stored(store: Store) -> tuple[Any, list[int]]:
    with store.read() as connection:
        row = connection.execute(select(judgments).order_by(judgments.c.id.desc())).mappings().first()
        order = connection.scalar(select(assignments.c.presented_order))
    assert row is not None
    return row, order or []


@pytest.mark.parametrize(
    ("asks", "form", "message"),
    [
        ("stars", {}, "none of ranking, pair, ratings"),
        ("ranking", {"surprise": 1}, "surprise"),
        ("ranking", {"rationale": "maybe"}, "rationale"),
        ("ranking", {"strength": 2}, "pair projects"),
        ("pair", {"strength": 4}, "strength"),
        ("ratings", {}, "at least one dimension"),
        ("ratings", {"dimensions": [HELPFUL, HELPFUL]}, 'two dimensions called "helpful"'),
        ("ratings", {"dimensions": [{**HELPFUL, "low": 5}]}, "less than high"),
        ("ratings", {"dimensions": [{**HELPFUL, "high": 11}]}, "at most 10"),
        ("ratings", {"dimensions": [{**HELPFUL, "name": " "}]}, "1 to 40"),
        ("ratings", {"dimensions": [{**HELPFUL, "label": "x" * 81}]}, "80 characters"),
        ("ratings", {"dimensions": [{**HELPFUL, "name": f"d{n}"} for n in range(9)]}, "9 dimensions"),
    ],
)
def test_a_wrong_form_is_refused(asks: str, form: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_form(asks, form)


def test_everything_that_is_asked_is_stored_by_ordinal(store: Store, anna: TestClient) -> None:
    form = {"dimensions": [HELPFUL], "rationale": "required", "rewrite": True}
    ask(store, "ranking", form, outputs=3)
    task = put_next(anna)
    assert task["asks"] == "ranking"
    assert task["form"]["dimensions"][0] == {**HELPFUL, "low_label": "", "high_label": ""}
    answer = judge(
        anna,
        task,
        ranks=[2, 1, 3],
        ratings={"helpful": [4, 5, 1]},
        rationale="  Because.  ",
        edited_text={"output": 1, "text": "Better."},
        flag="A person's address is shown.",
        seconds=3,
    )
    assert answer.status_code == 200, answer.text
    row, order = stored(store)
    assert [row["ranks"][ordinal] for ordinal in order] == [2, 1, 3]
    assert [row["ratings"]["helpful"][ordinal] for ordinal in order] == [4, 5, 1]
    assert row["rationale"] == "Because."
    assert row["edited_text"] == {"from": order[1], "text": "Better."}
    with store.read() as connection:
        flag = connection.execute(select(flags.c.kind, flags.c.reason)).one()
    assert tuple(flag) == ("flag", "A person's address is shown.")


RATED = {"dimensions": [HELPFUL], "rationale": "required", "rewrite": True}
WHOLE = {"ranks": [1, 2], "ratings": {"helpful": [1, 5]}, "rationale": "so"}
PAIR = {"strength": 3}


@pytest.mark.parametrize(
    ("asks", "form", "body", "status"),
    [
        ("ranking", RATED, WHOLE, 200),
        ("ranking", RATED, {**WHOLE, "rationale": " \n"}, 422),
        ("ranking", RATED, {**WHOLE, "rationale": "x" * 20_001}, 422),
        ("ranking", RATED, {**WHOLE, "ratings": {}}, 422),
        ("ranking", RATED, {**WHOLE, "ratings": {"helpful": [1, None]}}, 422),
        ("ranking", RATED, {**WHOLE, "ratings": {"helpful": [0, 5]}}, 422),
        ("ranking", RATED, {**WHOLE, "ratings": {"helpful": [1, 6]}}, 422),
        ("ranking", RATED, {**WHOLE, "ratings": {"helpful": [1]}}, 422),
        ("ranking", RATED, {**WHOLE, "ratings": {"helpful": [1, 5], "x": [1, 1]}}, 422),
        ("ranking", RATED, {**WHOLE, "edited_text": {"output": 2, "text": "x"}}, 422),
        ("ranking", RATED, {**WHOLE, "edited_text": {"output": 0, "text": " "}}, 422),
        ("ranking", RATED, {**WHOLE, "flag": " "}, 422),
        ("ranking", RATED, {"ranks": [None, None], "all_bad": True, "rationale": "both lie"}, 200),
        ("ranking", {}, {"ranks": [1, 2], "edited_text": {"output": 0, "text": "x"}}, 422),
        ("ranking", {}, {"ranks": [1, 2], "strength": 1}, 422),
        ("ratings", {"dimensions": [HELPFUL]}, {"ranks": [None, None], "ratings": {"helpful": [1, 2]}}, 200),
        ("ratings", {"dimensions": [HELPFUL]}, {"ranks": [1, None], "ratings": {"helpful": [1, 2]}}, 422),
        ("ratings", {"dimensions": [HELPFUL]}, {"ranks": [None, None], "all_bad": True}, 422),
        ("pair", PAIR, {"ranks": [1, 2], "strength": 3}, 200),
        ("pair", PAIR, {"ranks": [1, 1]}, 200),
        ("pair", PAIR, {"ranks": [1, 1], "strength": 1}, 422),
        ("pair", PAIR, {"ranks": [1, 2]}, 422),
        ("pair", {"strength": 2}, {"ranks": [1, 2], "strength": 3}, 422),
        ("pair", PAIR, {"ranks": [1, 2], "strength": 4}, 422),
        ("pair", PAIR, {"ranks": [None, None], "all_bad": True}, 200),
        ("pair", {}, {"ranks": [2, 1]}, 200),
    ],
)
def test_judgments_are_checked_against_the_form(
    store: Store, anna: TestClient, asks: str, form: dict[str, Any], body: dict[str, Any], status: int
) -> None:
    ask(store, asks, form)
    answer = judge(anna, put_next(anna), **body)
    assert answer.status_code == status, answer.text
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(judgments)) == (status == 200)
        if status != 200:
            assert connection.scalar(select(func.count()).select_from(flags)) == 0


def test_a_skip_keeps_its_reason_once(store: Store, anna: TestClient) -> None:
    add_tasks(store, 4)
    sent = [
        {"kind": "flag", "reason": "cut off"},
        {"kind": "content"},
        {"kind": "skip", "reason": "not my field"},
        {},
    ]
    for body in sent:
        path = f"/api/assignments/{put_next(anna)['id']}/skip"
        assert anna.post(path, json={"kind": "flag", "reason": " "}).status_code == 422
        assert anna.post(path, json=body).status_code == 200
        assert anna.post(path, json=body).status_code == 200
    with store.read() as connection:
        rows = connection.execute(select(flags.c.kind, flags.c.reason).order_by(flags.c.id)).all()
    assert [tuple(row) for row in rows] == [("flag", "cut off"), ("content", None), ("skip", "not my field")]


def test_history_opens_and_an_edit_is_a_new_revision(store: Store, anna: TestClient) -> None:
    ask(store, "ranking", {"dimensions": [HELPFUL], "rewrite": True}, outputs=3, count=2)
    said = {"ranks": [2, 1, 3], "ratings": {"helpful": [4, 5, 1]}, "edited_text": {"output": 2, "text": "x"}}
    first = put_next(anna)
    assert judge(anna, first, **said, rationale="so").status_code == 200
    listed = anna.get("/api/history").json()
    assert listed["more"] is False
    (line,) = listed["judged"]
    assert (line["id"], line["ranks"], line["revision"], line["editable"]) == (
        first["id"],
        [2, 1, 3],
        1,
        True,
    )
    assert "record-" not in str(listed)
    opened = anna.get(f"/api/assignments/{first['id']}").json()
    assert {key: opened["judgment"][key] for key in (*said, "rationale")} == {**said, "rationale": "so"}
    assert [output["turns"] for output in opened["task"]["outputs"]] == [o["turns"] for o in first["outputs"]]
    assert "secret-model" not in str(opened)

    draft = {"client_seq": 1, "revision": 2, "payload": {"ranks": [1, 1, 1]}}
    path = f"/api/assignments/{first['id']}"
    assert anna.put(f"{path}/draft", json={**draft, "revision": 1}).status_code == 409
    assert anna.put(f"{path}/draft", json=draft).json() == {"live": True}
    assert anna.get("/api/history").json()["judged"][0]["draft"] is True
    assert judge(anna, first, **said).json()["repeated"] is True
    changed = {**said, "ranks": [1, 1, 1], "submit_key": KEY + "2", "revision": 2}
    assert judge(anna, first, **changed).json()["revision"] == 2
    assert judge(anna, first, **{**changed, "submit_key": KEY + "3"}).status_code == 409
    row, _ = stored(store)
    assert (row["revision"], row["ranks"]) == (2, [1, 1, 1])
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(drafts)) == 0
    assert anna.get("/api/history?offset=1").json() == {"judged": [], "more": False}
    assert anna.get("/api/history?limit=0").status_code == 422


def test_what_is_another_persons_or_not_judged_is_not_opened(store: Store, anna: TestClient) -> None:
    add_tasks(store, 1)
    task = put_next(anna)
    assert anna.get(f"/api/assignments/{task['id']}").status_code == 404
    assert judge(anna, task, ranks=[1, 2, 3]).status_code == 200
    add_people(store, "ben")
    with store.write() as tx:
        ben = people.find_login(tx, "ben")
        assert ben is not None
        token = people.open_session(tx, utcnow(), ben["id"], "ben", "test")
    anna.cookies.clear()
    anna.cookies.set(COOKIE, token)
    assert anna.get(f"/api/assignments/{task['id']}").status_code == 404
    assert anna.get(f"/api/assignments/{task['id']}/guideline/1").status_code == 404
    assert anna.get("/api/history").json()["judged"] == []


def test_an_earlier_guideline_can_be_read(store: Store, anna: TestClient) -> None:
    add_tasks(store, 1)
    with store.write() as tx:
        project = tx.scalar(select(projects.c.id))
        tx.execute(guidelines.delete())
        for version, words in ((1, "*old*"), (2, "new")):
            row = {"project_id": project, "version": version, "text": words, "created_at": utcnow()}
            tx.execute(guidelines.insert().values(**row))
        tx.execute(update(projects).values(guideline="new", guideline_version=2))
    task = put_next(anna)
    assert (task["guideline"]["version"], task["guideline"]["older"]) == (2, [1])
    old = anna.get(f"/api/assignments/{task['id']}/guideline/1").json()
    assert "<em>old</em>" in old["html"]
    assert anna.get(f"/api/assignments/{task['id']}/guideline/9").status_code == 404
