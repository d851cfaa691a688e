"""How many people one labeling server takes, and what is left of their work when it is killed.

    python benchmarks/labeling.py [--parts load kills …] [--db sqlite postgresql] [--out JSON]

Parts: load (200 annotators, one action every 8 s, 10 minutes), kills (the same people, faster, while the
server is killed 20 times), size (what one request costs with 2,000 and with 200,000 tasks). The server is
`alignkit label serve`, the clients are locust (benchmarks/labeling_crowd.py), both on this machine; for size
it is one client in the server's process. A part that is run again replaces its own rows in the JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from labeling_data import PASSWORD, add_judgments, check, fill, sign_in
from starlette.testclient import TestClient

from labeling_app.auth import COOKIE
from labeling_app.server import create_api
from labeling_app.store.database import Store

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "labeling.json"
CROWD = ROOT / "benchmarks" / "labeling_crowd.py"
RAMP = 60  # seconds in which all people sign in
PERCENTILES = (50, 90, 95, 99, 100)
PARTS = ["load", "kills", "size"]


class Server:
    """`alignkit label serve` on this database, and the memory of its process, looked at once a second."""

    def __init__(self, url: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        words = ["label", "serve", "--db", url, "--port", str(self.port)]
        self._command = [sys.executable, "-m", "alignment.cli", *words]
        self.memory: list[tuple[float, int]] = []  # seconds since the first start, resident bytes
        self.cpu = 0.0  # seconds that the newest process has computed
        self.log = Path(tempfile.mkstemp(suffix=".log")[1])
        self._begun = time.monotonic()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self.start()
        self._watch.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=ROOT)
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{self.base}/login")
                return
            if self.process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL, as the kernel does it when memory runs out."""
        self.process.kill()
        self.process.wait()

    def _look(self) -> None:
        while True:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(self.process.pid)
                self.memory.append((round(time.monotonic() - self._begun, 1), process.memory_info().rss))
                self.cpu = sum(process.cpu_times()[:2])
            time.sleep(1)


