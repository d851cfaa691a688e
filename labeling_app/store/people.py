"""Accounts, passwords (argon2), sessions and the brake on guessing."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from alignment.errors import UserError
from labeling_app.store import audit
from labeling_app.store.models import ROLES, annotators, assignments, login_failures, sessions

SESSION_LIFETIME = timedelta(days=7)
MIN_PASSWORD = 8
MAX_PASSWORD = 1024

# Attempts allowed in the window: by one address on one login, by one address, on one login from anywhere.
WINDOW = timedelta(minutes=5)
MAX_PER_LOGIN_AND_ADDRESS, MAX_PER_ADDRESS, MAX_PER_LOGIN = 5, 50, 100

# A hash of nothing that anybody knows: an unknown login is checked against it, as slowly as a known one.
NOBODY = "$argon2id$v=19$m=47104,t=1,p=1$fPa/h9NaaTAGHktEV+iOGw$FgZV2+A4c9tWVJNqt61rRUW7PM55U5ZvLJwIETNUAoI"


@dataclass(frozen=True)
class Identity:
    """Who an OpenID provider says that somebody is: its address, and its own name for the person."""

    issuer: str
    subject: str


class TooManyAttempts(Exception):
    """The login is braked. `seconds`: how long until the next attempt is looked at."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many attempts, wait {seconds} seconds")
        self.seconds = seconds


class Passwords:
    """argon2id with OWASP's figures for servers (Password Storage Cheat Sheet): 46 MiB, one pass, one thread.
    Two at a time, so that a crowd that signs in leaves memory and cores to those who work."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=1, memory_cost=46 * 1024, parallelism=1)
        self._slots = threading.BoundedSemaphore(2)

    def hash(self, password: str) -> str:
        with self._slots:
            return self._hasher.hash(password)

    def matches(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is right. An unknown login (None) takes as long as a known one."""
        with self._slots:
            try:
                self._hasher.verify(password_hash or NOBODY, password)
            except (VerifyMismatchError, InvalidHashError):
                return False
        return password_hash is not None


def clean_login(login: str) -> str:
    """The login as it is stored: trimmed, lower case."""
    return login.strip().lower()


def add_annotator(
    tx: Connection, now: datetime, login: str, password: str, role: str, passwords: Passwords, actor: str
) -> str:
    """Make an account; return its public id. Raises UserError for a bad login, role or password."""
    login = free_login(tx, login)
    return insert_annotator(tx, now, login, new_hash(password, passwords), role, actor)


def free_login(connection: Connection, login: str) -> str:
    """The login as it would be stored. Raises UserError if it has odd characters or is somebody's."""
    login = clean_login(login)
    if not re.fullmatch(r"[\w.@+-]{1,100}", login):
        raise UserError(f"the login {login!r} may have letters, digits and . @ + - _ only, 1 to 100 of them")
    if connection.scalar(select(annotators.c.id).where(annotators.c.login == login)) is not None:
        raise UserError(f"the login {login!r} is taken; choose another")
    return login


def unused_login(connection: Connection, wanted: str) -> str:
    """`wanted`, or if it is somebody's, the same with some letters more. Raises UserError for odd signs."""
    taken = connection.scalar(select(annotators.c.id).where(annotators.c.login == clean_login(wanted)))
    return free_login(connection, wanted if taken is None else f"{wanted}-{secrets.token_hex(3)}")


def insert_annotator(
    tx: Connection,
    now: datetime,
    login: str,
    password_hash: str | None,
    role: str,
    actor: str,
    identity: Identity | None = None,
) -> str:
    """Store an account with a login that is free; return its public id. Raises UserError for a bad role."""
    public_id = "ann-" + secrets.token_hex(5)
    row = {
        "public_id": public_id,
        "login": login,
        "password_hash": password_hash,
        "oidc_issuer": identity.issuer if identity else None,
        "oidc_subject": identity.subject if identity else None,
        "role": checked_role(role),
        "active": True,
        "created_at": now,
    }
    tx.execute(insert(annotators).values(**row))
    audit.append(tx, now, actor, "user add", public_id, after={"role": role})
    return public_id


