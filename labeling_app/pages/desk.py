"""What every admin page stands on: the header with its navigation, and handlers that authorise by themselves.

Gradio hands every signed-in user the initial values of all pages and answers any function by its number.
So initial values are constant, a page is filled by its load handler, and `Desk.on` puts the same check
before every handler: who the request's session belongs to, and whether that role may do this.
A page gets its project and whatever else it shows from the address, so every view can be linked to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from sqlalchemy import RowMapping

from alignment.errors import UserError
from alignment.report.text import escape
from labeling_app import auth
from labeling_app.pages.parts import PAGES, Html, address, link, told
from labeling_app.store import projects
from labeling_app.store.database import DATABASE_AWAY, Store
from labeling_app.store.refusal import Refusal

log = logging.getLogger(__name__)

Update = dict[Any, Any]
Stored = Callable[[], Store]  # the database of the application, asked for at every request


@dataclass(frozen=True)
class Visit:
    """One request of one person. query: of the address that the browser shows."""

    store: Store
    account: RowMapping
    query: Mapping[str, str]
    base: str  # the address of this server as the browser has it

    @property
    def is_admin(self) -> bool:
        """Whether this person may change things beside adjudications and flags."""
        return bool(self.account["role"] == "admin")

    def project(self) -> RowMapping | None:
        """The project that the address names, else the first active one; None where there is none."""
        with self.store.read() as connection:
            return projects.find(connection, self.number("project"))

    def number(self, key: str) -> int | None:
        """A number of the address; None where it is missing or none."""
        given = self.query.get(key, "")
        return int(given) if given.isdecimal() and len(given) < 10 else None


class Desk:
    """One admin page while it is built: its header, its line of notices, and its handlers."""

    def __init__(self, store: Stored, path: str) -> None:
        self.store, self.path = store, path
        self.roles = next(roles for at, _, roles, _ in PAGES if at == path)
        self.header = html(_header(path, None, [], None))
        self.notice = html("")

    def load(
        self, blocks: Any, fill: Callable[[Visit], Update], outputs: Sequence[Any], project: bool = True
    ) -> None:
        """Fill the page when it is opened; `project`: it is about one, which the header lets one change."""

        def filled(visit: Visit) -> Update:
            with visit.store.read() as connection:
                there = projects.names(connection) if project else []
            chosen = visit.project() if project and not visit.query.get("new") else None
            return {self.header: _header(self.path, visit.account, there, chosen), **fill(visit)}

        self.on(blocks.load, filled, [], [self.header, *outputs])

    def on(
        self,
        trigger: Callable[..., Any],
        act: Callable[..., Update],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        roles: tuple[str, ...] | None = None,
        files: bool = False,
    ) -> None:
        """Call `act(visit, *inputs)` when `trigger` fires, for those with one of `roles` (the page's own).

        It returns what becomes of which component. An error of the user is told in the line of notices.
        Values come as the browser sent them, and `act` checks them: Gradio would compare them with choices
        that it keeps in memory, and refuse them all after a restart. `files`: one of them is an upload, and
        there Gradio's check is needed, that the path is one of an upload.
        """
        allowed = self.roles if roles is None else roles

        def handler(request: gr.Request, *values: Any) -> Update:
            try:
                visit = _authorise(self.store(), request, allowed)
                return {self.notice: "", **act(visit, *values)}
            except UserError as error:
                return {self.notice: told(auth.sentence(error), "bad")}
            except Refusal as error:
                return {self.notice: told(str(error), "bad")}
            except DATABASE_AWAY:
                log.exception("the database did not answer")
                return {self.notice: told("The database does not answer; nothing was saved.", "bad")}

        trigger(
            handler,
            inputs=list(inputs),
            outputs=[self.notice, *outputs],
            queue=False,
            preprocess=files,
            show_progress="hidden",
            api_visibility="private",
        )


def html(value: str) -> Any:
    """A gr.HTML whose template is constant; what it shows is set by handlers, as `Html`."""
    return gr.HTML(value, html_template="${value}", js_on_load=None, apply_default_css=False)


def _authorise(store: Store, asked: gr.Request, allowed: tuple[str, ...]) -> Visit:
    request = asked.request
    account = None if request is None else auth.find_annotator(request, store)
    if request is None or account is None:
        raise gr.Error("Please sign in.", print_exception=False)
    if account["role"] not in allowed:
        who = "reviewers and admins" if "reviewer" in allowed else "admins"
        raise gr.Error(f"This is for {who}.", print_exception=False)
    base = str(request.base_url).split("/admin")[0].rstrip("/")
    return Visit(store, account, dict(request.query_params), base)


def _header(
    path: str, account: RowMapping | None, there: Sequence[RowMapping], project: RowMapping | None
) -> Html:
    chosen = project["id"] if project is not None else None
    current = ' aria-current="page"'
    links = "".join(
        f'<li><a href="{escape(address(at, project=chosen))}"{current if at == path else ""}>'
        f"{escape(name)}</a></li>"
        for at, name, roles, _ in PAGES
        if account is not None and account["role"] in roles
    )
    title = next(name for at, name, _, _ in PAGES if at == path)
    who = account["login"] if account is not None else "Account"
    return Html(
        '<header class="ad-head"><a class="ad-brand" href="/admin/">'
        '<img src="/ui/icon.svg" alt="" width="28" height="28"><span>alignkit labeling</span></a>'
        '<nav aria-label="Areas"><a href="/app/">Annotate</a>'
        '<a href="/admin/" aria-current="true">Admin</a>'
        f'<a href="/account" class="ad-who">{escape(who)}</a></nav></header>'
        f'<nav class="ad-pages" aria-label="Admin pages"><ul>{links}</ul></nav>'
        f'<div class="ad-title"><h1>{escape(title)}</h1>{_switch(path, there, project)}</div>'
    )


def _switch(path: str, there: Sequence[RowMapping], project: RowMapping | None) -> str:
    if project is None:
        return ""
    name = f'<bdi class="ad-project">{escape(project["name"])}</bdi>'
    if len(there) < 2:
        return name
    others = "".join(
        f"<li>{link(row['name'], address(path, project=row['id']))}</li>"
        for row in there
        if row["id"] != project["id"]
    )
    return (
        f'<details class="ad-switch"><summary><span class="ad-hidden">Project: </span>{name}</summary>'
        f"<ul>{others}</ul></details>"
    )
