"""Invitations: a link by which one person makes an account, once, before it expires."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, select, update
from sqlalchemy import insert as insert_into

from alignment.errors import UserError
from labeling_app.store import audit, people
from labeling_app.store.models import annotators, invitations


def invite(tx: Connection, now: datetime, role: str, days: float, made_by: RowMapping | None) -> str:
    """Make an invitation and return its token, which is kept nowhere: whoever has it can make the account.

    made_by: the admin, or None for the command line. Raises UserError for a role that does not exist.
    """
    token = secrets.token_urlsafe(32)
    row = {
        "token_hash": people.token_hash(token),
        "role": people.checked_role(role),
        "made_by": None if made_by is None else made_by["id"],
        "created_at": now,
        "expires_at": now + timedelta(days=days),
    }
    number = tx.scalar(insert_into(invitations).values(**row).returning(invitations.c.id))
    actor = audit.COMMAND_LINE if made_by is None else made_by["public_id"]
    audit.append(tx, now, actor, "invite", f"invitation/{number}", after={"role": role, "days": days})
    return token


def find_invitation(connection: Connection, now: datetime, token: str) -> RowMapping | None:
    """The invitation that this token opens, if it is neither used nor expired."""
    i = invitations.c
    wanted = select(invitations).where(i.token_hash == people.token_hash(token))
    return connection.execute(wanted.where(i.used_at.is_(None), i.expires_at > now)).mappings().first()


def open_invitations(connection: Connection, now: datetime) -> list[RowMapping]:
    """Those that can still be used: id, role, expires_at and the login of who made it (None: a command)."""
    i = invitations.c
    wanted = (
        select(i.id, i.role, i.created_at, i.expires_at, annotators.c.login.label("made_by"))
        .join_from(invitations, annotators, annotators.c.id == i.made_by, isouter=True)
        .where(i.used_at.is_(None), i.expires_at > now)
        .order_by(i.id)
    )
    return list(connection.execute(wanted).mappings())


def withdraw(tx: Connection, now: datetime, number: int, actor: str) -> None:
    """End an invitation before its time. Raises UserError if it is used, expired or unknown."""
    i = invitations.c
    unused = (i.id == number) & i.used_at.is_(None) & (i.expires_at > now)
    if tx.execute(update(invitations).where(unused).values(expires_at=now)).rowcount != 1:
        raise UserError(f"there is no open invitation {number}")
    audit.append(tx, now, actor, "invite withdraw", f"invitation/{number}")


def accept(
    tx: Connection,
    now: datetime,
    token: str,
    login: str,
    password_hash: str | None,
    identity: people.Identity | None = None,
) -> RowMapping:
    """Make the account that the invitation is for, and use the invitation up.

    Raises UserError if the invitation cannot be used (any more) or the login is no good.
    """
    i = invitations.c
    unused = (i.token_hash == people.token_hash(token)) & i.used_at.is_(None) & (i.expires_at > now)
    used = update(invitations).where(unused).values(used_at=now).returning(i.id, i.role)
    invitation = tx.execute(used).first()
    if invitation is None:
        raise UserError("this invitation was used already or has expired")
    login = people.free_login(tx, login)
    actor = f"invitation/{invitation.id}"
    public_id = people.insert_annotator(tx, now, login, password_hash, invitation.role, actor, identity)
    made = tx.execute(select(annotators).where(annotators.c.public_id == public_id)).mappings().one()
    tx.execute(update(invitations).where(i.id == invitation.id).values(used_by=made["id"]))
    return made
