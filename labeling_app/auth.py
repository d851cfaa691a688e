"""Signing in and out, and who a request is from. Plain pages and forms: they work without any script."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import RowMapping

from alignment.errors import UserError
from labeling_app.pages.login import login_page
from labeling_app.store import people
from labeling_app.store.database import Store, utcnow

COOKIE = "alignkit_session"

router = APIRouter()


def store_of(request: Request) -> Store:
    """The database of the application that serves this request."""
    store: Store = request.app.state.store
    return store


def find_annotator(request: Request, store: Store) -> RowMapping | None:
    """The account whose session cookie this request carries, if it is live."""
    token = request.cookies.get(COOKIE)
    if not token:
        return None
    with store.read() as connection:
        return people.session_annotator(connection, utcnow(), token)


def signed_in(request: Request) -> RowMapping:
    """Dependency of every route of the API: the signed-in account, or 401."""
    annotator = find_annotator(request, store_of(request))
    if annotator is None:
        raise HTTPException(401, "Please sign in.")
    return annotator


def role_of(request: Request, store: Store) -> str | None:
    """The role of the account that this request is from, or None."""
    account = find_annotator(request, store)
    return None if account is None else account["role"]


Annotator = Annotated[RowMapping, Depends(signed_in)]


def reviews(account: Annotator) -> RowMapping:
    """Dependency of what reviewers and admins may do: the account, or 403."""
    if account["role"] not in ("reviewer", "admin"):
        raise HTTPException(403, "This is for reviewers and admins.")
    return account


def administers(account: Annotator) -> RowMapping:
    """Dependency of what only admins may do: the account, or 403."""
    if account["role"] != "admin":
        raise HTTPException(403, "This is for admins.")
    return account


Reviewer = Annotated[RowMapping, Depends(reviews)]
Admin = Annotated[RowMapping, Depends(administers)]


@router.get("/")
def home() -> Response:
    """The one page there is."""
    return RedirectResponse("/app/", status_code=303)


@router.get("/favicon.ico")
def favicon() -> Response:
    """What browsers ask for unasked."""
    return RedirectResponse("/ui/icon.svg", status_code=301)


@router.get("/login")
def show_login(request: Request) -> Response:
    """The form; who is signed in already goes to work."""
    if find_annotator(request, store_of(request)) is not None:
        return RedirectResponse("/app/", status_code=303)
    return HTMLResponse(login_page(provider=request.app.state.provider))


async def in_turn(request: Request, work: Callable[..., Response], *values: Any) -> Response:
    """Run what hashes a password, few at a time: a crowd that signs in waits here, and not in the threads in
    which everybody else is served. Who has gone away meanwhile is left out: the others would wait longer."""
    async with request.app.state.turns:
        if await request.is_disconnected():
            return Response(status_code=408)
        return await to_thread.run_sync(partial(work, request, *values))


@router.post("/login")
async def log_in(
    request: Request, login: Annotated[str, Form()] = "", password: Annotated[str, Form()] = ""
) -> Response:
    """Check the password, and on success start a new session (never one that the browser brought along)."""
    return await in_turn(request, _log_in, login, password)


def _log_in(request: Request, login: str, password: str) -> Response:
    store, address, provider = store_of(request), address_of(request), request.app.state.provider
    try:
        with store.write() as tx:
            people.count_attempt(tx, utcnow(), login, address)
    except people.TooManyAttempts as error:
        page = login_page(login, too_many(error), provider)
        return HTMLResponse(page, status_code=429, headers={"Retry-After": str(error.seconds)})
    with store.read() as connection:
        account = people.find_login(connection, login)
    passwords: people.Passwords = request.app.state.passwords
    right = passwords.matches(
        account["password_hash"] if account else None, password[: people.MAX_PASSWORD + 1]
    )
    if account is None or not right:
        problem = "This login and password do not match."
        return HTMLResponse(login_page(login, problem, provider), status_code=401)
    with store.write() as tx:
        token = people.open_session(tx, utcnow(), account["id"], login, address)
    return enter(request, token)


def enter(request: Request, token: str, to: str = "/app/") -> Response:
    """Go on with this new session; one that the browser brought along ends."""
    brought = request.cookies.get(COOKIE)
    if brought:
        with store_of(request).write() as tx:
            people.close_session(tx, brought)
    response = RedirectResponse(to, status_code=303)
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(people.SESSION_LIFETIME.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return response


@router.post("/logout")
def log_out(request: Request) -> Response:
    """End the session, here and in the database."""
    token = request.cookies.get(COOKIE)
    if token:
        with store_of(request).write() as tx:
            people.close_session(tx, token)
    response = RedirectResponse("/login", status_code=303)
    response.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=request.url.scheme == "https")
    return response


def address_of(request: Request) -> str:
    """Where the request comes from, as far as is known; of IPv6 the network (/64), which is one person's."""
    host = request.client.host if request.client else "unknown"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if address.version == 4 or address.ipv4_mapped:
        return str(getattr(address, "ipv4_mapped", None) or address)
    return str(ipaddress.ip_network((address, 64), strict=False))


def too_many(error: people.TooManyAttempts) -> str:
    """What somebody reads whose attempts are braked."""
    seconds = error.seconds
    wait = f"{seconds} seconds" if seconds < 90 else f"{(seconds + 59) // 60} minutes"
    return f"Too many attempts. Try again in {wait}."


def sentence(error: UserError) -> str:
    """An error's text as a page says it."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
