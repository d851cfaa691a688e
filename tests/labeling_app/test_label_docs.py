"""docs/labeling_admin.md is followed: its API calls run, its Python feeds and drains a server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from labeling_helpers import PASSWORD, add_people, make_records, run_label, serving
from webhook_receiver import receiving

from alignment.data.files import read_records
from alignment.data.records import encode_record
from labeling_app import webhooks
from labeling_app.server import create_api
from labeling_app.store import audit, forms
from labeling_app.store.database import Store

PAGE = (Path(__file__).parents[2] / "docs" / "labeling_admin.md").read_text()


def blocks(language: str, heading: str) -> list[str]:
    """The code of a language in the section of that heading."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading)]
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def address(store: Store) -> Iterator[str]:
    """A real server, with its thread that tells webhooks."""
    with serving(create_api(store)) as base, webhooks.delivering(store):
        yield base


def rank(base: str, count: int) -> None:
    """A person signs in as a browser does and judges: the second output is the better one."""
    with httpx.Client(base_url=base, headers={"Origin": base}, timeout=60) as client:
        client.post("/login", data={"login": "anna", "password": PASSWORD})
        for _ in range(count):
            task = client.post("/api/next", json={}).raise_for_status().json()["task"]
            better = [json.dumps(output["turns"]) for output in task["outputs"]]
            ranks = [1 + place for place in range(len(better))]
            body = {"submit_key": uuid4().hex, "ranks": ranks}
            client.post(f"/api/assignments/{task['id']}/judgment", json=body).raise_for_status()


def test_the_calls_by_curl(store: Store, address: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    feed, read = blocks("bash", "The HTTP API")
    assert "SERVER=http://127.0.0.1:7860" in feed
    here = tmp_path / "here"
    here.mkdir()
    command = f'#!/bin/sh\nexec {sys.executable} -m alignment.cli "$@"\n'
    (here / "alignkit").write_text(command)
    (here / "alignkit").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{here}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "ALIGNKIT_LABEL_DB": store.url.render_as_string(),
    }

    def run(script: str) -> str:
        script = script.replace("http://127.0.0.1:7860", address)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{script}\necho $TOKEN > token"],
            capture_output=True,
            text=True,
            cwd=here,
            env=environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = json.loads(run(feed))
    assert (said["project"], said["added"], said["personal"]) == ("loop", 2, {})
    add_people(store, "anna")
    rank(address, 2)
    environment |= {"SERVER": address, "TOKEN": (here / "token").read_text().strip()}
    said = run(read)
    assert '"done":2' in said
    assert said.count('"by":"ann-anna"') == 2
    assert [record.id for record in read_records(here / "ranked.jsonl")] == ["step-7-0", "step-7-1"]


def test_a_training_loop_feeds_and_drains(store: Store, address: str, monkeypatch: Any) -> None:
    """Records go in by the page's Python, a person judges, a webhook hears of it, the judgments come out."""
    token = run_label("token", "add", "loop", "--write", "--db", store.url.render_as_string()).strip()
    monkeypatch.setenv("SERVER", address)
    monkeypatch.setenv("TOKEN", token)
    loop: dict[str, Any] = {}
    for block in blocks("python", "The HTTP API"):
        exec(block, loop)
    add_people(store, "anna")
    seen, after = [], 0
    with receiving() as receiver:
        for step in range(3):
            records = [json.loads(encode_record(one)) for one in make_records(2, start=10 * step)]
            assert loop["feed"](records)["added"] == 2
            assert loop["feed"](records)["present"] == 2
            if step == 0:
                hook = ("webhook", "add", receiver.url, "--project", "loop")
                secret = run_label(*hook, "--db", store.url.render_as_string()).split()[-1]
            rank(address, 2)
            judgments, after = loop["drain"](after)
            assert [one["task"] for one in judgments] == [f"record-{10 * step}", f"record-{10 * step + 1}"]
            seen += judgments
        for _ in range(500):
            if len(receiver.got) == 6:
                break
            time.sleep(0.02)
    assert [json.loads(body)["judgment"] for _, body in receiver.got] == [one["judgment"] for one in seen]
    for headers, body in receiver.got:
        given = {name.title(): value for name, value in headers.items()}
        assert loop["is_ours"](secret, given, body)
        assert not loop["is_ours"](secret, given, body + b" ")
        assert not loop["is_ours"]("another", given, body)
    assert loop["drain"](after) == ([], after)
    with store.read() as connection:
        audit.verify(connection)


def test_the_form_and_the_commands_are_real() -> None:
    (form,) = blocks("yaml", "Projects")
    for asks in ("pair", "ratings"):
        given = yaml.safe_load(form)
        if asks != "pair":
            del given["strength"]
        assert forms.parse_form(asks, given).dimensions[0].name == "truth"
    commands = re.findall(r"alignkit label ((?:(?:project|user|token|webhook) )?[a-z-]+)", PAGE)
    assert len(set(commands)) > 15
    for command in sorted(set(commands)):
        assert "Usage" in run_label(*command.split(), "--help"), command
