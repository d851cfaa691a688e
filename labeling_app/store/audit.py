"""The audit log: who did what, as a chain of hashes in which no row can be altered or left out unseen.

Rows hold identifiers, counts and digests, never a text or a name, so a person's data can be removed
elsewhere and the chain stays valid.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, text

from alignment.errors import UserError
from labeling_app.store.database import stamp
from labeling_app.store.models import audit_log

FIRST = "0" * 64
COMMAND_LINE = "command line"
AUDIT_LOCK = 7_201_940_312


def append(
    tx: Connection,
    now: datetime,
    actor: str,
    action: str,
    entity: str,
    *,
    before: Any = None,
    after: Any = None,
) -> None:
    """Add one row to the chain, inside the caller's transaction."""
    if tx.dialect.name == "postgresql":  # SQLite has one writer anyway
        tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": AUDIT_LOCK})
    tx.execute(insert(audit_log), row_after(last_hash(tx), now, actor, action, entity, before, after))


def row_after(
    previous: str, now: datetime, actor: str, action: str, entity: str, before: Any = None, after: Any = None
) -> dict[str, Any]:
    """The row that follows the one whose hash is `previous`."""
    row = {
        "at": stamp(now),
        "actor": actor,
        "action": action,
        "entity": entity,
        "before": None if before is None else canonical(before),
        "after": None if after is None else canonical(after),
        "prev_hash": previous,
    }
    return {**row, "hash": _row_hash(row)}


def last_hash(connection: Connection) -> str:
    """The hash of the newest row, which the next one continues; FIRST for an empty log."""
    return connection.scalar(select(audit_log.c.hash).order_by(audit_log.c.id.desc()).limit(1)) or FIRST


def verify(connection: Connection) -> int:
    """Check the whole chain; return its length. Raises UserError naming the first row that does not fit."""
    previous, count = FIRST, 0
    for row in connection.execute(select(audit_log).order_by(audit_log.c.id)).mappings():
        if row["prev_hash"] != previous or row["hash"] != _row_hash(dict(row)):
            raise UserError(f"the audit log is broken at row {row['id']}: it was altered or a row is missing")
        previous, count = row["hash"], count + 1
    return count


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, in hex: stands in the log for a content that may have to go one day."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()


def _row_hash(row: dict[str, Any]) -> str:
    fields = ("prev_hash", "at", "actor", "action", "entity", "before", "after")
    return digest([row[field] for field in fields])
