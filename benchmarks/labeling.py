"""How many people one labeling server takes, and what is left of their work when it is killed.

    python benchmarks/labeling.py [--parts load kills …] [--db sqlite postgresql] [--out JSON]

Parts: load (200 annotators, one action every 8 s, 10 minutes), kills (the same people, faster, while the
server is killed 20 times), size (200,000 tasks and 500,000 judgments), people (more and more annotators).
The server is `alignkit label serve`, the clients are locust (benchmarks/labeling_crowd.py), both on this
machine. A part that is run again replaces its own rows in the JSON.
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
from labeling_data import PASSWORD, add_judgments, check, fill

from labeling_app.store.database import Store

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "labeling.json"
CROWD = ROOT / "benchmarks" / "labeling_crowd.py"
RAMP = 60  # seconds in which all people sign in
PERCENTILES = (50, 90, 95, 99, 100)


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
    words += ["-t", f"{RAMP + seconds:.0f}s", "--stop-timeout", 60, "--exit-code-on-error", 0]
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
        small = part == "size"  # texts are no part of that question
        outputs, sentences = (2, 1) if small else (4, 5)
        fill(store, settings["people"], settings["tasks"], outputs=outputs, sentences=sentences)
        if settings.get("judgments"):
            add_judgments(store, settings["judgments"], outputs)
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
        result = {"database": kind, "part": part, "settings": settings, **summary(requests, part)}
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


def summary(requests: list[list[Any]], part: str) -> dict[str, Any]:
    """Percentiles in milliseconds of the answered requests by kind, and the failures by what was said."""
    begin = RAMP if part == "people" else 0  # there, signing in is no part of the question
    taken: dict[str, list[float]] = {}
    failed: Counter[str] = Counter()
    for at, name, milliseconds, problem in requests:
        if at < begin:
            continue
        if problem is None:
            taken.setdefault(name, []).append(milliseconds)
        else:
            failed[f"{name}: {problem}"] += 1
    last = max(at for at, *_ in requests) - begin
    return {
        "per_second": round(sum(map(len, taken.values())) / last, 1),
        "milliseconds": {
            name: {"n": len(values)} | dict(zip(map(str, PERCENTILES), _percentiles(values), strict=True))
            for name, values in sorted(taken.items())
        },
        "failures": dict(failed.most_common(20)),
    }


def _percentiles(values: list[float]) -> list[float]:
    return [round(float(value), 1) for value in np.percentile(values, PERCENTILES)]


def plans(args: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(part, database, settings) of everything that is to be run."""
    base = {"people": args.people, "pace": args.pace, "seconds": args.seconds, "tasks": args.tasks}
    for kind in args.db:
        if "load" in args.parts:
            yield "load", kind, base
        if "kills" in args.parts:
            faster = {"pace": args.pace / 2, "seconds": 7200.0, "kills": args.kills}  # ended by the last kill
            yield "kills", kind, {**base, **faster}
        if "people" in args.parts:
            for people in args.crowds:
                yield "people", kind, {**base, "people": people, "seconds": 60.0}
    if "size" in args.parts:
        size = {"tasks": args.size, "judgments": (args.size * 5 // 6 + 1) * 3}
        yield "size", "sqlite", {**base, "seconds": 60.0, **size}


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
    parts = ["load", "kills", "size", "people"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--db", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"])
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument(
        "--pace", type=float, default=8.0, help="seconds from one action of a person to the next"
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="of load, after all have signed in")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--size", type=int, default=200_000, help="tasks of the part size; judgments: 2.5 times"
    )
    parser.add_argument("--crowds", type=int, nargs="+", default=[200, 400, 800])
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    results = json.loads(args.out.read_text())["results"] if args.out.exists() else []
    for part, kind, settings in plans(args):
        result = {**run(kind, part, settings), **origin()}
        shown = {key: value for key, value in result.items() if key != "memory"}
        print(json.dumps(shown, indent=1), flush=True)
        same = [part, kind, settings["people"]]
        results = [
            one for one in results if [one["part"], one["database"], one["settings"]["people"]] != same
        ]
        results.append(result)
        results.sort(key=lambda one: (parts.index(one["part"]), one["database"], one["settings"]["people"]))
        args.out.write_text(json.dumps({"results": results}, indent=1) + "\n")
    print(args.out)


if __name__ == "__main__":
    main()
