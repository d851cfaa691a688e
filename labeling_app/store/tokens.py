"""Tokens of the HTTP API: what a program shows to read judgments or to add tasks."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from alignment.errors import UserError
from labeling_app.store import audit
from labeling_app.store.models import api_tokens, login_failures, projects
from labeling_app.store.people import WINDOW, TooManyAttempts, token_hash
from labeling_app.store.projects import project_id

PREFIX = "akl_"  # so that a scanner for secrets knows one that went astray
MAX_BAD = 20  # wrong tokens by one address in the window
BAD_TOKEN = "(api token)"  # noqa: S105 - stands in for a login, and no login can have brackets


def add_token(
    tx: Connection,
    now: datetime,
    name: str,
    *,
    can_write: bool = False,
    project: str | None = None,
    days: float | None = None,
    actor: str = audit.COMMAND_LINE,
) -> str:
    """Make a token and return it, which is the only time that anybody sees it: its hash is what is kept.

    can_write: may add tasks, not only read. project: for this one alone. days: how long it lives (None: until
    it is revoked). Raises UserError for an unknown project or an empty or overlong name.
    """
    if not 1 <= len(name.strip()) <= 100:
        raise UserError("a token's name has 1 to 100 characters; it says what uses the token")
    token = PREFIX + secrets.token_urlsafe(32)
    row = {
        "token_hash": token_hash(token),
        "name": name.strip(),
        "can_write": can_write,
        "project_id": None if project is None else project_id(tx, project),
        "created_at": now,
        "expires_at": None if days is None else now + timedelta(days=days),
    }
    number = tx.scalar(insert(api_tokens).values(**row).returning(api_tokens.c.id))
    after = {"write": can_write, "project": row["project_id"], "days": days}
    audit.append(tx, now, actor, "token add", f"token/{number}", after=after)
    return token


def find_token(connection: Connection, now: datetime, token: str) -> RowMapping | None:
    """The token's row, if it is neither revoked nor expired."""
    t = api_tokens.c
    live = t.revoked_at.is_(None) & (t.expires_at.is_(None) | (t.expires_at > now))
    return (
        connection.execute(select(api_tokens).where(t.token_hash == token_hash(token), live))
        .mappings()
        .first()
    )


def all_tokens(connection: Connection) -> list[RowMapping]:
    """Every token, also the revoked, with the name of its project (None: all); never the token itself."""
    t = api_tokens.c
    wanted = (
        select(
            t.id,
            t.name,
            t.can_write,
            t.created_at,
            t.expires_at,
            t.revoked_at,
            projects.c.name.label("project"),
        )
        .join_from(api_tokens, projects, projects.c.id == t.project_id, isouter=True)
        .order_by(t.id)
    )
    return list(connection.execute(wanted).mappings())


def revoke_token(tx: Connection, now: datetime, number: int, actor: str = audit.COMMAND_LINE) -> None:
    """End a token at once. Raises UserError if there is no such token, or it is revoked already."""
    live = (api_tokens.c.id == number) & api_tokens.c.revoked_at.is_(None)
    if tx.execute(update(api_tokens).where(live).values(revoked_at=now)).rowcount != 1:
        raise UserError(f"there is no token {number} to revoke; `alignkit label token list` shows them")
    audit.append(tx, now, actor, "token revoke", f"token/{number}")


def count_bad_token(tx: Connection, now: datetime, address: str) -> None:
    """Note a wrong token. Raises TooManyAttempts, and notes nothing, once an address has sent too many."""
    f = login_failures.c
    mine = (f.login == BAD_TOKEN) & (f.address == address) & (f.at > now - WINDOW)
    count, oldest = tx.execute(select(func.count(), func.min(f.at)).where(mine)).one()
    if count >= MAX_BAD:
        raise TooManyAttempts(max(1, int((oldest + WINDOW - now).total_seconds()) + 1))
    tx.execute(insert(login_failures).values(login=BAD_TOKEN, address=address, at=now))