@contextlib.contextmanager
def database(kind: str) -> Iterator[str]:
    """The URL of an empty database whose commits are on the disk."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/labels.db"
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from postgres_cluster import Cluster

    cluster = Cluster(durable=True)
    cluster.start()
    try:
        yield cluster.url
    finally:
        cluster.remove()


def crowd(server: Server, out: Path, people: int, pace: float, seconds: float) -> subprocess.Popen[str]:
    """Start the annotators. They end by themselves, when the last one has the answer it waits for."""
    words = ["--headless", "--only-summary", "-H", server.base, "-u", people, "-r", people / RAMP]
    words += ["-t", f"{seconds:.0f}s", "--stop-timeout", 60, "--exit-code-on-error", 0]
    environment = {"CROWD_OUT": str(out), "CROWD_PACE": str(pace), "CROWD_PASSWORD": PASSWORD}
    return subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(CROWD), *map(str, words)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(clients: subprocess.Popen[str]) -> None:
    """Wait for the clients; an error of their own, not of the server, ends the benchmark."""
    _, told = clients.communicate()
    if clients.returncode or "Traceback" in told:
        raise SystemExit(f"locust failed ({clients.returncode}):\n{told[-3000:]}")


def run(kind: str, part: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One part on one database: fill it, let the people work, and look at what is there afterwards."""
    with database(kind) as url, tempfile.TemporaryDirectory() as out:
        store = Store(url, create=True)
        fill(store, settings["people"], settings["tasks"])
        server = Server(url)
        kills: list[float] = []
        clients = crowd(server, Path(out), settings["people"], settings["pace"], settings["seconds"])
        try:
            if part == "kills":
                kills = kill_again_and_again(server, settings["kills"], clients)
                clients.terminate()  # each one still waits for the answer that it is owed
            finish(clients)
        finally:
            clients.kill()
            server.kill()
        requests = json.loads((Path(out) / "requests.json").read_text())
        result = {"database": kind, "part": part, "settings": settings, **summary(requests)}
        result["memory"] = server.memory[:: max(1, len(server.memory) // 60)]
        result["cpu_seconds"] = round(server.cpu, 1)
        result["peak_memory"] = max(resident for _, resident in server.memory)
        if kills:
            result["seconds_to_answer_again"] = kills
        result["found"] = check(store, Path(out) / "journal.jsonl")
        store.close()
    return result


def kill_again_and_again(server: Server, times: int, clients: subprocess.Popen[str]) -> list[float]:
    """SIGKILL at moments drawn from a seed, then a start; how long each start took until it answered."""
    dice, took = random.Random(0), []
    time.sleep(RAMP + 1)
    for _ in range(times):
        time.sleep(dice.uniform(1, 4))
        if clients.poll() is not None:
            finish(clients)
            raise SystemExit("the clients ended before the last kill")
        server.kill()
        begun = time.monotonic()
        server.start()
        took.append(round(time.monotonic() - begun, 2))
    time.sleep(5)
    return took


def summary(requests: list[list[Any]]) -> dict[str, Any]:
    """Percentiles in milliseconds of the answered requests by kind, and the failures by what was said."""
    taken: dict[str, list[float]] = {}
    failed: Counter[str] = Counter()
    for _, name, milliseconds, problem in requests:
        if problem is None:
            taken.setdefault(name, []).append(milliseconds)
        else:
            failed[f"{name}: {problem}"] += 1
    last = max(at for at, *_ in requests)
    return {
        "per_second": round(sum(map(len, taken.values())) / last, 1),
        "milliseconds": {name: percentiles(values) for name, values in sorted(taken.items())},
        "failures": dict(failed.most_common(20)),
    }


def percentiles(values: list[float]) -> dict[str, float]:
    found = [round(float(value), 2) for value in np.percentile(values, PERCENTILES)]
    return {"n": len(values)} | dict(zip(map(str, PERCENTILES), found, strict=True))


def cost(tasks: int, judgments: int, people: int = 200, rounds: int = 400) -> dict[str, Any]:
    """What a request costs the server on an SQLite database of this size: CPU time, and with its disk."""
    with database("sqlite") as url:
        store = Store(url, create=True)
        fill(store, people, tasks, outputs=2, sentences=1)  # texts are no part of the question
        add_judgments(store, judgments, outputs=2)
        client = TestClient(create_api(store), base_url="http://127.0.0.1")
        tokens, taken, computed = sign_in(store), {}, {}

        def ask(name: str, method: str, path: str, body: Any = None) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            answer = client.request(method, path, json=body)
            computed.setdefault(name, []).append(1000 * (time.process_time() - cpu))
            taken.setdefault(name, []).append(1000 * (time.perf_counter() - wall))
            return answer.raise_for_status().json()

        for number in range(rounds):
            client.cookies.set(COOKIE, tokens[number % len(tokens)])
            task = ask("next task", "POST", "/api/next", {})["task"]
            path = f"/api/assignments/{task['id']}"
            ask("draft", "PUT", f"{path}/draft", {"client_seq": 1, "payload": {"ranks": [1, 2]}})
            ask(
                "submit",
                "POST",
                f"{path}/judgment",
                {"submit_key": f"benchmark-{number:08}", "ranks": [1, 2]},
            )
            ask("history", "GET", "/api/history")
        store.close()
    settings = {"tasks": tasks, "judgments": judgments, "people": people}
    both = {"milliseconds": taken, "cpu_milliseconds": computed}
    measured = {key: {name: percentiles(v) for name, v in found.items()} for key, found in both.items()}
    return {"database": "sqlite", "part": "size", "settings": settings, **measured}


def results_of(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Everything that is to be measured, one after the other."""
    base = {"people": args.people, "pace": args.pace, "seconds": args.seconds, "tasks": args.tasks}
    for part in args.parts:
        if part == "size":
            for tasks in (args.size // 100, args.size):
                yield cost(tasks, judgments=(tasks * 5 // 6 + 1) * 3)
            continue
        for kind in args.db:
            # The last kill ends the kills.
            faster = {"pace": args.pace / 2, "seconds": 7200.0, "kills": args.kills}
            yield run(kind, part, {**base, **faster} if part == "kills" else base)


def origin() -> dict[str, Any]:
    """Commit, machine and versions."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = ("fastapi", "uvicorn", "gradio", "sqlalchemy", "psycopg", "locust")
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in names}
    if shutil.which("psql"):
        told = subprocess.run(["psql", "--version"], capture_output=True, text=True, check=True)
        versions["postgresql"] = told.stdout.split()[2]
    device = f"{len(os.sched_getaffinity(0))} CPU cores"
    return {"device": device, "commit": git.stdout.strip(), "versions": versions}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--db", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--pace", type=float, default=8.0, help="seconds from a person's action to the next")
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="of load, in the first 60 of which people sign in"
    )
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--size", type=int, default=200_000, help="tasks of the part size")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    results = json.loads(args.out.read_text())["results"] if args.out.exists() else []
    for result in results_of(args):
        result |= origin()
        print(json.dumps({**result, "memory": None}, indent=1), flush=True)
        results = [one for one in results if place(one) != place(result)] + [result]
        args.out.write_text(json.dumps({"results": sorted(results, key=place)}, indent=1) + "\n")
    print(args.out)


def place(result: dict[str, Any]) -> tuple[int, str, int]:
    """Where it stands among the results; another one of the same place replaces it."""
    return PARTS.index(result["part"]), result["database"], result["settings"]["tasks"]


if __name__ == "__main__":
    main()
