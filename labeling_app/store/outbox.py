"""What is told to webhooks: a row is written with each judgment and kept until somebody has taken it."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import Connection, RowMapping, delete, func, insert, literal, select, update

from alignment.errors import UserError
from labeling_app.store import audit
from labeling_app.store.models import deliveries, projects, tasks, webhooks
from labeling_app.store.projects import project_id

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(hours=1)
CLAIM = timedelta(minutes=1)  # after this, one that was being sent when the server died is sent again


def add_webhook(tx: Connection, now: datetime, project: str, url: str) -> tuple[int, str]:
    """Tell `url` of every judgment of this project from now on; return the number and the secret that signs.

    Raises UserError for an unknown project or an address that is not http or https.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise UserError(f"{url!r} is no address for a webhook: write http://HOST/PATH or https://HOST/PATH")
    secret = secrets.token_hex(32)
    row = {"project_id": project_id(tx, project), "url": url, "secret": secret, "created_at": now}
    number = tx.scalar(insert(webhooks).values(**row).returning(webhooks.c.id)) or 0
    after = {"project": row["project_id"]}
    audit.append(tx, now, audit.COMMAND_LINE, "webhook add", f"webhook/{number}", after=after)
    return number, secret


def remove_webhook(tx: Connection, now: datetime, number: int) -> None:
    """Stop telling it, also what waits. Raises UserError if there is none with this number."""
    live = (webhooks.c.id == number) & webhooks.c.active
    if tx.execute(update(webhooks).where(live).values(active=False)).rowcount != 1:
        raise UserError(f"there is no webhook {number}; `alignkit label webhook list` shows them")
    waiting = (deliveries.c.webhook_id == number) & deliveries.c.delivered_at.is_(None)
    tx.execute(delete(deliveries).where(waiting))
    audit.append(tx, now, audit.COMMAND_LINE, "webhook remove", f"webhook/{number}")


def all_webhooks(connection: Connection) -> list[RowMapping]:
    """The live webhooks: id, project, url, how many deliveries wait, and the newest problem of those."""
    w, d = webhooks.c, deliveries.c
    waiting = (d.webhook_id == w.id) & d.delivered_at.is_(None)
    count = select(func.count()).where(waiting).scalar_subquery()
    problem = select(d.problem).where(waiting, d.problem.is_not(None)).order_by(d.id.desc()).limit(1)
    wanted = (
        select(w.id, w.url, projects.c.name.label("project"), count.label("waiting"))
        .add_columns(problem.scalar_subquery().label("problem"))
        .join_from(webhooks, projects, projects.c.id == w.project_id)
        .where(w.active)
        .order_by(w.id)
    )
    return list(connection.execute(wanted).mappings())


def tell(tx: Connection, now: datetime, judgment_id: int, task_id: int) -> None:
    """Note, in the judgment's own transaction, that the webhooks of its project are to hear of it."""
    hooks = (
        select(webhooks.c.id, literal(judgment_id), literal(0), literal(now, type_=deliveries.c.next_at.type))
        .join(tasks, tasks.c.project_id == webhooks.c.project_id)
        .where(tasks.c.id == task_id, webhooks.c.active, ~tasks.c.is_practice)
    )
    columns = ["webhook_id", "judgment_id", "attempts", "next_at"]
    tx.execute(insert(deliveries).from_select(columns, hooks))


def anything_due(connection: Connection, now: datetime) -> bool:
    """Whether there is something to send; looked at without keeping anybody from writing."""
    d = deliveries.c
    due = select(d.id).where(d.delivered_at.is_(None), d.next_at <= now).limit(1)
    return connection.scalar(due) is not None


def claim(tx: Connection, now: datetime, limit: int) -> list[RowMapping]:
    """Take up to `limit` deliveries that are due, oldest first; nobody else gets them for CLAIM."""
    d = deliveries.c
    wanted = (
        select(d.id, d.judgment_id, d.attempts, d.webhook_id, webhooks.c.url, webhooks.c.secret)
        .join(webhooks, webhooks.c.id == d.webhook_id)
        .where(d.delivered_at.is_(None), d.next_at <= now, webhooks.c.active)
        .order_by(d.next_at, d.id)
        .limit(limit)
        .with_for_update(of=deliveries, skip_locked=True)
    )
    rows = list(tx.execute(wanted).mappings())
    mine = d.id.in_([row["id"] for row in rows])
    tx.execute(update(deliveries).where(mine).values(next_at=now + CLAIM))
    return rows


def delivered(tx: Connection, now: datetime, delivery: RowMapping) -> None:
    """Somebody took it."""
    done = {"delivered_at": now, "attempts": delivery["attempts"] + 1, "problem": None}
    tx.execute(update(deliveries).where(deliveries.c.id == delivery["id"]).values(**done))


def postpone(tx: Connection, now: datetime, delivery: RowMapping, problem: str, all_of_it: bool) -> None:
    """Nobody took it: try again after 5 s, 10 s, 20 s … at most an hour, without end.

    all_of_it: the receiver is away, so what else waits for it need not be tried before that.
    """
    d, attempts = deliveries.c, delivery["attempts"] + 1
    at = now + min(FIRST_WAIT * 2 ** min(attempts - 1, 20), LONGEST_WAIT)
    again = {"attempts": attempts, "next_at": at, "problem": problem}
    tx.execute(update(deliveries).where(d.id == delivery["id"]).values(**again))
    if all_of_it:
        waiting = (d.webhook_id == delivery["webhook_id"]) & d.delivered_at.is_(None) & (d.next_at < at)
        tx.execute(update(deliveries).where(waiting).values(next_at=at))
