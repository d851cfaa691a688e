"""Signing in through an OpenID provider: authorization code with PKCE, state and nonce.

OpenID Connect Core 1.0, RFC 7636 (PKCE), RFC 9207 (iss in the answer). This is the protocol alone; who of
those that the provider vouches for may come in is said in single_sign_on.py.

What a sign-in needs to be finished (state, nonce, PKCE verifier, what it is for) waits in a cookie of the
browser that began it, signed with a key that only this process knows, for TRANSACTION_SECONDS; it is taken
once.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import httpx

from alignment.errors import UserError
from labeling_app.store.models import ROLES

SECRET_VARIABLE = "ALIGNKIT_OIDC_CLIENT_SECRET"  # noqa: S105 - the name of it
TRANSACTION_SECONDS = 600
LEEWAY = 60  # seconds that clocks may differ
TIMEOUT = 10.0
METADATA_SECONDS = 3600  # how long it is kept what the provider says of itself
KEYS_SECONDS = (
    60  # a signature that does not fit makes its keys be fetched anew, but not more often than this
)
# Signatures that only the provider can make: never "none", never HS256 and kin, whose key the client has too.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LOOPBACK = ("localhost", "127.0.0.1", "::1")

log = logging.getLogger(__name__)


class SignOnFailed(Exception):
    """The sign-in did not come to an end. The text is for the person; why exactly is in the log alone."""


@dataclass(frozen=True)
class Settings:
    """Which provider, and whom of its people this server lets in without an invitation."""

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)  # None: a public client, for which PKCE stands alone
    name: str = "your organisation"
    allowed: tuple[str, ...] = ()  # addresses, "@domain"s, or "*" for everybody
    role: str = "annotator"  # of accounts that are made by this rule


@dataclass(frozen=True)
class SignedOn:
    """The claims of a verified ID token, and what the sign-in was begun for."""

    claims: Mapping[str, Any]
    purpose: Mapping[str, str]


class Provider:
    """One OpenID provider. Every method may be called by many threads, and may wait for the network."""

    def __init__(self, settings: Settings) -> None:
        try:
            from joserfc.jwk import OctKey
        except ModuleNotFoundError:
            raise UserError("OpenID sign-in needs joserfc: pip install 'alignkit[oidc]'") from None
        _check(settings)
        self.settings = settings
        self._cookie_key = OctKey.generate_key(256)
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}  # state -> when it may be forgotten
        self._metadata: dict[str, Any] = {}
        self._keys: list[dict[str, Any]] = []
        self._metadata_at = self._keys_at = float("-inf")

    def metadata(self) -> dict[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery 1.0).

        Raises UserError where that does not fit the settings, SignOnFailed where it does not answer.
        """
        if time.monotonic() - self._metadata_at > METADATA_SECONDS:
            found = self._fetch(self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != self.settings.issuer:
                raise UserError(
                    f"the provider calls itself {found.get('issuer')!r}: give that as --oidc-issuer, "
                    f"not {self.settings.issuer!r}"
                )
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not _is_safe(str(found.get(name, ""))):
                    raise UserError(f"the provider's {name} is not https: {found.get(name)!r}")
            self._metadata, self._metadata_at = found, time.monotonic()
        return self._metadata

    def begin(self, redirect_uri: str, purpose: Mapping[str, str]) -> tuple[str, str]:
        """Where to send the browser, and the cookie that it is to bring back."""
        from joserfc import jwt

        transaction = {
            "state": secrets.token_urlsafe(32),
            "nonce": secrets.token_urlsafe(32),
            "verifier": secrets.token_urlsafe(48),
            "redirect_uri": redirect_uri,
            "purpose": dict(purpose),
            "exp": int(time.time()) + TRANSACTION_SECONDS,
        }
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid email profile",
            "state": transaction["state"],
            "nonce": transaction["nonce"],
            "code_challenge": _challenge(str(transaction["verifier"])),
            "code_challenge_method": "S256",
        }
        endpoint = self.metadata()["authorization_endpoint"]
        address = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"
        return address, jwt.encode({"alg": "HS256"}, transaction, self._cookie_key)

    def finish(self, cookie: str, answer: Mapping[str, str]) -> SignedOn:
        """Take the provider's answer (the query of the callback). Raises SignOnFailed."""
        transaction = self._take(cookie, answer.get("state", ""))
        if answer.get("iss", self.settings.issuer) != self.settings.issuer:
            raise _failed("the answer is from another issuer")
        if answer.get("error") == "access_denied":
            raise SignOnFailed("The sign-in was cancelled.")
        if "error" in answer or not answer.get("code"):
            raise _failed(f"the provider answered {answer.get('error', 'no code')[:100]!r}")
        id_token = self._exchange(answer["code"], transaction)
        return SignedOn(self._verified(id_token, transaction["nonce"]), transaction["purpose"])

    def _take(self, cookie: str, state: str) -> dict[str, Any]:
        """The transaction of this browser, if it is the one that is answered; it cannot be taken again."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        stale = SignOnFailed("That sign-in took too long or was begun in another browser. Please try again.")
        try:
            transaction = jwt.decode(cookie, self._cookie_key, algorithms=["HS256"]).claims
        except (JoseError, ValueError):
            raise stale from None
        now = time.time()
        if transaction["exp"] <= now or not secrets.compare_digest(
            transaction["state"].encode(), state.encode("utf-8", "replace")
        ):
            raise stale
        with self._lock:
            self._used = {used: until for used, until in self._used.items() if until > now}
            if transaction["state"] in self._used:
                raise stale
            self._used[transaction["state"]] = transaction["exp"]
        return transaction

    def _exchange(self, code: str, transaction: Mapping[str, Any]) -> str:
        """The ID token for the code."""
        metadata, settings = self.metadata(), self.settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": transaction["redirect_uri"],
            "code_verifier": transaction["verifier"],
            "client_id": settings.client_id,
        }
        auth = None
        if settings.client_secret is not None:
            methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
            if "client_secret_post" in methods:
                form["client_secret"] = settings.client_secret
            else:  # RFC 6749, 2.3.1: both are form-encoded before they are put together
                auth = httpx.BasicAuth(quote_plus(settings.client_id), quote_plus(settings.client_secret))
        told = self._fetch(metadata["token_endpoint"], form, auth)
        if not isinstance(told.get("id_token"), str):
            raise _failed("the token endpoint gave no ID token")
        return str(told["id_token"])

    def _verified(self, id_token: str, nonce: str) -> dict[str, Any]:
        """The claims, if the provider signed them, for this client, for this sign-in, and just now."""
        from joserfc import jwt
        from joserfc.errors import JoseError

        settings = self.settings
        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": settings.issuer},
            sub={"essential": True},
            aud={"essential": True, "value": settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            claims = self._decoded(id_token)
            registry.validate(claims)
        except (JoseError, ValueError) as error:
            raise _failed(f"the ID token is not valid: {error}") from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else settings.client_id) != settings.client_id:
            raise _failed("the ID token was made for another client")
        if not 1 <= len(claims["sub"]) <= 255:
            raise _failed("the subject of the ID token is empty or too long")
        return claims

    def _decoded(self, id_token: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        def decoded() -> dict[str, Any]:
            keys = KeySet.import_key_set({"keys": self._keys})
            return jwt.decode(id_token, keys, algorithms=list(ALGORITHMS)).claims

        self._fetch_keys(METADATA_SECONDS)
        try:
            return decoded()
        except (JoseError, ValueError):
            if not self._fetch_keys(KEYS_SECONDS):
                raise
        return decoded()  # the provider changes its keys now and then

    def _fetch_keys(self, older_than: float) -> bool:
        """Fetch the provider's keys if those at hand are older (seconds); return whether that was so."""
        if time.monotonic() - self._keys_at <= older_than:
            return False
        keys = self._fetch(self.metadata()["jwks_uri"]).get("keys", [])
        usable = [key for key in keys if key.get("kty") != "oct" and key.get("use", "sig") == "sig"]
        self._keys, self._keys_at = usable, time.monotonic()
        return True

    def _fetch(self, url: str, form: dict[str, str] | None = None, auth: Any = None) -> dict[str, Any]:
        """The JSON object at `url`, by POST if there is a form. Raises SignOnFailed."""
        method = "GET" if form is None else "POST"
        try:
            answer = httpx.request(
                method, url, data=form, auth=auth, timeout=TIMEOUT, headers={"Accept": "application/json"}
            )
            found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise _failed(f"{url} does not answer as it should: {type(error).__name__}") from error
        if answer.status_code != 200 or not isinstance(found, dict):
            said = found.get("error") if isinstance(found, dict) else None
            raise _failed(f"{url} answered {answer.status_code}, error {str(said)[:100]!r}")
        return found


