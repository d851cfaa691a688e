"""Scores over HTTP and in files are those of the model; a stranger is turned away."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi.testclient import TestClient

import alignment.cli as cli
from alignment.backend import scoring
from alignment.backend.config import ModelSection
from alignment.backend.ensembles import Ensemble, write_ensemble
from alignment.backend.models import load_reward_model, load_tokenizer
from alignment.backend.scoring import HttpScorer, RewardScorer, load_scorer
from alignment.data.files import read_records, write_records
from alignment.data.records import Completion, Message, Record
from alignment.errors import UserError
from alignment.evaluation.answers import Answer, Prompt
from alignment.evaluation.judges import reward_judge
from alignment.stats.spread import disagreement
from reward.score import score_file
from reward.service import make_app, serve

PROMPTS = [[{"role": "user", "content": f"the cat {n}"}] for n in range(5)]
TEXTS = ["ran .", "sat on a mat", "", "a red hen", "the dog"]


@pytest.fixture(scope="module")
def ensemble(toy_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A reward model with three heads."""
    folder = tmp_path_factory.mktemp("heads")
    load_reward_model(ModelSection(path=toy_model), members=3).save_pretrained(folder)
    load_tokenizer(toy_model).save_pretrained(folder)
    write_ensemble(folder, Ensemble("heads", 3, [0.1, 0.0, -0.2]))
    return str(folder)


