"""Chat completions from a service that speaks OpenAI's protocol (vLLM, llama.cpp, Ollama, OpenAI, …).

POST URL/chat/completions {"model", "messages", …} -> {"choices": [{"message": {…}, "finish_reason"}]}.
Every reply is in a journal on disk before it is used: what broke off half way asks nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from alignment.errors import UserError

Messages = Sequence[dict[str, Any]]
AGAIN = (408, 409, 425, 429)  # and whatever is 500 or above: worth another try
LONGEST_WAIT = 60.0  # seconds between two tries


class Reply(NamedTuple):
    """What was answered; whether it ended by itself; seconds it took, tries and waits left out."""

    text: str
    finished: bool | None
    seconds: float


class Journal:
    """Replies by key in a JSON-lines file, each on disk as soon as it is there. Threads may share one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._known: dict[str, Reply] = {}
        kept = []
        if path.exists():
            # A line without an end was being written when the process died.
            kept = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
            for line in kept:
                entry = json.loads(line)
                self._known[entry["key"]] = Reply(entry["text"], entry["finished"], entry["seconds"])
        self._file = path.open("r+b" if path.exists() else "wb")
        self._file.seek(sum(map(len, kept)))
        self._file.truncate()

    def get(self, key: str) -> Reply | None:
        """The reply to a question that was asked before."""
        return self._known.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply."""
        line = json.dumps({"key": key, **reply._asdict()}, ensure_ascii=False) + "\n"
        with self._lock:
            self._file.write(line.encode("utf-8", "surrogatepass"))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._known[key] = reply


def question_key(*parts: Any) -> str:
    """A hash of what is asked of whom, the same in every process."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class ChatApi:
    """One model behind one address.

    url: up to the version, such as http://localhost:8000/v1. key_env: the environment variable that holds the
    key (None: none is sent; the key itself is in no config, log or journal). timeout: seconds for one answer.
    attempts: tries for each question; waits double from `pause` seconds, or are what Retry-After says.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key_env: str | None = None,
        *,
        timeout: float = 120.0,
        attempts: int = 6,
        concurrency: int = 8,
        pause: float = 1.0,
    ) -> None:
        self.url, self.model = url.rstrip("/"), model
        self.attempts, self.concurrency, self.pause = attempts, concurrency, pause
        headers = {}
        if key_env is not None:
            if not os.environ.get(key_env):
                raise UserError(
                    f"the environment variable {key_env}, which holds the key of {url}, is not set"
                )
            headers["Authorization"] = f"Bearer {os.environ[key_env]}"
        self._client = httpx.Client(timeout=timeout, headers=headers)

    def ask(
        self,
        questions: Sequence[Messages],
        journal: Journal,
        progress: Callable[[int], Any] | None = None,
        repeats: int = 1,
        **params: Any,
    ) -> list[list[Reply]]:
        """`repeats` replies to each question, in order; `params` go into the request (temperature, …).

        With a `seed` among them each repeat has another one. What the journal holds is not asked. Raises
        UserError when the service refuses, or does not answer after all attempts: what was answered until
        then is in the journal.
        """
        bodies = []
        for messages in questions:
            for k in range(repeats):
                seed = {"seed": params["seed"] + k} if "seed" in params else {}
                bodies.append({"model": self.model, "messages": list(messages), **params, **seed, "n": 1})
        # Equal questions without a seed are still separate samples: the repeat is part of the key.
        keys = [question_key(self.url, body, i % repeats) for i, body in enumerate(bodies)]
        times = Counter(keys)
        missing = {key: body for key, body in zip(keys, bodies, strict=True) if journal.get(key) is None}
        if progress is not None:
            progress(len(keys) - sum(times[key] for key in missing))
        stop = threading.Event()

        def fetch(key: str) -> None:
            if stop.is_set():
                return
            try:
                journal.put(key, self._fetch(missing[key], stop))
            except BaseException:
                stop.set()
                raise
            if progress is not None:
                progress(times[key])

        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                for done in [pool.submit(fetch, key) for key in missing]:
                    done.result()
            finally:
                stop.set()  # Ctrl-C: what is being asked is waited for, the rest is not begun
        replies: list[Any] = [journal.get(key) for key in keys]
        return [replies[i : i + repeats] for i in range(0, len(replies), repeats)]

    def _fetch(self, body: dict[str, Any], stop: threading.Event) -> Reply:
        problem = ""
        for attempt in range(self.attempts):
            wait = min(self.pause * 2**attempt, LONGEST_WAIT)
            started = time.monotonic()
            try:
                answer = self._client.post(f"{self.url}/chat/completions", json=body)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__} {error}".strip()
            else:
                seconds = time.monotonic() - started
                if answer.status_code == httpx.codes.OK:
                    reply = _read(answer, seconds)
                    if reply is not None:
                        return reply
                    problem = f"a malformed answer: {answer.text[:200]!r}"
                elif answer.status_code in AGAIN or answer.status_code >= 500:
                    problem = f"{answer.status_code} {answer.text[:200]}"
                    wait = _retry_after(answer, wait)
                else:
                    raise UserError(f"{self.url} refused ({answer.status_code}): {answer.text[:300]}")
            if attempt + 1 < self.attempts and stop.wait(wait):
                break
        raise UserError(
            f"{self.url} gave no usable answer in {self.attempts} tries, the last one: {problem}. The same "
            "command again goes on from here: what was answered is kept"
        )


def _read(answer: httpx.Response, seconds: float) -> Reply | None:
    """The reply in an answer of status 200, None if it holds none."""
    try:
        choice = answer.json()["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    if not isinstance(text, str):
        return None
    return Reply(text, None if reason is None else reason != "length", round(seconds, 4))


def _retry_after(answer: httpx.Response, otherwise: float) -> float:
    """Seconds that the service asks to wait, at most LONGEST_WAIT; a date is not read."""
    try:
        return min(max(float(answer.headers.get("retry-after", "")), 0.0), LONGEST_WAIT)
    except ValueError:
        return otherwise
