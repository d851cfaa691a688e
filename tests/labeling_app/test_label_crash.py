"""SIGKILL of a real server under submits: what was acknowledged is there, exactly once.

benchmarks/labeling.py does the same with 200 people, twenty times, on both databases.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
from labeling_clients import check_nothing_lost, done, sign_in_all, working
from labeling_helpers import add_tasks

from labeling_app.store.database import Store

SERVE = """
import sys, uvicorn
from labeling_app.server import create_api
from labeling_app.store.database import Store
uvicorn.run(create_api(Store(sys.argv[1], create=True)), port=int(sys.argv[2]), log_level="error")
"""
KILLS = 3


def start_server(url: str, port: int) -> subprocess.Popen[bytes]:
    server = subprocess.Popen([sys.executable, "-c", SERVE, url, str(port)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/login")
            return server
        except httpx.TransportError:
            assert server.poll() is None, "the server did not start"
            time.sleep(0.05)
    raise AssertionError("the server did not answer within a minute")


def test_what_was_acknowledged_survives_kills_exactly_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/labels.db"
    store = Store(url, create=True)
    tokens = sign_in_all(store, 8)
    add_tasks(store, 1500, overlap=3)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start_server(url, port)
    try:
        with working(f"http://127.0.0.1:{port}", tokens) as clients:
            for number in range(KILLS):
                time.sleep(0.7 + 0.13 * number)
                os.kill(server.pid, signal.SIGKILL)
                server.wait()
                server = start_server(url, port)
            time.sleep(0.5)
    finally:
        server.kill()
        server.wait()
    assert sum(client.failures.total() for client in clients) >= KILLS
    assert done(clients) > 50
    check_nothing_lost(store, clients, overlap=3)
