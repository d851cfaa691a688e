"""Signing in through an OpenID provider: the routes, and who comes in.

Three ways: an account that is linked to this person of this provider; an invitation that is accepted through
the provider; or the rule of `--oidc-allow`. An account is found by issuer and subject alone: an address that
the provider names never opens an account that exists here already.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from alignment.errors import UserError
from labeling_app import oidc
from labeling_app.accounts import INVITE_COOKIE
from labeling_app.auth import enter, find_annotator, sentence, store_of
from labeling_app.pages.account import message_page
from labeling_app.store import invitations, people
from labeling_app.store.database import utcnow

OIDC_COOKIE = "alignkit_sign_on"
CALLBACK = "/oidc/callback"
ACTOR = "openid provider"

router = APIRouter()
log = logging.getLogger(__name__)


@router.get("/oidc/start")
def start(request: Request) -> Response:
    """To the provider. It is told only where to come back to, and always comes back to the same page."""
    return _to_provider(request, {"do": "sign in"}, by_page=False)


@router.post("/account/link")
def link(request: Request) -> Response:
    """Link the account that is signed in to a person of the provider, who is to say so there."""
    account = find_annotator(request, store_of(request))
    if account is None:
        return RedirectResponse("/login", status_code=303)
    return _to_provider(request, {"do": "link", "account": account["public_id"]})


@router.post("/invite/oidc")
def accept_invitation(request: Request) -> Response:
    """Accept the invitation of this browser as a person of the provider, without a password here."""
    return _to_provider(request, {"do": "invitation", "token": request.cookies.get(INVITE_COOKIE, "")})


@router.get(CALLBACK)
def come_back(request: Request) -> Response:
    """The provider's answer. Whatever comes of it, the sign-in that was begun is over."""
    provider = _provider(request)
    try:
        signed_on = provider.finish(request.cookies.get(OIDC_COOKIE, ""), request.query_params)
        if signed_on.purpose["do"] == "link":
            response = _linked(request, signed_on)
        else:
            response = _entered(request, provider, signed_on)
    except oidc.SignOnFailed as error:
        response = _refused(str(error), 400)
    except UserError as error:
        response = _refused(sentence(error), 403)
    except IntegrityError:  # two windows made the same account at the same moment
        response = _refused("You were signed in twice at the same moment. Please try again.", 409)
    response.delete_cookie(OIDC_COOKIE, path="/oidc", httponly=True, samesite="lax")
    return response


def _provider(request: Request) -> oidc.Provider:
    provider: oidc.Provider | None = request.app.state.provider
    if provider is None:
        raise HTTPException(404, "Nobody signs in elsewhere here.")
    return provider


def _to_provider(request: Request, purpose: Mapping[str, str], by_page: bool = True) -> Response:
    """by_page: what answers a form must not redirect to another site (form-action), so a page does."""
    provider = _provider(request)
    here = str(request.base_url).rstrip("/") + CALLBACK
    try:
        address, cookie = provider.begin(here, purpose)
    except (oidc.SignOnFailed, UserError) as error:
        log.warning("cannot begin an OpenID sign-in: %s", error)
        return _refused(f"{provider.settings.name} does not answer as it should. Try again later.", 502)
    title = f"Sign in with {provider.settings.name}"
    response: Response = RedirectResponse(address, status_code=303)
    if by_page:
        text = "You are taken there now."
        response = HTMLResponse(message_page(title, text, address, "Go on", refresh=True))
    response.set_cookie(
        OIDC_COOKIE,
        cookie,
        max_age=oidc.TRANSACTION_SECONDS,
        path="/oidc",
        httponly=True,
        samesite="lax",  # not strict: the answer comes from the provider's site
        secure=request.url.scheme == "https",
    )
    return response


def _entered(request: Request, provider: oidc.Provider, signed_on: oidc.SignedOn) -> Response:
    """A new session for whoever this is, if they may come in. Raises UserError."""
    identity = people.Identity(provider.settings.issuer, signed_on.claims["sub"])
    now = utcnow()
    with store_of(request).write() as tx:
        account = people.find_identity(tx, identity)
        if account is None:
            account_id = _make_account(tx, now, provider.settings, signed_on, identity)
        elif account["active"]:
            account_id = account["id"]
        else:
            raise UserError("this account is closed; ask the person who runs this server")
        token = people.start_session(tx, now, account_id)
    response = enter(request, token)
    response.delete_cookie(INVITE_COOKIE, path="/invite", httponly=True, samesite="lax")
    return response


def _make_account(
    tx: Connection,
    now: datetime,
    settings: oidc.Settings,
    signed_on: oidc.SignedOn,
    identity: people.Identity,
) -> int:
    """By invitation or by rule; the id. Raises UserError where neither lets them in."""
    login = people.unused_login(tx, _login_of(signed_on.claims))
    if signed_on.purpose["do"] == "invitation":
        token = signed_on.purpose["token"]
        return int(invitations.accept(tx, now, token, login, None, identity)["id"])
    if not oidc.admits(settings, signed_on.claims):
        raise UserError(
            f"{settings.name} knows you, but you have no account here; ask the person who runs this server "
            "for an invitation, or sign in with your password and link your account"
        )
    people.insert_annotator(tx, now, login, None, settings.role, ACTOR, identity)
    made = people.find_identity(tx, identity)
    assert made is not None
    return int(made["id"])


def _linked(request: Request, signed_on: oidc.SignedOn) -> Response:
    """The account that began it must still be the one that is signed in. Raises UserError."""
    store, provider = store_of(request), _provider(request)
    account = find_annotator(request, store)
    if account is None or account["public_id"] != signed_on.purpose["account"]:
        raise UserError("you were signed out meanwhile, and nothing was linked; sign in and try again")
    identity = people.Identity(provider.settings.issuer, signed_on.claims["sub"])
    with store.write() as tx:
        people.link_identity(tx, utcnow(), account, identity)
    return RedirectResponse("/account?done=linked", status_code=303)


def _login_of(claims: Mapping[str, Any]) -> str:
    """A login for a new account from what the provider calls the person."""
    for name in ("preferred_username", "email", "name"):
        login = re.sub(r"[^\w.@+-]+", ".", people.clean_login(str(claims.get(name) or ""))).strip(".")
        if login:
            return login[:80]
    return "person"


def _refused(problem: str, status: int) -> Response:
    return HTMLResponse(message_page("You are not signed in", problem, "/login", "Back"), status_code=status)
