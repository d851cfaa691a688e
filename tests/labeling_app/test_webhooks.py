"""Webhooks: each judgment is told, signed, and told again until it was taken."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from labeling_helpers import add_people, add_tasks
from sqlalchemy import select, update
from webhook_receiver import Receiver, receiving

from alignment.errors import UserError
from labeling_app import webhooks
from labeling_app.store import audit, judging, outbox, queue
from labeling_app.store.database import Store, utcnow
from labeling_app.store.judging import Answer
from labeling_app.store.models import deliveries, exports, tasks


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def hook(store: Store, url: str) -> str:
    with store.write() as tx:
        return outbox.add_webhook(tx, utcnow(), "default", url)[1]


def judge(store: Store, person: Any) -> None:
    now = utcnow()
    with store.write() as tx:
        task = queue.lease_task(tx, person["id"], now)
        assert task is not None
        answer = Answer([1, 2, 3], rationale="¿Por qué? 🦊")
        judging.submit(tx, person, task["public_id"], f"submit-key-{task['public_id']}", 1, answer, now)


def deliver(store: Store) -> int:
    with httpx.Client(timeout=5) as client:
        return webhooks.deliver_due(store, client)


def waiting(store: Store) -> Any:
    with store.read() as connection:
        return connection.execute(select(deliveries).order_by(deliveries.c.id)).mappings().all()


def make_due(store: Store) -> None:
    with store.write() as tx:
        tx.execute(update(deliveries).values(next_at=utcnow()))


def test_a_judgment_is_told_once_and_signed(any_store: Store, receiver: Receiver) -> None:
    (anna,) = add_people(any_store, "anna")
    add_tasks(any_store, 3)
    judge(any_store, anna)  # before there was a webhook
    secret = hook(any_store, receiver.url)
    judge(any_store, anna)
    assert deliver(any_store) == 1
    assert deliver(any_store) == 0
    ((headers, body),) = receiver.got
    sent = json.loads(body)
    assert (sent["event"], sent["task"], sent["judgment"]["ranks"]) == ("judgment", "record-1", [1, 2, 3])
    assert sent["judgment"]["rationale"] == "¿Por qué? 🦊"
    signed = webhooks.signature(secret, headers["alignkit-timestamp"], body)
    assert headers["alignkit-signature"] == f"sha256={signed}"
    assert abs(int(headers["alignkit-timestamp"]) - time.time()) < 60
    with any_store.read() as connection:
        assert connection.scalars(select(exports.c.name)).all() == ["webhook/1"]
        audit.verify(connection)


def test_a_signature_is_hmac_sha256_of_time_dot_body() -> None:
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac secret
    expected = "b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163"
    assert webhooks.signature("secret", "1700000000", b"{}") == expected


def test_what_is_refused_comes_again_later_and_later(store: Store, receiver: Receiver) -> None:
    (anna,) = add_people(store, "anna")
    add_tasks(store, 1)
    hook(store, receiver.url)
    judge(store, anna)
    receiver.answers = [500, 302]  # a redirect is not followed: it could lead anywhere
    waits = []
    for _ in range(2):
        assert deliver(store) == 0
        (row,) = waiting(store)
        waits.append(row["next_at"] - utcnow())
        assert row["delivered_at"] is None
        make_due(store)
    assert timedelta(seconds=3) < waits[0] <= timedelta(seconds=5)
    assert timedelta(seconds=8) < waits[1] <= timedelta(seconds=10)
    assert waiting(store)[0]["problem"] == "it answered 302"
    assert deliver(store) == 1
    assert len(receiver.got) == 3
    assert len({body for _, body in receiver.got}) == 1  # the same message under the same number


def test_a_receiver_that_is_away_loses_nothing(store: Store, receiver: Receiver) -> None:
    (anna,) = add_people(store, "anna")
    add_tasks(store, 30)
    hook(store, "http://127.0.0.1:9/")  # nothing listens there
    for _ in range(30):
        judge(store, anna)
    assert deliver(store) == 0
    rows = waiting(store)
    assert sum(row["attempts"] for row in rows) == 1  # one try tells that nobody is there
    assert all(row["next_at"] > utcnow() for row in rows)
    with store.read() as connection:
        (shown,) = outbox.all_webhooks(connection)
    assert (shown["waiting"], "could not be reached" in shown["problem"]) == (30, True)
    make_due(store)
    with store.write() as tx:
        tx.execute(update(outbox.webhooks).values(url=receiver.url))
    assert [deliver(store), deliver(store), deliver(store)] == [20, 10, 0]
    assert [json.loads(body)["task"] for _, body in receiver.got] == [f"record-{n}" for n in range(30)]


def test_a_claimed_delivery_is_nobody_elses_until_its_time(store: Store) -> None:
    (anna,) = add_people(store, "anna")
    add_tasks(store, 1)
    hook(store, "http://127.0.0.1:9/")
    judge(store, anna)
    now = utcnow()
    with store.write() as tx:
        assert len(outbox.claim(tx, now, 5)) == 1
        assert outbox.claim(tx, now, 5) == []
        assert len(outbox.claim(tx, now + outbox.CLAIM, 5)) == 1  # the server died while it sent


def test_practice_is_not_told_and_a_removed_hook_hears_nothing(store: Store) -> None:
    (anna,) = add_people(store, "anna")
    add_tasks(store, 2)
    hook(store, "http://127.0.0.1:9/")
    judge(store, anna)
    with store.write() as tx:
        outbox.remove_webhook(tx, utcnow(), 1)
    assert waiting(store) == []
    judge(store, anna)
    assert waiting(store) == []
    with store.write() as tx, pytest.raises(UserError, match="no webhook 1"):
        outbox.remove_webhook(tx, utcnow(), 1)
    with store.write() as tx:
        tx.execute(update(tasks).values(is_practice=True))
        outbox.add_webhook(tx, utcnow(), "default", "http://127.0.0.1:9/")
        outbox.tell(tx, utcnow(), 1, 1)
    assert waiting(store) == []


@pytest.mark.parametrize("url", ["ftp://x/", "file:///etc/passwd", "http://", "http://me:pw@x/", "x"])
def test_addresses_that_are_none(store: Store, url: str) -> None:
    add_tasks(store, 1)
    with store.write() as tx, pytest.raises(UserError, match="no address for a webhook"):
        outbox.add_webhook(tx, utcnow(), "default", url)


def test_the_thread_delivers_while_the_server_runs(store: Store, receiver: Receiver) -> None:
    (anna,) = add_people(store, "anna")
    add_tasks(store, 1)
    hook(store, receiver.url)
    with webhooks.delivering(store):
        judge(store, anna)
        for _ in range(500):
            if receiver.got:
                break
            time.sleep(0.02)
    assert len(receiver.got) == 1
