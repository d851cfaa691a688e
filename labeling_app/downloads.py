"""An export as a download: a plain form, so that no copy of the records stays on the server."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.background import BackgroundTask

from alignment.errors import UserError
from labeling_app import exports
from labeling_app.auth import Admin, sentence, store_of
from labeling_app.pages.account import message_page
from labeling_app.store import projects
from labeling_app.store.database import utcnow

router = APIRouter()


@router.post("/export")
def download(
    request: Request,
    admin: Admin,
    project: Annotated[int, Form()],
    form: Annotated[Literal["jsonl", "jsonl.gz", "jsonl.zst", "parquet"], Form()] = "jsonl",
    everything: Annotated[bool, Form()] = False,
    gold: Annotated[bool, Form()] = False,
) -> Response:
    """A project's records with their judgments; it is noted whose judgments went out."""
    store = store_of(request)
    with store.read() as connection:
        row = projects.named(connection, project)
    if row is None:
        raise HTTPException(404, "There is no such project.")
    folder = Path(tempfile.mkdtemp(prefix="alignkit-export-"))
    name = f"{_plain(row['name'])}-{utcnow():%Y%m%d-%H%M%S}.{form}"
    try:
        exports.export_records(
            store, folder / name, row["name"], everything=everything, gold=gold, actor=admin["public_id"]
        )
    except UserError as error:
        shutil.rmtree(folder)
        page = message_page(
            "Nothing was exported", sentence(error), f"/admin/records?project={project}", "Back"
        )
        return HTMLResponse(page, status_code=409)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return FileResponse(
        folder / name,
        filename=name,
        media_type="application/octet-stream",
        background=BackgroundTask(shutil.rmtree, folder),
    )


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "project"
