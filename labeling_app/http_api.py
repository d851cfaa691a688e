"""The HTTP API for programs: tasks in, judgments out. A bearer token says who asks; cookies do not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import Connection, RowMapping, case, func, select
from sqlalchemy.exc import IntegrityError
from starlette.background import BackgroundTask

from alignment.data.records import Record, decode_record
from alignment.errors import UserError
from labeling_app import exports, imports
from labeling_app.auth import address_of, sentence, store_of, too_many
from labeling_app.pages.api_docs import docs_page
from labeling_app.store import feed, tokens
from labeling_app.store.database import utcnow
from labeling_app.store.models import projects, tasks
from labeling_app.store.people import TooManyAttempts

LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
MAX_PAGE = 1000

router = APIRouter(prefix="/v1")
_bearer = HTTPBearer(auto_error=False, description="A token made by `alignkit label token add`.")


def token_of(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> RowMapping:
    """Dependency of every route but the docs: the token's row, or 401, or 429 for one who guesses."""
    refusal = {"WWW-Authenticate": "Bearer"}
    if given is None:
        raise HTTPException(401, "Send a token: Authorization: Bearer akl_…", refusal)
    store, now = store_of(request), utcnow()
    with store.read() as connection:
        row = tokens.find_token(connection, now, given.credentials)
    if row is not None:
        return row
    try:
        with store.write() as tx:
            tokens.count_bad_token(tx, now, address_of(request))
    except TooManyAttempts as error:
        raise HTTPException(429, too_many(error), {"Retry-After": str(error.seconds)}) from None
    raise HTTPException(401, "This token is unknown, expired or revoked.", refusal)


Token = Annotated[RowMapping, Depends(token_of)]


def writing_token(token: Token) -> RowMapping:
    """Dependency of routes that write: the token's row, or 403."""
    if not token["can_write"]:
        raise HTTPException(403, "This token only reads; make one with `alignkit label token add --write`.")
    return token


async def whole_body(request: Request) -> bytes:
    """The body as it came; the gate before has limited its size."""
    return await request.body()


@router.get("/projects")
def list_projects(request: Request, token: Token) -> dict[str, Any]:
    """The projects that this token may see."""
    p = projects.c
    wanted = select(p.id, p.name, p.asks, p.overlap, p.guideline_version, p.active).order_by(p.name)
    if token["project_id"] is not None:
        wanted = wanted.where(p.id == token["project_id"])
    with store_of(request).read() as connection:
        rows = connection.execute(wanted).mappings().all()
    return {"projects": [{key: value for key, value in row.items() if key != "id"} for row in rows]}


@router.get("/projects/{name}/progress")
def show_progress(name: str, request: Request, token: Token) -> dict[str, Any]:
    """How far a project is: tasks, those that are done, judgments made and wanted; gold and practice tasks
    are not counted."""
    t = tasks.c
    counts = select(
        func.count().label("tasks"),
        func.coalesce(func.sum(case((t.status == "done", 1), else_=0)), 0).label("done"),
        func.coalesce(func.sum(t.n_judgments), 0).label("judgments"),
        func.coalesce(func.sum(t.n_required), 0).label("wanted"),
    )
    with store_of(request).read() as connection:
        project = _project(connection, token, name)
        of_project = (t.project_id == project["id"]) & ~t.is_gold & ~t.is_practice & (t.status != "withdrawn")
        row = connection.execute(counts.where(of_project)).mappings().one()
    return {"project": name, **{key: int(value) for key, value in row.items()}}


_RECORD = {"type": "object", "description": "A record of alignkit's format: prompt, completions, id, …"}
_TASKS_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "array", "items": _RECORD}},
            "application/x-ndjson": {"schema": {"type": "string", "description": "One record a line."}},
        },
    }
}