def admits(settings: Settings, claims: Mapping[str, Any]) -> bool:
    """Whether somebody with these claims gets an account without an invitation.

    An address counts only if the provider says that it was verified.
    """
    if "*" in settings.allowed:
        return True
    address = str(claims.get("email") or "").strip().lower()
    if claims.get("email_verified") is not True or "@" not in address:
        return False
    return address in settings.allowed or "@" + address.rpartition("@")[2] in settings.allowed


def _check(settings: Settings) -> None:
    if not _is_safe(settings.issuer):
        raise UserError(f"--oidc-issuer {settings.issuer!r} must be an https address")
    if settings.role not in ROLES or settings.role == "admin":
        raise UserError(f"--oidc-role {settings.role!r} must be annotator or reviewer")
    for rule in settings.allowed:
        if rule != "*" and ("@" not in rule or rule != rule.strip().lower()):
            raise UserError(f"--oidc-allow {rule!r} is no address, no @domain and no *")


def _is_safe(url: str) -> bool:
    """https, or this machine itself."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    )


def _challenge(verifier: str) -> str:
    """RFC 7636, 4.2: BASE64URL(SHA256(verifier)) without padding."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _failed(reason: str) -> SignOnFailed:
    log.warning("OpenID sign-in failed: %s", reason)
    return SignOnFailed("The sign-in did not work. Try again, or ask the person who runs this server.")