def checked_role(role: str) -> str:
    """The role, if there is such a one. Raises UserError."""
    if role not in ROLES:
        raise UserError(f"the role {role!r} is none of {', '.join(ROLES)}")
    return role


def set_password(
    tx: Connection, now: datetime, login: str, password: str, passwords: Passwords, actor: str
) -> None:
    """Set a new password and end every session of the account. Raises UserError for an unknown login."""
    row = account(tx, login)
    store_password(tx, now, row, new_hash(password, passwords), actor)


def store_password(tx: Connection, now: datetime, row: RowMapping, password_hash: str, actor: str) -> None:
    """Keep the hash of a new password and end every session of the account."""
    tx.execute(update(annotators).where(annotators.c.id == row["id"]).values(password_hash=password_hash))
    close_sessions(tx, row["id"])
    audit.append(tx, now, actor, "user password", row["public_id"])


def set_role(tx: Connection, now: datetime, login: str, role: str, actor: str) -> None:
    """Give an account another role, from its next request on. Raises UserError if no admin would be left."""
    row = account(tx, login)
    checked_role(role)
    if role == row["role"]:
        return
    if row["role"] == "admin" and row["active"]:
        _keep_an_admin(tx, row)
    tx.execute(update(annotators).where(annotators.c.id == row["id"]).values(role=role))
    audit.append(tx, now, actor, "user role", row["public_id"], before=row["role"], after=role)


def set_active(tx: Connection, now: datetime, login: str, active: bool, actor: str) -> None:
    """Close an account and end its sessions, or open it again; its judgments stay.

    Raises UserError for an unknown login, or if no admin would be left.
    """
    row = account(tx, login)
    if active == row["active"]:
        return
    if not active and row["role"] == "admin":
        _keep_an_admin(tx, row)
    tx.execute(update(annotators).where(annotators.c.id == row["id"]).values(active=active))
    close_sessions(tx, row["id"])
    audit.append(tx, now, actor, "user reactivate" if active else "user deactivate", row["public_id"])


def account(tx: Connection, login: str) -> RowMapping:
    """The account with this login, active or not. Raises UserError if there is none."""
    wanted = select(annotators).where(annotators.c.login == clean_login(login))
    row = tx.execute(wanted).mappings().first()
    if row is None:
        raise UserError(f"there is no account {clean_login(login)!r}")
    return row


def _keep_an_admin(tx: Connection, row: RowMapping) -> None:
    # The rows are locked, so that two admins who take each other's role cannot both succeed.
    admins = select(annotators.c.id).where(annotators.c.role == "admin", annotators.c.active)
    if set(tx.scalars(admins.order_by(annotators.c.id).with_for_update())) <= {row["id"]}:
        raise UserError(f"{row['login']!r} is the last active admin; make another account admin first")


