"""The application: FastAPI owns sign-in, the API and security, Gradio draws the pages."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

from anyio import Semaphore
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import DataError

from alignment.errors import UserError
from labeling_app import accounts, api, auth, downloads, http_api, oidc, single_sign_on, start, webhooks
from labeling_app.guard import MAX_UPLOAD, Guard, security_headers, unavailable
from labeling_app.pages.annotate import CSS, HEAD, annotate_page, theme
from labeling_app.store.database import DATABASE_AWAY, Store
from labeling_app.store.people import Passwords
from labeling_app.store.queue import Refusal

UI = Path(__file__).parent / "ui"
log = logging.getLogger(__name__)


def create_api(store: Store, provider: oidc.Provider | None = None) -> FastAPI:
    """Sign-in, the API and the gate around them, on this database; without the pages that Gradio draws."""
    app = FastAPI(title="alignkit labeling", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.store = store
    app.state.passwords = Passwords()
    app.state.turns = Semaphore(2)  # see auth.in_turn
    app.state.provider = provider
    app.include_router(auth.router)
    app.include_router(accounts.router)
    app.include_router(downloads.router)
    app.include_router(single_sign_on.router)
    app.include_router(http_api.router)
    app.include_router(api.router)
    app.include_router(start.router)
    app.mount("/ui", StaticFiles(directory=UI))
    _answer_errors(app)
    app.add_middleware(Guard, role_of=lambda request: auth.role_of(request, app.state.store))
    return app


def create_app(store: Store, provider: oidc.Provider | None = None) -> FastAPI:
    """The whole application. Imports gradio, which takes some seconds."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    from labeling_app.pages.admin import HEAD as ADMIN_HEAD
    from labeling_app.pages.admin import admin_pages

    app = create_api(store, provider)

    def login_of(request: Request) -> str | None:
        annotator = auth.find_annotator(request, app.state.store)
        return None if annotator is None else annotator["login"]

    def reviewer_of(request: Request) -> str | None:
        annotator = auth.find_annotator(request, app.state.store)
        return annotator["login"] if annotator and annotator["role"] in ("reviewer", "admin") else None

    drawn: dict[str, Any] = {
        "theme": theme(),
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        "show_error": False,
    }
    gr.mount_gradio_app(app, annotate_page(), "/app", auth_dependency=login_of, css=CSS, head=HEAD, **drawn)
    return gr.mount_gradio_app(
        app,
        admin_pages(lambda: app.state.store),
        "/admin",
        auth_dependency=reviewer_of,
        head=ADMIN_HEAD,
        max_file_size=MAX_UPLOAD,
        **drawn,
    )


def serve_app(
    store: Store,
    host: str,
    port: int,
    certificate: Path | None = None,
    certificate_key: Path | None = None,
    provider: oidc.Provider | None = None,
) -> None:
    """Serve until interrupted. One process; routes run in its threads."""
    import uvicorn

    with webhooks.delivering(store):
        uvicorn.run(
            create_app(store, provider),
            host=host,
            port=port,
            log_level="warning",
            ssl_certfile=certificate,
            ssl_keyfile=certificate_key,
            timeout_graceful_shutdown=5,
        )


def check_port(host: str, port: int) -> None:
    """Raise UserError if nothing can listen there: told before anything is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port}: {error.strerror}; try another --port") from None


def _answer_errors(app: FastAPI) -> None:
    """Errors that are answers: a sentence for the page to show. Every other exception stays one."""

    @app.exception_handler(Refusal)
    def refused(_request: Request, error: Refusal) -> JSONResponse:
        return JSONResponse({"message": str(error)}, status_code=error.status)

    @app.exception_handler(HTTPException)
    def http_error(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"message": error.detail}, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    def malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        # Where and why, and never what was sent: that may be a password.
        wrong = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"message": "; ".join(wrong)}, status_code=422)

    @app.exception_handler(DataError)
    @app.exception_handler(UnicodeEncodeError)
    def not_storable(_request: Request, error: Exception) -> JSONResponse:
        # A NUL character on PostgreSQL, half of a character pair: no browser of ours sends them.
        log.warning("refused what cannot be stored: %s", type(error).__name__)
        return JSONResponse({"message": "This text has characters that cannot be stored."}, status_code=422)

    for away in DATABASE_AWAY:
        app.add_exception_handler(away, unavailable)

    @app.exception_handler(Exception)
    def broken(request: Request, _error: Exception) -> JSONResponse:
        # Outside of the guard, and raised again once this is sent, so that the server's log has it.
        answer = JSONResponse({"message": "Something is broken here; the server's log says what."}, 500)
        answer.headers.update(security_headers(request.url.path))
        return answer
