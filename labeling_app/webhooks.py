"""Tells webhooks of judgments: a thread that empties the outbox, and tries again until each one is taken."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
from sqlalchemy import RowMapping

from labeling_app.store import feed, outbox
from labeling_app.store.database import DATABASE_AWAY, Store, utcnow

TIMEOUT = 10.0  # seconds for each of: connect, send, answer
PAUSE = 1.0  # seconds between looks into the outbox
BATCH = 20
log = logging.getLogger(__name__)


@contextlib.contextmanager
def delivering(store: Store) -> Iterator[None]:
    """Deliver in a thread for as long as the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=_run, args=(store, stop), name="webhooks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=TIMEOUT)


def deliver_due(store: Store, client: httpx.Client) -> int:
    """Send what is due now, a batch of it; return how many were taken by their receivers."""
    with store.read() as connection:
        if not outbox.anything_due(connection, utcnow()):
            return 0
    with store.write() as tx:
        due = outbox.claim(tx, utcnow(), BATCH)
    with store.read() as connection:
        told = feed.judgments_by_id(connection, [row["judgment_id"] for row in due])
    taken, away = 0, set()
    for delivery in due:
        if delivery["webhook_id"] in away:
            continue  # postponed with the first one
        judgment = told.get(delivery["judgment_id"])
        problem, is_away = ("", False) if judgment is None else _send(client, delivery, judgment.shown)
        with store.write() as tx:
            if problem:
                outbox.postpone(tx, utcnow(), delivery, problem, is_away)
                if is_away:
                    away.add(delivery["webhook_id"])
                continue
            outbox.delivered(tx, utcnow(), delivery)
            if judgment is not None:
                hook = f"webhook/{delivery['webhook_id']}"
                feed.note_told(tx, utcnow(), hook, [judgment], hook)
        taken += 1
    return taken


def signature(secret: str, at: str, body: bytes) -> str:
    """HMAC-SHA256 of `at`, a dot and the body, in hex; with `at` in it, an old message is known as old."""
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()


def _send(client: httpx.Client, delivery: RowMapping, shown: dict[str, Any]) -> tuple[str, bool]:
    """What went wrong ("" if nothing) and whether the receiver is away rather than refusing this message."""
    body = json.dumps({"event": "judgment", "delivery": delivery["id"], **shown}, ensure_ascii=False).encode()
    at = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "alignkit",
        "Alignkit-Delivery": str(delivery["id"]),
        "Alignkit-Timestamp": at,
        "Alignkit-Signature": f"sha256={signature(delivery['secret'], at, body)}",
    }
    try:
        # Streamed, so that a receiver that answers without end is not read.
        with client.stream("POST", delivery["url"], content=body, headers=headers) as answer:
            if answer.is_success:
                return "", False
            return f"it answered {answer.status_code}", False
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"it could not be reached: {type(error).__name__}", True


def _run(store: Store, stop: threading.Event) -> None:
    with httpx.Client(timeout=TIMEOUT, follow_redirects=False) as client:
        while not stop.wait(PAUSE):
            try:
                while deliver_due(store, client) and not stop.is_set():
                    pass
            except DATABASE_AWAY as error:
                log.warning("webhooks wait: the database does not answer (%s)", type(error).__name__)
