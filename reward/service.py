"""A reward model behind HTTP: `alignkit reward serve`. Its client is alignment.backend.scoring.HttpScorer.

GET  /health -> {"name", "members"}
POST /score  {"prompts": [messages, …], "completions": [text, …], "finished": [true, …] (may be left out)}
             -> {"scores": [one each], "members": [[one a member], …]}

A request is scored in batches of like length. Scores are remembered for texts that come again; nothing of a
request is logged.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import threading
from typing import Any, Literal

import pydantic
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from jinja2 import TemplateError

from alignment.backend.scoring import TOKEN
from alignment.errors import UserError

MOST_TEXTS = 4096
MOST_BYTES = 64 << 20


class Turn(pydantic.BaseModel):
    """A message of a prompt."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str


class Texts(pydantic.BaseModel):
    """What is to be scored."""

    prompts: list[list[Turn]] = pydantic.Field(max_length=MOST_TEXTS)
    completions: list[str] = pydantic.Field(max_length=MOST_TEXTS)
    finished: list[bool] | None = None

    @pydantic.model_validator(mode="after")
    def _as_many(self) -> Texts:
        counts = {len(self.prompts), len(self.completions)}
        counts |= set() if self.finished is None else {len(self.finished)}
        if len(counts) > 1:
            raise ValueError("prompts, completions and finished must be as many")
        return self


class Scores(pydantic.BaseModel):
    """One score a text, and of each the members' scores."""

    scores: list[float]
    members: list[list[float]]


def make_app(scorer: Any, token: str | None = None) -> FastAPI:
    """The service around a RewardScorer; with a token every request to score must bear it."""
    app = FastAPI(title="alignkit reward", docs_url=None, redoc_url=None)
    one_at_a_time = threading.Lock()  # the model is one, and a GPU gains nothing by taking turns

    def checked(request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
            raise HTTPException(401, f"this scorer wants the token that it was started with ({TOKEN})")
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MOST_BYTES:
            raise HTTPException(413, f"a request says its length, at most {MOST_BYTES} bytes")

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        sentence = f"{where}: {first['msg']}" if where else str(first["msg"])
        if "json" not in request.headers.get("content-type", ""):
            sentence = "send JSON, with the header Content-Type: application/json"
        return JSONResponse({"detail": sentence}, 422)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"name": scorer.name, "members": scorer.count}

    @app.post("/score", dependencies=[Depends(checked)])
    def score(texts: Texts) -> Scores:
        prompts = [[turn.model_dump() for turn in prompt] for prompt in texts.prompts]
        try:
            with one_at_a_time:
                members = scorer.members(prompts, texts.completions, texts.finished)
        except TemplateError as error:
            raise HTTPException(422, f"the model's chat template refuses a prompt: {error}") from None
        return Scores(scores=scorer.one_each(members), members=members)

    return app


def serve(scorer: Any, host: str, port: int) -> None:
    """Answer until interrupted. UserError for an address that others can reach, without a token."""
    import uvicorn

    token = os.environ.get(TOKEN) or None
    if token is None and not _is_local(host):
        raise UserError(f"--host {host} lets others in: set a token in the environment variable {TOKEN}")
    uvicorn.run(make_app(scorer, token), host=host, port=port, log_level="warning")


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