@pytest.fixture(scope="module")
def address(ensemble: str) -> Iterator[str]:
    app = make_app(load_scorer(ensemble, device="cpu", combine="worst"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_scores_over_http_are_those_of_the_model(
    address: str, ensemble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "AT_ONCE", 2)  # so that there are three requests
    local = load_scorer(ensemble, device="cpu", combine="worst")
    remote = load_scorer(address)
    assert isinstance(remote, HttpScorer)
    assert remote.name == ensemble
    ended = [True, False, True, True, False]
    assert remote.score(PROMPTS, TEXTS, ended) == pytest.approx(local.score(PROMPTS, TEXTS, ended), abs=1e-6)
    assert np.allclose(remote.members(PROMPTS, TEXTS), local.members(PROMPTS, TEXTS), atol=1e-6)
    assert remote.score([], []) == []
    judge = reward_judge(address)
    prompts = [Prompt(str(n), prompt, str(n)) for n, prompt in enumerate(PROMPTS)]
    answers = [Answer(text, True) for text in TEXTS]
    assert judge.scores(prompts, answers) == pytest.approx(local.score(PROMPTS, TEXTS), abs=1e-6)


def test_an_address_where_nothing_answers() -> None:
    with pytest.raises(UserError, match="cannot be reached"):
        load_scorer("http://127.0.0.1:9")


def test_what_the_service_refuses(ensemble: str) -> None:
    scorer = load_scorer(ensemble, device="cpu")
    client = TestClient(make_app(scorer, token="right"))
    good = {"Authorization": "Bearer right"}
    body = {"prompts": PROMPTS, "completions": TEXTS}
    assert client.get("/health").json() == {"name": ensemble, "members": 3}
    assert client.post("/score", json=body).status_code == 401
    assert client.post("/score", json=body, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert len(client.post("/score", json=body, headers=good).json()["scores"]) == 5
    for wrong in ({**body, "completions": TEXTS[:4]}, {**body, "finished": [True]}, {"prompts": PROMPTS}, {}):
        assert client.post("/score", json=wrong, headers=good).status_code == 422
    bare = client.post("/score", content=json.dumps(body), headers=good)
    assert bare.status_code == 422
    assert bare.json()["detail"] == "send JSON, with the header Content-Type: application/json"
    lacking = client.post("/score", json={"prompts": PROMPTS}, headers=good)
    assert lacking.json()["detail"] == "completions: Field required"
    many = {"prompts": [PROMPTS[0]] * 5000, "completions": ["a"] * 5000}
    assert client.post("/score", json=many, headers=good).status_code == 422
    without = client.post("/score", content=iter([json.dumps(body).encode()]), headers=good)
    assert without.status_code == 413
    kept = scorer.tokenizer.chat_template
    scorer.tokenizer.chat_template = "{{ raise_exception('no system turns') }}"
    refused = client.post("/score", json={"prompts": PROMPTS[:1], "completions": ["new"]}, headers=good)
    scorer.tokenizer.chat_template = kept
    assert refused.status_code == 422
    assert "no system turns" in refused.json()["detail"]


def test_the_client_bears_the_token(ensemble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(scoring.TOKEN, "right")
    monkeypatch.setattr(HttpScorer, "_ask", lambda *args: {"name": "it"})
    assert HttpScorer("http://x").client.headers["authorization"] == "Bearer right"


def test_strangers_need_a_token(ensemble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(scoring.TOKEN, raising=False)
    started: list[str] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, host, **options: started.append(host))
    with pytest.raises(UserError, match=scoring.TOKEN):
        serve(load_scorer(ensemble, device="cpu"), "0.0.0.0", 1)
    serve(load_scorer(ensemble, device="cpu"), "127.0.0.1", 1)
    monkeypatch.setenv(scoring.TOKEN, "x")
    serve(load_scorer(ensemble, device="cpu"), "0.0.0.0", 1)
    assert started == ["127.0.0.1", "0.0.0.0"]


def test_texts_that_come_again_are_not_read_again(ensemble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = load_scorer(ensemble, device="cpu", remember=3)
    assert isinstance(scorer, RewardScorer)
    read: list[int] = []
    forward = scorer._forward
    monkeypatch.setattr(scorer, "_forward", lambda batch: read.append(len(batch)) or forward(batch))
    first = scorer.score(PROMPTS, TEXTS)
    assert scorer.score(PROMPTS[2:], TEXTS[2:]) == first[2:]
    assert sum(read) == 5
    assert scorer.score(PROMPTS[:1], TEXTS[:1]) == pytest.approx(
        first[:1], abs=1e-5
    )  # the oldest was forgotten
    assert sum(read) == 6


@pytest.fixture
def records(tmp_path: Path) -> Path:
    turns = [Message("assistant", "one"), Message("user", "and"), Message("assistant", "two")]
    call = Message("assistant", "", tool_calls=[{"function": {"name": "f", "arguments": {}}}])
    write_records(
        tmp_path / "in.jsonl",
        [
            Record([Message("user", "a")], completions=[Completion(content=text) for text in TEXTS]),
            Record(
                [Message("user", "b")], completions=[Completion(messages=turns), Completion(messages=[call])]
            ),
            Record([Message("user", "c")]),
        ],
    )
    return tmp_path / "in.jsonl"


def test_a_file_with_rewards(records: Path, tmp_path: Path, ensemble: str) -> None:
    scorer = load_scorer(ensemble, device="cpu")
    found = score_file(scorer, records, tmp_path / "out.jsonl")
    assert (found["records"], found["completions"], found["scored"], found["members"]) == (3, 7, 6, 3)
    first, second, third = read_records([tmp_path / "out.jsonl"])
    prompt = [{"role": "user", "content": "a"}]
    rewards: Any = [completion.rewards for completion in first.completions]
    assert np.allclose(rewards, scorer.members([prompt] * 5, TEXTS), atol=1e-6)
    assert second.completions[1].rewards is None
    whole = [{"role": "user", "content": "b"}, {"role": "assistant", "content": "one"}]
    whole.append({"role": "user", "content": "and"})
    assert second.completions[0].rewards == pytest.approx(scorer.members([whole], ["two"])[0], abs=1e-6)
    assert third.completions == []
    assert found["disagreement"] == pytest.approx(disagreement(rewards))
    assert found["disagreement"] > 0


def test_the_commands(
    records: Path,
    tmp_path: Path,
    ensemble: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["alignkit", "reward", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    out = str(tmp_path / "out.jsonl")
    assert call("score", str(records), out, "--model", ensemble) == 0
    assert json.loads(capsys.readouterr().out)["scored"] == 6
    one = str(tmp_path / "one.jsonl")
    assert call("score", str(records), one, "--model", ensemble, "--combine", "worst") == 0
    assert json.loads(capsys.readouterr().out)["members"] == 1
    least, every = next(iter(read_records([one]))), next(iter(read_records([out])))
    for alone, members in zip(least.completions, every.completions, strict=True):
        assert alone.rewards == pytest.approx([min(members.rewards or [])], abs=1e-6)
    assert call("score", str(records), one, "--model", "http://127.0.0.1:9", "--combine", "mean") == 2
    capsys.readouterr()
    assert call("score", str(records), out, "--model", ensemble) == 2
    assert "exists" in capsys.readouterr().err
    assert call("score", str(tmp_path / "none.jsonl"), out, "--model", ensemble, "--overwrite") == 2
    capsys.readouterr()
    assert call(str(tmp_path / "no.yaml")) == 2  # a config, as ever
    assert "no config file" in capsys.readouterr().err
    started: list[Any] = []
    monkeypatch.setattr("reward.service.serve", lambda *given: started.append(given))
    assert call("serve", ensemble, "--combine", "uncertainty", "--penalty", "0.5") == 0
    scorer, host, port = started[0]
    assert (scorer.combine, scorer.penalty, host, port) == ("uncertainty", 0.5, "127.0.0.1", 8500)
