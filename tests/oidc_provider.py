"""A small OpenID provider for tests: its own keys, authorization code with PKCE, knobs that make it lie."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "labeling", "s3cret & more"


class FakeProvider:
    """`claims` go into every ID token over the right ones (None takes one away); `key` signs it."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
        self.published = [self.key]
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "one"}
        self.signing_key: Any = self.key
        self.answer: dict[str, str] = {}  # to the browser, over code and state
        self.metadata: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[dict[str, str]] = []  # what came to the authorization endpoint
        self.issuer = ""  # known when the server runs
        self.app = self._app()

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        def discovery() -> dict[str, Any]:
            return {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                **self.metadata,
            }

        @app.get("/keys")
        def keys() -> dict[str, Any]:
            return {"keys": [key.as_dict(private=False) for key in self.published]}

        @app.get("/authorize")
        def authorize(request: Request) -> Response:
            asked = dict(request.query_params)
            self.asked.append(asked)
            code = secrets.token_urlsafe(16)
            self.codes[code] = asked
            answer = {"code": code, "state": asked["state"], **self.answer}
            query = "&".join(f"{name}={value}" for name, value in answer.items() if value)
            return RedirectResponse(f"{asked['redirect_uri']}?{query}", status_code=303)

        @app.post("/token")
        def token(
            request: Request,
            code: Annotated[str, Form()],
            code_verifier: Annotated[str, Form()],
            redirect_uri: Annotated[str, Form()],
        ) -> Response:
            asked = self.codes.pop(code, None)  # once
            digest = hashlib.sha256(code_verifier.encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            basic = "Basic " + base64.b64encode(f"{CLIENT}:s3cret+%26+more".encode()).decode()
            if request.headers.get("authorization") != basic:
                return JSONResponse({"error": "invalid_client"}, status_code=401)
            if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != redirect_uri:
                return JSONResponse({"error": "invalid_grant"}, status_code=400)
            return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": self._token(asked)})

        return app

    def _token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "person-1",
            "aud": CLIENT,
            "exp": now + 300,
            "iat": now,
            "nonce": asked["nonce"],
            "email": "Ada@Example.org",
            "email_verified": True,
            **self.claims,
        }
        said = {name: value for name, value in claims.items() if value is not None}
        if self.header["alg"] == "none":
            parts = (b'{"alg":"none"}', str(said).replace("'", '"').replace("True", "true").encode())
            return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."
        return jwt.encode(self.header, said, self.signing_key, algorithms=[self.header["alg"]])
