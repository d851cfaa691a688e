"""The annotate page in chromium: mouse, touch and keyboard only, and what the screen says.

Every request to another machine is aborted and counted; no page may call Gradio's API.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from labeling_helpers import PASSWORD, add_people, add_tasks, make_records
from sqlalchemy import func, select

from alignment.data.files import read_records
from labeling_app import exports, imports
from labeling_app.store.database import Store
from labeling_app.store.models import drafts, judgments

playwright_api = pytest.importorskip("playwright.sync_api")
expect = playwright_api.expect
expect.set_options(timeout=15_000)  # other work may share the machine

READY = '.rb[data-ready="task"]'
CARDS = ".rb-card"


def status(page: Any) -> Any:
    return page.locator(".rb-status[role=status]")


def shown_digits(page: Any) -> list[int]:
    """The ordinal of each output as its text says it: "Answer 7.2" is 2."""
    return [int(text.strip()[-1]) for text in page.locator(".rb-body").all_inner_texts()]


def count(store: Store, table: Any) -> int:
    with store.read() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def test_the_path(visit: Any, store: Store, tmp_path: Path, toy_model: str) -> None:
    """Sign in, rank five tasks with the keyboard alone, export, train the reward stage on the export."""
    add_people(store, "anna")
    add_tasks(store, 5)
    visitor = visit(None)
    page, keys = visitor.page, visitor.page.keyboard
    page.goto("/")
    expect(page.get_by_label("Login")).to_be_focused()
    keys.type("anna")
    keys.press("Tab")
    keys.type(PASSWORD)
    keys.press("Enter")
    page.wait_for_selector(READY)
    expect(page.get_by_text("0 done · 5 left")).to_be_visible()
    for number in range(5):
        before = page.locator(".rb").get_attribute("data-task")
        for ordinal in shown_digits(page):  # "Answer n.1" is best, n.0 and n.2 are a tie
            keys.press("1" if ordinal == 1 else "2")
        expect(page.get_by_role("group", name="Outputs, best first")).to_have_text(re.compile(r"^.›.=.$"))
        keys.press("Enter")
        expect(status(page)).to_have_text("Saved.")
        assert count(store, judgments) == number + 1
        page.wait_for_function("before => document.querySelector('.rb').dataset.task !== before", arg=before)
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    expect(page.get_by_text("You have ranked 5 tasks")).to_be_visible()

    from alignment.backend.config import load_config
    from reward import stage

    out = tmp_path / "ranked.jsonl"
    exports.export_records(store, out)
    records = list(read_records(out))
    assert [record.judgments[0].ranks for record in records] == [[2, 1, 2]] * 5
    assert all(0 <= record.judgments[0].seconds < 120 for record in records)
    config = {
        "stage": "reward",
        "model": {"path": toy_model},
        "data": {"train": [str(out)]},
        "trainer": {"max_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no"},
        "run": {"dir": str(tmp_path / "run")},
    }
    (tmp_path / "reward.yaml").write_text(json.dumps(config))
    result = stage.run(load_config(stage.Config, tmp_path / "reward.yaml"))
    assert result["metrics"]["steps"] == 2
    assert result["metrics"]["rows"] == 10


def test_ranking_by_mouse(visit: Any, store: Store) -> None:
    add_tasks(store, 2, outputs=4)
    page = visit().open()
    expect(page.locator(CARDS).first).to_have_attribute("aria-label", "Output A, not ranked")
    submit = page.get_by_role("button", name="Submit")
    submit.click()
    expect(status(page)).to_have_text("Rank A, B, C, D first.")
    for letter, rank in zip("ABCD", (3, 1, 1, 2), strict=True):
        group = page.get_by_role("radiogroup", name=f"Rank of output {letter}")
        group.get_by_role("radio", name=str(rank)).click()
    expect(page.locator(CARDS).nth(2)).to_have_attribute("aria-label", "Output C, 1st, tie")
    radio = page.get_by_role("radiogroup", name="Rank of output D").get_by_role("radio", name="2")
    radio.click()
    expect(page.locator(CARDS).nth(3)).to_have_attribute("aria-label", "Output D, not ranked")
    page.keyboard.press("2")  # the card that was clicked is the current one
    expect(radio).to_be_checked()
    digits = shown_digits(page)
    submit.click()
    expect(status(page)).to_have_text("Saved.")
    with store.read() as connection:
        (ranks,) = connection.scalars(select(judgments.c.ranks))
    assert [ranks[ordinal] for ordinal in digits] == [3, 1, 1, 2]
    page.get_by_role("button", name="All bad").click()
    submit.click()
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    with store.read() as connection:
        assert connection.scalars(select(judgments.c.both_bad).order_by(judgments.c.id)).all() == [
            False,
            True,
        ]


def test_every_key(visit: Any, store: Store) -> None:
    add_tasks(store, 2)
    page = visit().open()
    keys = page.keyboard

    def labels() -> list[str]:
        return [card.get_attribute("aria-label") for card in page.locator(CARDS).all()]

    for key in ("3", "1", "ArrowUp", "0", "2", "Shift+ArrowUp", "k", "Shift+ArrowDown", "Shift+ArrowUp", "j"):
        keys.press(key)
    assert labels() == ["Output A, 3rd", "Output B, 2nd", "Output C, 1st"]
    keys.press("9")
    keys.press("ArrowDown")
    keys.press("2")
    keys.press("x")
    expect(page.get_by_role("button", name="All bad")).to_have_attribute("aria-pressed", "true")
    keys.press("x")
    keys.press("?")
    expect(page.get_by_role("dialog", name="Keyboard help")).to_be_visible()
    keys.press("1")  # a dialog keeps the keys to itself
    keys.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert labels() == ["Output A, 2nd, tie", "Output B, 2nd, tie", "Output C, 1st"]
    expect(page.get_by_role("complementary", name="Guideline")).to_be_visible()
    keys.press("g")
    expect(page.get_by_role("complementary", name="Guideline")).to_be_hidden()
    keys.press("r")
    expect(page.get_by_role("button", name="Raw text")).to_have_attribute("aria-pressed", "true")
    keys.press("s")
    expect(page.get_by_role("dialog", name="Skip this task")).to_be_visible()
    keys.press("Enter")
    expect(status(page)).to_have_text("Skipped.")
    assert count(store, judgments) == 0
    page.reload()
    page.wait_for_selector(READY)
    expect(page.get_by_role("button", name="Raw text")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("complementary", name="Guideline")).to_be_hidden()
    assert labels() == [f"Output {letter}, not ranked" for letter in "ABC"]


def test_colours_and_sign_out(visit: Any, store: Store) -> None:
    add_tasks(store, 1)
    page = visit().open()
    page.get_by_role("button", name="Account").click()
    for theme, background in (("Dark", "rgb(15, 18, 23)"), ("Light", "rgb(244, 245, 248)")):
        page.get_by_role("button", name=theme).click()
        expect(page.locator("body")).to_have_css("background-color", background)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="alignkit labeling")).to_be_visible()
    page.goto("/app/")
    expect(page.get_by_label("Login")).to_be_focused()


def test_a_draft_is_back_after_reload_and_in_another_browser(visit: Any, store: Store) -> None:
    add_tasks(store, 2)
    first = visit()
    page = first.open()
    page.keyboard.press("2")
    page.keyboard.press("1")
    page.reload()  # at once: before the pause after which a draft is sent
    page.wait_for_selector(READY)
    expect(status(page)).to_have_text("Your draft is back.")
    expect(page.locator(CARDS).nth(1)).to_have_attribute("aria-label", "Output B, 1st")
    order = page.locator(".rb-body").all_inner_texts()
    page.keyboard.press("3")
    expect(status(page)).to_have_text("Draft kept.")
    other = visit().open()
    assert other.locator(".rb-body").all_inner_texts() == order
    expect(other.locator(CARDS).nth(2)).to_have_attribute("aria-label", "Output C, 3rd")
    other.keyboard.press("Enter")
    expect(status(other)).to_have_text("Saved.")
    page.keyboard.press("Enter")  # the first window does not judge it again
    expect(status(page)).to_contain_text("judged already, perhaps in another window")
    assert count(store, judgments) == 1
    assert count(store, drafts) == 0


def test_work_survives_a_server_that_is_away(visit: Any, store: Store) -> None:
    """Offline: the page says so, keeps the work over a reload of the browser, and saves when it can."""
    add_tasks(store, 2)
    visitor = visit()
    page = visitor.open()
    visitor.context.set_offline(True)
    for key in ("1", "2", "3"):
        page.keyboard.press(key)
    expect(status(page)).to_contain_text("Your work is kept in this browser.")
    page.keyboard.press("Enter")
    expect(status(page)).to_contain_text("Not saved yet")
    assert count(store, judgments) == 0
    visitor.context.set_offline(False)
    expect(status(page)).to_have_text("Saved.")
    assert count(store, judgments) == 1

    for key in ("3", "2", "1"):
        page.keyboard.press(key)
    visitor.context.set_offline(True)
    page.keyboard.press("Enter")
    expect(status(page)).to_contain_text("Not saved yet")
    page.goto("about:blank")
    visitor.context.set_offline(False)
    page = visitor.open()
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    assert count(store, judgments) == 2


def test_signed_out_in_the_middle_of_a_task(visit: Any, store: Store) -> None:
    add_tasks(store, 1)
    visitor = visit()
    page = visitor.open()
    for key in ("2", "1", "3"):
        page.keyboard.press(key)
    expect(status(page)).to_have_text("Draft kept.")
    with store.write() as tx:
        tx.exec_driver_sql("DELETE FROM sessions")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Signed out")).to_be_visible()
    page.get_by_role("button", name="Sign in").click()
    page.get_by_label("Login").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    assert count(store, judgments) == 1


def test_two_people_see_their_own_order_and_no_source(visit: Any, store: Store) -> None:
    imports.import_records(store, make_records(1, outputs=8), overlap=2)
    orders = []
    for login in ("anna", "ben"):
        visitor = visit(login)
        bodies: list[str] = []
        visitor.page.on(
            "response", lambda answer, into=bodies: "/api/" in answer.url and into.append(answer.text())
        )
        page = visitor.open()
        orders.append(page.locator(".rb-body").all_inner_texts())
        seen = page.content() + "".join(bodies)
        assert "secret-model" not in seen
        assert "record-0" not in seen
        assert '"outputs"' in seen
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]  # by chance equal once in 40,320 runs


def test_the_page_without_tasks_says_when_to_come_back(visit: Any, store: Store) -> None:
    add_tasks(store, 1)
    visit("anna").open()
    page = visit("ben").open()
    expect(page.get_by_text("1 task is with other people now. One may come free at")).to_be_visible()
    add_tasks(store, 2)
    page.get_by_role("button", name="Look again").click()
    page.wait_for_selector(READY)