@router.post("/projects/{name}/tasks", openapi_extra=_TASKS_BODY)
def add_tasks(
    name: str,
    request: Request,
    token: Annotated[RowMapping, Depends(writing_token)],
    body: Annotated[bytes, Depends(whole_body)],
    create: Annotated[bool, Query(description="Make the project if there is none of this name.")] = False,
    priority_from: Annotated[
        str | None,
        Query(
            description="What orders the queue, highest first: `meta.urgency`, or `rewards` of an ensemble."
        ),
    ] = None,
) -> dict[str, Any]:
    """Make tasks of records, all or none of them. A record that is there already, by its id, is counted as
    present: a request that got no answer can be sent again. `personal` counts what seems to be personal data
    in the records, by kind: annotators will read it."""
    store, now = store_of(request), utcnow()
    try:
        records = list(_records(body, request.headers.get("content-type", "")))
        personal = imports.look_over(records, priority_from)
        with store.write() as tx:
            if not (create and token["project_id"] is None):
                _project(tx, token, name)
            who = f"token/{token['id']}"
            done = imports.import_into(tx, now, records, name, priority_from=priority_from, actor=who)
    except UserError as error:
        raise HTTPException(422, sentence(error)) from None
    except IntegrityError:
        text = "Another request was adding the same tasks; nothing was added by this one. Send it again."
        raise HTTPException(409, text) from None
    counts = {"added": done.added, "present": done.present, "left_out": dict(done.left_out)}
    return {"project": name, **counts, "personal": dict(personal)}


@router.get("/projects/{name}/judgments")
def read_judgments(
    name: str,
    request: Request,
    token: Token,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="The `next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 100,
) -> dict[str, Any]:
    """Judgments in the order in which they were committed, a page at a time. Ask again with `after` set to
    `next`: none is left out and none comes twice. An empty page means that there are no more for now. An edit
    comes as a judgment of its own, with a higher `revision`. Ranks are in the order of the record's
    completions."""
    store = store_of(request)
    with store.read() as connection:
        project = _project(connection, token, name)
        told, cursor = feed.judgments_after(connection, after, limit, project["id"])
    if told:
        with store.write() as tx:
            feed.note_told(tx, utcnow(), "API", told, f"token/{token['id']}")
    return {"judgments": [one.shown for one in told], "next": cursor}


@router.get("/projects/{name}/export.jsonl", response_class=FileResponse)
def export(
    name: str,
    request: Request,
    token: Token,
    everything: Annotated[bool, Query(alias="all", description="Tasks without a judgment too.")] = False,
) -> Response:
    """The project's records with their judgments, as `alignkit label export` writes them."""
    store = store_of(request)
    with store.read() as connection:
        _project(connection, token, name)
    folder = tempfile.TemporaryDirectory(prefix="alignkit-export-")
    out = Path(folder.name) / "API.jsonl"
    try:
        exports.export_records(store, out, name, everything=everything, actor=f"token/{token['id']}")
    except UserError as error:
        folder.cleanup()
        raise HTTPException(409, sentence(error)) from None
    return FileResponse(out, media_type="application/x-ndjson", background=BackgroundTask(folder.cleanup))


@cache
def description() -> dict[str, Any]:
    """The API in OpenAPI's terms."""
    routes = [route for route in router.routes if getattr(route, "include_in_schema", False)]
    return get_openapi(title="alignkit labeling", version="1", routes=routes)


@router.get("/openapi.json", include_in_schema=False)
def openapi() -> Response:
    """The API in OpenAPI's terms, for programs that write clients."""
    return JSONResponse(description())


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    """The API for people, as a page that loads nothing from elsewhere."""
    return HTMLResponse(docs_page(description(), str(request.base_url).rstrip("/")))


def _project(connection: Connection, token: RowMapping, name: str) -> RowMapping:
    """The project, if there is one of this name that the token may see; else 404, the same for both."""
    wanted = select(projects.c.id, projects.c.name).where(projects.c.name == name)
    row = connection.execute(wanted).mappings().first()
    if row is None or token["project_id"] not in (None, row["id"]):
        raise HTTPException(404, "There is no such project for this token.")
    return row


def _records(body: bytes, content_type: str) -> Iterator[Record]:
    kind = content_type.split(";")[0].strip().lower()
    if kind in LINES:
        rows = [(f"line {number}", line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    elif kind == "application/json":
        try:
            array = msgspec.json.decode(body, type=list[msgspec.Raw])
        except msgspec.DecodeError as error:
            raise UserError(f"the body is no JSON array of records: {error}") from None
        rows = [(f"record {number}", bytes(raw)) for number, raw in enumerate(array, 1)]
    else:
        raise HTTPException(415, f"The body must be application/json (an array) or {LINES[0]} (lines).")
    return (decode_record(row, where) for where, row in rows)
