"""A service on this machine that speaks OpenAI's chat protocol, as well or as badly as a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# body of the request, its number from 1 -> (status, body or raw text, headers, seconds to wait)
Behave = Callable[[dict[str, Any], int], tuple[int, Any, dict[str, str], float]]


def says(text: str | None, reason: str = "stop") -> tuple[int, Any, dict[str, str], float]:
    """A good answer."""
    return 200, {"choices": [{"message": {"content": text}, "finish_reason": reason}]}, {}, 0.0


class Stub:
    def __init__(self, behave: Behave) -> None:
        self.behave, self.asked, self.headers = behave, [], []  # type: ignore[var-annotated]
        self.lock = threading.Lock()


@contextmanager
def chat_stub(behave: Behave) -> Iterator[tuple[str, Stub]]:
    """(address, stub): `stub.asked` are the bodies of the requests, `stub.headers` their headers."""
    stub = Stub(behave)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with stub.lock:
                stub.asked.append(body)
                stub.headers.append(dict(self.headers))
                number = len(stub.asked)
            status, answer, headers, wait = stub.behave(body, number)
            time.sleep(wait)
            payload = answer if isinstance(answer, str) else json.dumps(answer)
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(payload.encode())))
                self.end_headers()
                self.wfile.write(payload.encode())
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client waited long enough

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", stub
    finally:
        server.shutdown()
        server.server_close()
