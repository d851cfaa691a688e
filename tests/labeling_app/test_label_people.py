"""Accounts, sessions, and the brake on guessing passwords."""

from __future__ import annotations

from datetime import timedelta

import pytest
from labeling_helpers import PASSWORD, add_people
from sqlalchemy import select

from alignment.errors import UserError
from labeling_app.store import people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import sessions


def test_accounts(store: Store) -> None:
    passwords = people.Passwords()

    def add(login: str, password: str = PASSWORD, role: str = "annotator") -> str:
        with store.write() as tx:
            return people.add_annotator(tx, utcnow(), login, password, role, passwords, "test")

    assert add(" Anna ").startswith("ann-")
    for arguments, words in (
        (("anna",), "taken"),
        (("a b",), "letters"),
        (("ben", "short"), "8 to 1024"),
        (("ben", PASSWORD, "boss"), "none of"),
    ):
        with pytest.raises(UserError, match=words):
            add(*arguments)
    with store.read() as connection:
        account = people.find_login(connection, "ANNA")
    assert PASSWORD not in account["password_hash"]
    assert passwords.matches(account["password_hash"], PASSWORD)
    assert not passwords.matches(account["password_hash"], PASSWORD + "x")
    assert not passwords.matches(None, PASSWORD)


def test_sessions_expire_and_end_with_a_new_password(store: Store) -> None:
    (person,) = add_people(store, "anna")
    now = utcnow()
    with store.write() as tx:
        token = people.open_session(tx, now, person["id"], "anna", "::1")
        assert tx.scalar(select(sessions.c.token_hash)) != token
    with store.read() as connection:
        assert people.session_annotator(connection, now, token)["login"] == "anna"
        assert people.session_annotator(connection, now, token + "x") is None
        assert people.session_annotator(connection, now + people.SESSION_LIFETIME, token) is None
    with store.write() as tx:
        people.set_password(tx, now, "anna", "another password", people.Passwords(), "test")
        assert people.session_annotator(tx, now, token) is None


def test_guessing_is_braked_by_login_and_by_address(store: Store) -> None:
    now = utcnow()

    def attempt(login: str, address: str, seconds: float = 0) -> None:
        with store.write() as tx:
            people.count_attempt(tx, now + timedelta(seconds=seconds), login, address)

    for _ in range(people.MAX_PER_LOGIN_AND_ADDRESS):
        attempt("anna", "1.1.1.1")
    with pytest.raises(people.TooManyAttempts) as braked:
        attempt("Anna", "1.1.1.1")
    assert 0 < braked.value.seconds <= 301
    attempt("anna", "2.2.2.2")
    attempt("anna", "1.1.1.1", seconds=301)
    for number in range(people.MAX_PER_ADDRESS):
        attempt(f"guess{number}", "3.3.3.3")
    with pytest.raises(people.TooManyAttempts):
        attempt("somebody", "3.3.3.3")


def test_no_login_can_be_made_that_is_somebodys(store: Store) -> None:
    add_people(store, "anna")
    with store.read() as tx:
        assert people.unused_login(tx, "anna").startswith("anna-")
        assert people.unused_login(tx, "ben") == "ben"
