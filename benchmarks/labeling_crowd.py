"""Annotators for locust: each signs in, then does one thing every PACE seconds, as the annotate page does it.

    locust -f benchmarks/labeling_crowd.py --headless -H http://127.0.0.1:7860 -u 200 -r 5 -t 600

benchmarks/labeling.py starts this, and reads what it leaves in the folder CROWD_OUT: requests.json, every
request with its time, and journal.jsonl, one line for each judgment that the server has acknowledged.
A request that gets no answer, or a 5xx, is sent again after the page's pauses, a submit under its own key.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import re
import time
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import gevent
from locust import FastHttpUser, constant_pacing, events, task

OUT = Path(os.environ["CROWD_OUT"])
PACE = float(os.environ.get("CROWD_PACE", "8"))
PASSWORD = os.environ["CROWD_PASSWORD"]
PAUSES = (1, 2, 4, 8, 15)  # seconds, as in ui/sync.js
HEARTBEAT = 300  # seconds, as in ui/board.js
numbers = count()
requests: list[list[Any]] = []
journal = (OUT / "journal.jsonl").open("a", encoding="utf-8", buffering=1)
started = time.time()


@events.request.add_listener
def note(name: str, response_time: float, exception: Any, **_: Any) -> None:
    requests.append(
        [round(time.time() - started, 2), name, round(response_time, 2), exception and str(exception)]
    )


@atexit.register
def leave() -> None:
    (OUT / "requests.json").write_text(json.dumps(requests))


def is_whole(answer: Any, path: str) -> bool:
    """Whether all of the answer came: a server that is killed may have sent its head alone, and to the page,
    too, that is no answer."""
    if not path.startswith("/api/"):
        return True
    try:
        answer.json()
    except (ValueError, TypeError, OSError):
        return False
    return True


class Annotator(FastHttpUser):
    """One person at the annotate page. A task takes one to three changes of the ranks, then the submit."""

    wait_time = constant_pacing(PACE)
    network_timeout = connection_timeout = 20.0

    def on_start(self) -> None:
        self.number = next(numbers)
        self.dice = random.Random(self.number)
        self.work: dict[str, Any] | None = None
        self.sign_in()
        self.beat = time.time()
        self.next_task()
        gevent.sleep(self.dice.random() * PACE)

    def sign_in(self) -> None:
        """The login page and form, the annotate page with its scripts and styles, and who one is."""
        self.ask("GET", "/login", "login page")
        form = {"login": f"person{self.number}", "password": PASSWORD}
        self.ask("POST", "/login", "sign in", data=form, allow_redirects=False)
        page = self.ask("GET", "/app/", "annotate page").text or ""
        own = re.findall(r'(?:src|href)="(/ui/[^"]+)"', page)
        scripts = [f"/ui/{name}.js" for name in "dom drafts drag editor history keys panels settings".split()]
        for path in sorted({*own, *scripts}):
            self.ask("GET", path, "scripts and styles")
        self.ask("GET", "/api/me", "me")

    @task
    def act(self) -> None:
        """One action: a change of the ranks, a submit, or a look at what was judged before."""
        if self.work is None:
            self.next_task()
        elif self.changes:
            self.changes -= 1
            self.change_ranks()
        elif self.dice.random() < 0.05:
            self.ask("GET", "/api/history?offset=0", "history")
            self.next_task()
        else:
            self.submit()
        if time.time() - self.beat > HEARTBEAT and self.work is not None:
            self.beat = time.time()
            self.ask("POST", f"/api/assignments/{self.work['id']}/heartbeat", "heartbeat", json={})

    def next_task(self) -> None:
        self.work = self.ask("POST", "/api/next", "next task", json={}).json()["task"]
        if self.work is not None:
            self.changes = self.dice.randint(1, 3)
            self.sequence = (self.work["draft"] or {"client_seq": 0})["client_seq"]

    def change_ranks(self) -> None:
        self.sequence += 1
        payload = {**self.answer(), "rationale": "because " * self.dice.randint(0, 30)}
        body = {"client_seq": self.sequence, "revision": 1, "payload": payload}
        self.ask("PUT", f"/api/assignments/{self.work['id']}/draft", "draft", json=body)

    def submit(self) -> None:
        body = {"submit_key": str(uuid4()), "revision": 1, **self.answer()}
        name = self.work["id"]
        answer = self.ask("POST", f"/api/assignments/{name}/judgment", "submit", json=body)
        if answer.status_code == 200:
            line = {"login": f"person{self.number}", "task": name, "key": body["submit_key"]}
            journal.write(json.dumps({**line, "repeated": answer.json()["repeated"]}) + "\n")
        self.next_task()

    def answer(self) -> dict[str, Any]:
        outputs = len(self.work["outputs"])
        ranks = [self.dice.randint(1, outputs) for _ in range(outputs)]
        return {"ranks": ranks, "all_bad": False, "seconds": 20}

    def ask(self, method: str, path: str, name: str, **options: Any) -> Any:
        """Send until there is an answer that is no 5xx; every failure is noted under the request's name."""
        for attempt in count():
            with self.client.request(method, path, name=name, catch_response=True, **options) as answer:
                if 0 < answer.status_code < 400 and is_whole(answer, path):
                    answer.success()
                    return answer
                answer.failure(f"{answer.status_code} {answer.error or answer.text}"[:300])
            if 400 <= answer.status_code < 500 and answer.status_code != 429:
                return answer
            gevent.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
        raise AssertionError
