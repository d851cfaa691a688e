"""The gate that every request passes: origin of writes, size, sign-in for the pages, and the headers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labeling_app.pages.account import message_page
from labeling_app.pages.parts import ADMINS, PAGES, REVIEWERS
from labeling_app.store.database import DATABASE_AWAY

MAX_BODY = 1 << 20  # bytes; the largest thing an annotator's browser sends is a draft
MAX_API_BODY = 16 << 20  # bytes; a batch of tasks
MAX_UPLOAD = 256 << 20  # bytes; a file of records on an admin page
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
DRAWN = ("app", "admin")  # what Gradio draws
# Of Gradio's many routes, those that its pages ask for. The annotate page fires no event; admin pages do.
PAGE_READS = ("theme.css", "assets/", "static/")
ADMIN_READS = (
    "gradio_api/queue/data",
    "gradio_api/heartbeat/",
    "gradio_api/upload_progress",
    "gradio_api/startup-events",
    "gradio_api/file=",
)
ADMIN_WRITES = (
    "gradio_api/run/predict",
    "gradio_api/queue/join",
    "gradio_api/cancel",
    "gradio_api/upload",
    "gradio_api/reset",
)
log = logging.getLogger(__name__)

_COMMON = (
    "default-src 'none'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
CSP_PLAIN = f"{_COMMON}; style-src 'self'; script-src 'self'; connect-src 'self'"
# Gradio's shell needs inline and evaluated script and inline style: sanitised text is the wall there, and
# this keeps whatever got past it from talking to anybody else.
CSP_GRADIO = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; "
    "base-uri 'self'; frame-src 'none'; frame-ancestors 'none'; form-action 'self'"
)


class Guard:
    """ASGI middleware around the whole application.

    role_of: the role of a request's live session, or None; it may block, and runs in a thread.
    """

    def __init__(self, app: ASGIApp, role_of: Callable[[Request], str | None]) -> None:
        self.app = app
        self.role_of = role_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no websocket is served
        if scope["method"] == "HEAD":  # FastAPI's routes know none: it is GET, whose body the server drops
            scope = {**scope, "method": "GET"}
        area = _area(scope["path"])
        guarded_send = _with_headers(send, scope["path"])
        refusal = _refuse(scope, area)
        if refusal is None and area in DRAWN:
            refusal = await self._check_role(Request(scope), area) or _refuse_unused(scope, area)
        if refusal is not None:
            await refusal(scope, receive, guarded_send)
            return
        await self.app(scope, _limited(receive, _max_body(area)), guarded_send)

    async def _check_role(self, request: Request, area: str) -> Response | None:
        try:
            role = await run_in_threadpool(self.role_of, request)
        except DATABASE_AWAY as error:
            return unavailable(request, error)
        reads_html = _reads_html(request)
        if role is None and reads_html:
            return RedirectResponse("/login", status_code=303)
        if role is None:
            return JSONResponse({"message": "Please sign in."}, status_code=401)
        wanted = _wanted(request.url.path)
        if area == "admin" and role not in wanted:
            sentence = f"This is for {'admins' if wanted == ADMINS else 'reviewers and admins'}."
            if reads_html:
                back = (
                    ("/admin/", "Back to the projects") if role in REVIEWERS else ("/app/", "Back to ranking")
                )
                return HTMLResponse(message_page("Not with your role", sentence, *back), status_code=403)
            return JSONResponse({"message": sentence}, status_code=403)
        return None


def unavailable(request: Request, error: Exception) -> Response:
    """What is answered while the database is away: 503, upon which the annotate page keeps the work and tries
    again. One line in the log, because a full disk may be the reason."""
    log.error("the database does not answer: %s", str(getattr(error, "orig", error)).strip().splitlines()[:1])
    headers = {"Retry-After": "2"}
    if _reads_html(request):
        text = "Nothing was saved. It is tried again when you press the button."
        page = message_page("The database does not answer", text, request.url.path, "Try again")
        return HTMLResponse(page, status_code=503, headers=headers)
    message = {"message": "The database does not answer; nothing was saved."}
    return JSONResponse(message, status_code=503, headers=headers)


def _wanted(path: str) -> tuple[str, ...]:
    """The roles that may ask for this of the admin area."""
    rest = path.strip("/").partition("/")[2]
    if rest.startswith("gradio_api/upload"):
        return ADMINS
    return next((roles for page, _, roles, _ in PAGES if page == rest), REVIEWERS)


def _reads_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _area(path: str) -> str:
    """The first part of the path: "app", "admin", "api", "v1" …"""
    return path.lstrip("/").split("/", 1)[0]


def _max_body(area: str) -> int:
    return {"admin": MAX_UPLOAD, "v1": MAX_API_BODY}.get(area, MAX_BODY)


def _refuse(scope: Scope, area: str) -> Response | None:
    if scope["method"] in SAFE_METHODS:
        return None
    headers = Headers(scope=scope)
    if area == "app":
        return JSONResponse({"message": "Nothing here takes a write."}, status_code=405)
    # /v1 knows a caller by its bearer token alone, which no other site can make a browser send.
    if area != "v1" and not same_origin(headers):
        return JSONResponse({"message": "This request came from another site."}, status_code=403)
    if (
        area == "admin" and "transfer-encoding" in headers
    ):  # else as much of it as is allowed goes to the disk
        return JSONResponse({"message": "Say how long the request is."}, status_code=411)
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > _max_body(area):
        return JSONResponse({"message": "This request is too large."}, status_code=413)
    if area == "api" and headers.get("content-type") != "application/json":
        return JSONResponse({"message": "The body must be application/json."}, status_code=415)
    return None


def _refuse_unused(scope: Scope, area: str) -> Response | None:
    """404 for what Gradio serves and no page of ours asks for: files, a proxy, uploads, functions …"""
    rest = scope["path"].lstrip("/").partition("/")[2]
    reads = scope["method"] in SAFE_METHODS
    if area == "admin":
        is_page = reads and "/" not in rest  # /admin/, /admin/people …
        known = is_page or rest.startswith((*PAGE_READS, *ADMIN_READS) if reads else ADMIN_WRITES)
    else:
        known = reads and (rest == "" or rest.startswith(PAGE_READS))
    return None if known else JSONResponse({"message": "There is no such page."}, status_code=404)


def same_origin(headers: Headers) -> bool:
    """Whether a write comes from our own pages, or from a client that is no browser (no Origin at all)."""
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host") and origin != "null"
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _limited(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, "This request is too large.")
        return message

    return limited


def security_headers(path: str) -> dict[str, str]:
    """What every answer to a request for `path` says to a browser."""
    headers = {
        "Content-Security-Policy": CSP_GRADIO if _area(path) in DRAWN else CSP_PLAIN,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",  # with no-referrer, a form's Origin would be "null"
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }
    if path.startswith("/ui/"):
        headers["Cache-Control"] = "no-cache"  # kept, and asked for by its tag: never an old board
    elif not path.startswith(("/app/assets/", "/admin/assets/")):
        headers["Cache-Control"] = "no-store"
    return headers


def _with_headers(send: Send, path: str) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(security_headers(path))
            # Gradio lets every other site of the same domain read its answers.
            for name in ("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"):
                del headers[name]
        await send(message)

    return guarded
