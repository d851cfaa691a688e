"""A server that restarts in mid-task, a lease that ran out, two people at once; what the page asks for."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import Any

import pytest
from labeling_helpers import Visitor, add_people, add_tasks, last_judgment, ranks_on_screen, serving
from sqlalchemy import select, update

from labeling_app.auth import COOKIE
from labeling_app.store import people
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import assignments, judgments

expect = pytest.importorskip("playwright.sync_api").expect
READY = '.rb[data-ready="task"]'


def status(page: Any) -> Any:
    return page.locator(".rb-status[role=status]")


def test_a_server_that_restarts_in_mid_task(chromium: Any, server: Any, store: Store) -> None:
    """The page stays, says that it is not saved, and saves under its session when the server is back."""
    app, _ = server
    app.state.store = store
    add_tasks(store, 2)
    (anna,) = add_people(store, "anna")
    with store.write() as tx:
        token = people.open_session(tx, utcnow(), anna["id"], "anna", "test")
    with serving(app) as base:
        visitor = Visitor(chromium, base)
        visitor.context.add_cookies([{"name": COOKIE, "value": token, "url": base, "httpOnly": True}])
        page = visitor.open()
        page.keyboard.press("1")
        expect(status(page)).to_have_text("Draft kept.")
    for key in ("2", "3", "Enter"):
        page.keyboard.press(key)
    expect(status(page)).to_contain_text("Not saved yet")
    with serving(app, int(base.rsplit(":", 1)[1])):
        expect(status(page)).to_have_text("Saved.")
        assert ranks_on_screen(store) == [1, 2, 3]
        expect(page.get_by_text("1 done · 1 left")).to_be_visible()
        visitor.context.close()
    assert visitor.faults == visitor.foreign == []


def test_two_people_at_once_and_a_late_judgment(visit: Any, store: Store) -> None:
    """Each has a task of their own; one whose time ran out keeps the work, is told, and submits it late."""
    add_tasks(store, 2)
    anna, ben = visit("anna").open(), visit("ben").open()
    prompts = [page.get_by_role("region", name="Prompt").inner_text() for page in (anna, ben)]
    assert prompts[0] != prompts[1]
    with store.write() as tx:  # anna's half hour is over, and carla gets her task
        mine = (
            assignments.c.id == select(assignments.c.id).order_by(assignments.c.id).limit(1).scalar_subquery()
        )
        tx.execute(update(assignments).where(mine).values(leased_until=utcnow() - timedelta(seconds=1)))
    carla = visit("carla").open()
    assert carla.get_by_role("region", name="Prompt").inner_text() == prompts[0]
    for page in (anna, ben):
        for key in "321":
            page.keyboard.press(key)
    expect(status(anna)).to_contain_text("This task was passed on to others meanwhile.")
    for page in (ben, anna):
        page.keyboard.press("Enter")
        expect(page.get_by_text("1 done")).to_be_visible()
    expect(status(anna)).to_have_text("Saved (after its time had run out).")
    assert (last_judgment(store)[0]["late"], ranks_on_screen(store)) == (True, [3, 2, 1])
    with store.read() as connection:
        assert sorted(connection.scalars(select(judgments.c.late))) == [False, True]


def test_a_crash_of_the_page_loses_nothing(visit: Any, store: Store, chromium: Any) -> None:
    """The last key is on the server half a second later, and in this browser at once."""
    add_tasks(store, 1)
    first = visit()
    page = first.open()
    page.keyboard.press("3")
    expect(status(page)).to_have_text("Draft kept.")
    with page.expect_event("crash"):
        for process in chromium.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]:
            if process["type"] == "renderer":
                os.kill(process["id"], signal.SIGKILL)
    page = first.new_page()
    page.goto("/app/")
    page.wait_for_selector(READY)
    expect(page.locator(".rb-card").first).to_have_attribute("aria-label", "Output A, 3rd")


def test_what_the_page_asks_for(visit: Any, store: Store) -> None:
    """Its files, and the API by fetch: no event of Gradio, no other machine (looked at by `visit`, too)."""
    add_tasks(store, 1)
    visitor = visit()
    paths: list[str] = []
    visitor.page.on("request", lambda request: paths.append(request.url.removeprefix(visitor.base)))
    page = visitor.open()
    for key in ("1", "2", "3", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    page.keyboard.press("h")
    expect(page.get_by_role("heading", name="Your judgments")).to_be_visible()
    assert all(path.startswith(("/app/", "/ui/", "/api/")) for path in paths if not path.startswith("data:"))
    assert not [path for path in paths if "gradio_api" in path or "/queue/" in path]
    assert "/api/pace" in paths
