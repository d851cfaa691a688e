"""Accounts, passwords (argon2), sessions and the brake on guessing."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from alignment.errors import UserError
from labeling_app.store import audit
from labeling_app.store.models import ROLES, annotators, login_failures, sessions

SESSION_LIFETIME = timedelta(days=7)
MIN_PASSWORD = 8
MAX_PASSWORD = 1024

# Attempts allowed in the window: by one address on one login, by one address, on one login from anywhere.
WINDOW = timedelta(minutes=5)
MAX_PER_LOGIN_AND_ADDRESS, MAX_PER_ADDRESS, MAX_PER_LOGIN = 5, 50, 100

# A hash of nothing that anybody knows: an unknown login is checked against it, as slowly as a known one.
NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$vbzAOBcA/j7rH0ABSaBW8w$VOYgnl2kSl91n+n8Y+s53M+XY4OYISNcg0yo6R/P9JE"


class TooManyAttempts(Exception):
    """The login is braked. `seconds`: how long until the next attempt is looked at."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many attempts, wait {seconds} seconds")
        self.seconds = seconds


class Passwords:
    """argon2id with the library's defaults (64 MiB a hash), two at a time so that memory stays bounded."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
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
    login = clean_login(login)
    if not re.fullmatch(r"[\w.@+-]{1,100}", login):
        raise UserError(f"the login {login!r} may have letters, digits and . @ + - _ only, 1 to 100 of them")
    if role not in ROLES:
        raise UserError(f"the role {role!r} is none of {', '.join(ROLES)}")
    if tx.scalar(select(annotators.c.id).where(annotators.c.login == login)) is not None:
        raise UserError(
            f"the login {login!r} is taken; `alignkit label user password {login}` sets a password"
        )
    public_id = "ann-" + secrets.token_hex(5)
    tx.execute(
        insert(annotators).values(
            public_id=public_id,
            login=login,
            password_hash=_new_hash(password, passwords),
            role=role,
            active=True,
            created_at=now,
        )
    )
    audit.append(tx, now, actor, "user add", public_id, after={"role": role})
    return public_id


def set_password(
    tx: Connection, now: datetime, login: str, password: str, passwords: Passwords, actor: str
) -> None:
    """Set a new password and end every session of the account. Raises UserError for an unknown login."""
    row = find_login(tx, login)
    if row is None:
        raise UserError(f"there is no account {clean_login(login)!r}")
    hashed = _new_hash(password, passwords)
    tx.execute(update(annotators).where(annotators.c.id == row["id"]).values(password_hash=hashed))
    tx.execute(delete(sessions).where(sessions.c.annotator_id == row["id"]))
    audit.append(tx, now, actor, "user password", row["public_id"])


def _new_hash(password: str, passwords: Passwords) -> str:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise UserError(
            f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters; this one has {len(password)}"
        )
    return passwords.hash(password)


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
    tx.execute(delete(login_failures).where(f.login == clean_login(login), f.address == address))
    tx.execute(delete(sessions).where(sessions.c.expires_at <= now))
    token = secrets.token_urlsafe(32)
    tx.execute(
        insert(sessions).values(
            token_hash=_token_hash(token),
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
                sessions.c.token_hash == _token_hash(token), sessions.c.expires_at > now, annotators.c.active
            )
        )
        .mappings()
        .first()
    )


def close_session(tx: Connection, token: str) -> None:
    """End the session of this token, if there is one."""
    tx.execute(delete(sessions).where(sessions.c.token_hash == _token_hash(token)))


def _token_hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