def new_hash(password: str, passwords: Passwords) -> str:
    """The hash of a new password. Raises UserError for one that is too short or too long."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise UserError(
            f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters; this one has {len(password)}"
        )
    return passwords.hash(password)


def account_of(connection: Connection, annotator_id: int) -> RowMapping:
    """The whole row of an account."""
    return connection.execute(select(annotators).where(annotators.c.id == annotator_id)).mappings().one()


def find_login(connection: Connection, login: str) -> RowMapping | None:
    """The account with this login, if it exists and is active."""
    return (
        connection.execute(
            select(annotators).where(annotators.c.login == clean_login(login), annotators.c.active)
        )
        .mappings()
        .first()
    )


def count_attempt(tx: Connection, now: datetime, login: str, address: str) -> None:
    """Note an attempt before its password is looked at, so that parallel guesses count too.

    Raises TooManyAttempts if the window is full; the attempt is not noted then, so the window empties.
    """
    login = clean_login(login)[:100]
    f = login_failures.c
    tx.execute(delete(login_failures).where(f.at < now - timedelta(days=1)))
    for where, limit in (
        ((f.login == login) & (f.address == address), MAX_PER_LOGIN_AND_ADDRESS),
        (f.address == address, MAX_PER_ADDRESS),
        (f.login == login, MAX_PER_LOGIN),
    ):
        recent = select(func.count(), func.min(f.at)).where(where, f.at > now - WINDOW)
        count, oldest = tx.execute(recent).one()
        if count >= limit:
            raise TooManyAttempts(max(1, int((oldest + WINDOW - now).total_seconds()) + 1))
    tx.execute(insert(login_failures).values(login=login, address=address, at=now))


def open_session(tx: Connection, now: datetime, annotator_id: int, login: str, address: str) -> str:
    """Start a session after a right password; return its token, which only the browser keeps."""
    f = login_failures.c
    mine = (f.login == clean_login(login)) & (f.address == address)
    tx.execute(delete(login_failures).where(mine, f.at > now - WINDOW))  # older ones no longer count
    return start_session(tx, now, annotator_id)


def start_session(tx: Connection, now: datetime, annotator_id: int) -> str:
    """A new session and nothing else; return its token. It ends SESSION_LIFETIME later, used or not."""
    tx.execute(delete(sessions).where(sessions.c.expires_at <= now))
    token = secrets.token_urlsafe(32)
    tx.execute(
        insert(sessions).values(
            token_hash=token_hash(token),
            annotator_id=annotator_id,
            created_at=now,
            expires_at=now + SESSION_LIFETIME,
        )
    )
    return token


def session_annotator(connection: Connection, now: datetime, token: str) -> RowMapping | None:
    """The active account whose live session this token opens."""
    return (
        connection.execute(
            select(annotators.c.id, annotators.c.public_id, annotators.c.login, annotators.c.role)
            .join(sessions, sessions.c.annotator_id == annotators.c.id)
            .where(
                sessions.c.token_hash == token_hash(token), sessions.c.expires_at > now, annotators.c.active
            )
        )
        .mappings()
        .first()
    )


def close_session(tx: Connection, token: str) -> None:
    """End the session of this token, if there is one."""
    tx.execute(delete(sessions).where(sessions.c.token_hash == token_hash(token)))


def close_sessions(tx: Connection, annotator_id: int, keep: str | None = None) -> int:
    """End every session of an account, but for that of the token `keep`; return how many ended."""
    others = sessions.c.annotator_id == annotator_id
    if keep is not None:
        others &= sessions.c.token_hash != token_hash(keep)
    return tx.execute(delete(sessions).where(others)).rowcount


def count_sessions(connection: Connection, now: datetime, annotator_id: int) -> int:
    """How many browsers are signed in to this account."""
    live = (sessions.c.annotator_id == annotator_id) & (sessions.c.expires_at > now)
    return connection.scalar(select(func.count()).where(live)) or 0


def count_judged(connection: Connection, annotator_id: int) -> int:
    """How many tasks this person has judged."""
    mine = (assignments.c.annotator_id == annotator_id) & (assignments.c.state == "submitted")
    return connection.scalar(select(func.count()).where(mine)) or 0


def find_identity(connection: Connection, identity: Identity) -> RowMapping | None:
    """The account, active or not, that is linked to this person of this provider."""
    a = annotators.c
    wanted = select(annotators).where(a.oidc_issuer == identity.issuer, a.oidc_subject == identity.subject)
    return connection.execute(wanted).mappings().first()


def link_identity(tx: Connection, now: datetime, annotator: RowMapping, identity: Identity) -> None:
    """Let this account sign in through the provider. Raises UserError if another account does already."""
    linked = find_identity(tx, identity)
    if linked is not None and linked["id"] != annotator["id"]:
        raise UserError("another account here is linked to that person already")
    values = {"oidc_issuer": identity.issuer, "oidc_subject": identity.subject}
    tx.execute(update(annotators).where(annotators.c.id == annotator["id"]).values(**values))
    audit.append(tx, now, annotator["public_id"], "user link", annotator["public_id"])


def token_hash(token: str) -> str:
    """What the database keeps of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
