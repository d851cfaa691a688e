"""A chat service: asked again while it fails, asked nothing twice, and its key told to nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chat_stub import chat_stub, says

from alignment.backend.chat_api import ChatApi, Journal
from alignment.errors import UserError

QUESTIONS = [[{"role": "user", "content": f"q{i}"}] for i in range(6)]


def test_what_fails_for_a_while_is_asked_again(tmp_path: Path) -> None:
    """Too many requests, an error, rubbish, an empty reply and one that never comes: the sixth is good."""
    troubles: dict[str, int] = {}

    def behave(body: dict[str, Any], number: int) -> Any:
        question = body["messages"][0]["content"]
        troubles[question] = troubles.get(question, 0) + 1
        return {
            1: (429, {"error": "slow down"}, {"retry-after": "0"}, 0.0),
            2: (503, "down", {}, 0.0),
            3: (200, "<html>", {}, 0.0),
            4: says(None),
            5: (200, {"choices": []}, {}, 1.0),
        }.get(troubles[question], says(question.upper()))

    with chat_stub(behave) as (url, stub):
        api = ChatApi(url, "m", timeout=0.5, attempts=6, pause=0.01)
        done: list[int] = []
        replies = api.ask(QUESTIONS[:2], Journal(tmp_path / "j.jsonl"), done.append, temperature=0.0)
    assert [row[0].text for row in replies] == ["Q0", "Q1"]
    assert len(stub.asked) == 12
    assert sum(done) == 2
    assert stub.asked[0]["model"] == "m"
    assert stub.asked[0]["temperature"] == 0.0


def test_a_service_that_dies_half_way_is_asked_nothing_twice(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"

    def dying(body: dict[str, Any], number: int) -> Any:
        return says("yes") if number <= 3 else (500, "dead", {}, 0.0)

    with chat_stub(lambda body, number: behave(body, number)) as (url, stub):
        behave = dying
        api = ChatApi(url, "m", attempts=2, concurrency=1, pause=0.01)
        with pytest.raises(UserError, match=r"no usable answer in 2 tries, the last one: 500 dead.*goes on"):
            api.ask(QUESTIONS, Journal(journal))
        with journal.open("ab") as file:
            file.write(b'{"key": "torn')  # the process died while it wrote
        asked = len(stub.asked)
        behave = lambda body, number: says("again")  # noqa: E731 - the service is back
        replies = api.ask(QUESTIONS, Journal(journal))
        assert len(stub.asked) == asked + 3
    assert [row[0].text for row in replies] == ["yes"] * 3 + ["again"] * 3


def test_refusals_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"the environment variable NO_KEY, .*is not set"):
        ChatApi("http://127.0.0.1:1/v1", "m", "NO_KEY")
    monkeypatch.setenv("A_KEY", "sesame")
    with chat_stub(lambda body, number: (401, "who are you", {}, 0.0)) as (url, stub):
        api = ChatApi(url, "m", "A_KEY", attempts=9)
        with pytest.raises(UserError, match=r"refused \(401\): who are you"):
            api.ask(QUESTIONS[:1], Journal(tmp_path / "j.jsonl"))
    assert len(stub.asked) == 1, "a refusal is not asked again"
    assert stub.headers[0]["Authorization"] == "Bearer sesame"
    assert "sesame" not in (tmp_path / "j.jsonl").read_text()
    with pytest.raises(UserError, match=r"ConnectError"):
        ChatApi("http://127.0.0.1:1/v1", "m", attempts=1).ask(QUESTIONS[:1], Journal(tmp_path / "k.jsonl"))
