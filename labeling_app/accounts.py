"""One's own account (password, sessions) and invitations. Plain pages and forms, like signing in."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import RowMapping
from sqlalchemy.exc import IntegrityError

from alignment.errors import UserError
from labeling_app.auth import COOKIE, address_of, enter, find_annotator, in_turn, sentence, store_of, too_many
from labeling_app.pages.account import account_page, invite_page, message_page
from labeling_app.store import invitations, people
from labeling_app.store.database import utcnow

INVITE_COOKIE = "alignkit_invitation"
NOT_AGAIN = "The two new passwords are not the same."

router = APIRouter()


@router.get("/account")
def show_account(request: Request, done: str = "") -> Response:
    """The page of the account that is signed in."""
    account = find_annotator(request, store_of(request))
    return _to_login() if account is None else _account_page(request, account, done=done)


@router.post("/account/password")
async def change_password(
    request: Request,
    current: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
) -> Response:
    """Set a new password, given the current one. Every session ends, and this browser gets a new one."""
    return await in_turn(request, _change_password, current, password, again)


def _change_password(request: Request, current: str, password: str, again: str) -> Response:
    store, address = store_of(request), address_of(request)
    account = find_annotator(request, store)
    if account is None:
        return _to_login()
    if password != again:
        return _account_page(request, account, NOT_AGAIN, 422)
    try:
        with store.write() as tx:
            people.count_attempt(tx, utcnow(), account["login"], address)
    except people.TooManyAttempts as error:
        return _account_page(request, account, too_many(error), 429)
    with store.read() as connection:
        row = people.account_of(connection, account["id"])
    passwords: people.Passwords = request.app.state.passwords
    if not passwords.matches(row["password_hash"], current[: people.MAX_PASSWORD + 1]):
        return _account_page(request, account, "The current password is not right.", 401)
    try:
        hashed = people.new_hash(password, passwords)
    except UserError as error:
        return _account_page(request, account, sentence(error), 422)
    with store.write() as tx:
        people.store_password(tx, utcnow(), row, hashed, account["public_id"])
        token = people.open_session(tx, utcnow(), account["id"], account["login"], address)
    return enter(request, token, "/account?done=password")


@router.post("/account/sessions")
def end_other_sessions(request: Request) -> Response:
    """Sign out every browser but this one."""
    store = store_of(request)
    account = find_annotator(request, store)
    if account is None:
        return _to_login()
    with store.write() as tx:
        people.close_sessions(tx, account["id"], keep=request.cookies[COOKIE])
    return RedirectResponse("/account?done=sessions", status_code=303)


@router.get("/invite/{token}")
def open_invitation(token: str, request: Request) -> Response:
    """Take the token out of the address at once, so that no history, Referer or screenshot has it."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{20,100}", token):
        return _no_invitation()
    response = RedirectResponse("/invite", status_code=303)
    response.set_cookie(
        INVITE_COOKIE,
        token,
        max_age=3600,
        path="/invite",
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


@router.get("/invite")
def show_invitation(request: Request) -> Response:
    """The form in which the person who was invited chooses a login and a password."""
    invitation = _invitation(request)
    return _no_invitation() if invitation is None else _invite_page(request, invitation)


@router.post("/invite")
async def accept_invitation(
    request: Request,
    login: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
) -> Response:
    """Make the account, use the invitation up, and sign in."""
    return await in_turn(request, _accept_invitation, login, password, again)


def _accept_invitation(request: Request, login: str, password: str, again: str) -> Response:
    store, invitation = store_of(request), _invitation(request)
    if invitation is None:
        return _no_invitation()
    try:
        if password != again:
            raise UserError(NOT_AGAIN[:-1])
        with store.read() as connection:
            people.free_login(connection, login)
        hashed = people.new_hash(password, request.app.state.passwords)
        with store.write() as tx:
            made = invitations.accept(tx, utcnow(), request.cookies[INVITE_COOKIE], login, hashed)
            token = people.start_session(tx, utcnow(), made["id"])
    except UserError as error:
        return _invite_page(request, invitation, login, sentence(error), 422)
    except IntegrityError:  # two people chose the same login at the same moment
        problem = "This login was taken just now; choose another."
        return _invite_page(request, invitation, login, problem, 409)
    response = enter(request, token)
    response.delete_cookie(INVITE_COOKIE, path="/invite", httponly=True, samesite="lax")
    return response


def _invitation(request: Request) -> RowMapping | None:
    token = request.cookies.get(INVITE_COOKIE)
    if not token:
        return None
    with store_of(request).read() as connection:
        return invitations.find_invitation(connection, utcnow(), token)


def _invite_page(
    request: Request, invitation: RowMapping, login: str = "", problem: str = "", status: int = 200
) -> Response:
    page = invite_page(invitation["role"], login, problem, request.app.state.provider)
    return HTMLResponse(page, status_code=status)


def _no_invitation() -> Response:
    text = "It was used already, has expired, or is not whole. Ask the person who invited you for a new link."
    page = message_page("This invitation is not valid", text, "/login", "Sign in")
    return HTMLResponse(page, status_code=410)


def _to_login() -> Response:
    return RedirectResponse("/login", status_code=303)


def _account_page(
    request: Request, account: RowMapping, problem: str = "", status: int = 200, done: str = ""
) -> Response:
    with store_of(request).read() as connection:
        row = people.account_of(connection, account["id"])
        judged = people.count_judged(connection, account["id"])
        others = people.count_sessions(connection, utcnow(), account["id"]) - 1
    page = account_page(row, judged, others, request.app.state.provider, problem, done)
    return HTMLResponse(page, status_code=status)
