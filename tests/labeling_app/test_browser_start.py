"""What comes before the first task, and known answers among the tasks, in chromium."""

from __future__ import annotations

from typing import Any

import pytest
from labeling_helpers import add_tasks, make_records, settle
from sqlalchemy import func, select

from alignment.data.records import Judgment
from labeling_app import imports
from labeling_app.store import gold
from labeling_app.store.database import Store, utcnow
from labeling_app.store.models import flags, judgments, projects

expect = pytest.importorskip("playwright.sync_api").expect
READY = '.rb[data-ready="task"]'


def add_known(store: Store, count: int, *, practice: bool) -> None:
    """Tasks whose known answer is that output 0 is best, then 1, then 2."""
    records = make_records(count, start=100)
    for record in records:
        record.judgments = [Judgment(ranks=[1, 2, 3], rationale="Zero is **least**.")]
    imports.import_records(store, records)
    with store.write() as tx:
        gold.mark(tx, utcnow(), "test", tx.scalar(select(projects.c.id)), records, practice=practice)


def rank_as_known(page: Any, wrong: bool = False) -> None:
    """The last digit of "Answer 101.2" is its known place."""
    for text in page.locator(".rb-body").all_inner_texts():
        place = int(text.strip()[-1])
        page.keyboard.press(str(3 - place if wrong else place + 1))
    page.keyboard.press("Enter")


def test_consent_warning_practice_and_work(visit: Any, store: Store) -> None:
    add_tasks(store, 2)
    add_known(store, 2, practice=True)
    settle(store, consent="We keep *what you say*.", warning="Rude.", practice_tasks=2, practice_needed=0.8)
    page = visit().open()
    expect(page.get_by_role("heading", name="Before you begin")).to_be_focused()
    expect(page.get_by_text("We keep what you say.")).to_be_visible()
    page.get_by_role("button", name="I agree").click()
    expect(page.get_by_role("heading", name="Content warning")).to_be_focused()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("80% must be right to go on.")).to_be_visible()
    page.get_by_role("button", name="Start practice").click()
    for number in (1, 2):
        expect(page.get_by_role("note")).to_contain_text(f"Practice {number} of 2")
        rank_as_known(page)
        told = page.get_by_role("dialog", name="The known answer")
        expect(told.get_by_role("heading", name="As expected")).to_be_visible()
        expect(told.locator("strong")).to_have_text("least")
        page.keyboard.press("Enter")
    expect(page.get_by_text("100% was right.")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    page.wait_for_selector(READY)
    expect(page.get_by_text("0 done · 2 left")).to_be_visible()  # practice is no work
    expect(page.get_by_role("note")).to_have_count(0)


def test_who_fails_the_practice_is_told_so(visit: Any, store: Store) -> None:
    add_tasks(store, 1)
    add_known(store, 1, practice=True)
    settle(store, practice_tasks=1, practice_needed=0.5)
    page = visit().open()
    page.get_by_role("button", name="Start practice").click()
    page.wait_for_selector(READY)
    rank_as_known(page, wrong=True)
    told = page.get_by_role("dialog", name="The known answer")
    expect(told.get_by_role("heading", name="Not as expected")).to_be_visible()
    row = told.get_by_role("row", name="Order")
    known, said = row.get_by_role("cell").all_inner_texts()
    assert known.split(" › ") == said.split(" › ")[::-1]
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Practice not passed")).to_be_visible()
    expect(page.get_by_text("0% was right, and 50% is needed.")).to_be_visible()


def test_the_warning_may_be_turned_down_and_a_text_skipped(visit: Any, store: Store) -> None:
    add_tasks(store, 2)
    settle(store, warning="Rude.")
    page = visit("anna").open()
    page.get_by_role("button", name="Leave this project out").click()
    expect(page.get_by_text("There is nothing to rank for you at present.")).to_be_visible()
    page = visit("ben").open()
    page.get_by_role("button", name="Go on").click()
    page.wait_for_selector(READY)
    page.keyboard.press("s")
    page.get_by_role("button", name="I do not want to read this").click()
    expect(page.locator(".rb-status")).to_have_text("Skipped.")
    with store.read() as connection:
        assert connection.scalars(select(flags.c.kind)).all() == ["content"]
        assert connection.scalar(select(func.count()).select_from(judgments)) == 0


def test_gold_tells_or_is_silent(visit: Any, store: Store) -> None:
    add_tasks(store, 3)
    add_known(store, 1, practice=False)
    settle(store, gold_rate=1.0, gold_feedback=True)
    page = visit("anna").open()
    rank_as_known(page)
    expect(page.get_by_role("dialog", name="The known answer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    settle(store, gold_feedback=False)
    page = visit("ben").open()
    rank_as_known(page)
    expect(page.locator(".rb-status")).to_have_text("Saved.")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_one_chooses_among_projects_and_changes(visit: Any, store: Store) -> None:
    for name in ("essays", "poems"):
        imports.import_records(store, make_records(2), project=name, overlap=2)
    page = visit().open()
    page.get_by_role("button", name="poems (2 left)").click()
    page.wait_for_selector(READY)
    expect(page.locator(".rb-project")).to_have_text("poems")
    page.get_by_role("button", name="Account").click()
    page.get_by_role("button", name="Another project").click()
    page.get_by_role("button", name="essays (2 left)").click()
    expect(page.locator(".rb-project")).to_have_text("essays")
