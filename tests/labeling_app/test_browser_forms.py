"""Pairs, scales, reasons, better answers, flags, undo and changes of what was said, in chromium."""

from __future__ import annotations

from typing import Any

import pytest
from labeling_helpers import add_tasks, last_judgment, ranks_on_screen, settle
from sqlalchemy import func, select

from labeling_app.store.database import Store
from labeling_app.store.models import flags, judgments

expect = pytest.importorskip("playwright.sync_api").expect
READY = '.rb[data-ready="task"]'
HELPFUL = {"name": "helpful", "label": "Helpful", "low": 1, "high": 5, "low_label": "useless"}
SAFE = {"name": "safe", "low": 0, "high": 2}


def status(page: Any) -> Any:
    return page.locator(".rb-status[role=status]")


def test_a_pair_with_strength(visit: Any, store: Store) -> None:
    """By keys, by the scale and by the buttons of the cards; a tie; both bad."""
    add_tasks(store, 4, outputs=2)
    settle(store, asks="pair", form={"strength": 3, "rationale": "optional"})
    page = visit().open()
    said = page.locator(".rb-said")
    expect(said).to_have_text("Which is better?")
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Say which one is better first.")
    for key, words in (
        ("1", "A slightly better"),
        ("1", "A better"),
        ("ArrowLeft", "A much better"),
        ("t", "Tie"),
        ("2", "B slightly better"),
        ("ArrowRight", "B better"),
        ("0", "Which is better?"),
    ):
        page.keyboard.press(key)
        expect(said).to_have_text(words)
    page.get_by_role("button", name="A is better").click()
    page.get_by_role("button", name="A is better").click()
    expect(page.locator(".rb-card").first).to_have_attribute("aria-label", "Output A, better")
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Saved.")
    row, _ = last_judgment(store)
    assert (ranks_on_screen(store), row["strength"]) == ([1, 2], 2)

    scale = page.get_by_role("radiogroup", name="Which is better")
    scale.get_by_role("radio", name="B much better").click()
    page.keyboard.press("w")
    page.keyboard.type("It is kinder. 1 2 x")  # digits and letters of a text are a text
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("2 done")).to_be_visible()
    row, _ = last_judgment(store)
    assert (ranks_on_screen(store), row["strength"], row["rationale"]) == ([2, 1], 3, "It is kinder. 1 2 x")

    page.keyboard.press("t")
    page.keyboard.press("Enter")
    expect(page.get_by_text("3 done")).to_be_visible()
    assert (ranks_on_screen(store), last_judgment(store)[0]["strength"]) == ([1, 1], None)
    page.get_by_role("button", name="Both bad").click()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    row, _ = last_judgment(store)
    assert (row["both_bad"], row["ranks"], row["strength"]) == (True, None, None)


def test_ratings_on_scales(visit: Any, store: Store) -> None:
    """Digits fill the marked scale and go on; a mouse sets one; what is missing is said."""
    add_tasks(store, 2, outputs=2)
    settle(store, asks="ratings", form={"dimensions": [HELPFUL, SAFE]})
    page = visit().open()
    for key in "52":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Rate B first: Helpful.")
    for key in "30":
        page.keyboard.press(key)
    page.get_by_role("radiogroup", name="safe of output A, 0 to 2").get_by_role("radio", name="1").click()
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Saved.")
    row, order = last_judgment(store)
    assert [row["ratings"]["helpful"][ordinal] for ordinal in order] == [5, 3]
    assert [row["ratings"]["safe"][ordinal] for ordinal in order] == [1, 0]
    assert row["ranks"] is None
    page.keyboard.press("ArrowRight")  # to the other scale of the same output
    page.keyboard.press("2")
    page.keyboard.press("ArrowUp")
    expect(page.locator('.rb-card[data-current="true"]')).to_have_attribute("aria-label", "Output A")


def test_a_reason_and_a_better_answer(visit: Any, store: Store) -> None:
    """A better answer starts from the best output, is kept as a draft, and is sent as it was typed."""
    add_tasks(store, 1)
    settle(store, form={"rationale": "required", "rewrite": True})
    visitor = visit()
    page = visitor.open()
    for key in "213":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Say why first: this project asks for a reason.")
    page.keyboard.type("B says it in fewer words.")  # the field has the focus
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    better = page.get_by_role("textbox", name="A better answer")
    expect(better).to_be_focused()
    best = page.locator(".rb-body").nth(1).inner_text().strip()
    expect(better).to_have_value(best)
    page.keyboard.press("Control+End")
    page.keyboard.type("\nAnd more: ünïcödé 😀")
    expect(page.get_by_text("Your version is sent with your judgment.")).to_be_visible()
    expect(status(page)).to_have_text("Draft kept.")
    page.reload()
    page.wait_for_selector(READY)
    expect(page.get_by_role("textbox", name="A better answer")).to_have_value(f"{best}\nAnd more: ünïcödé 😀")
    expect(page.get_by_role("textbox", name="Why?")).to_have_value("B says it in fewer words.")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    row, order = last_judgment(store)
    assert row["edited_text"] == {"from": order[1], "text": f"{best}\nAnd more: ünïcödé 😀"}
    assert row["rationale"] == "B says it in fewer words."


def test_skips_and_flags_with_a_reason(visit: Any, store: Store) -> None:
    add_tasks(store, 4)
    page = visit().open()
    page.keyboard.press("f")
    page.get_by_role("button", name="Flag and judge").click()
    expect(page.get_by_role("alert")).to_have_text("Say what is wrong first.")
    page.keyboard.type("The prompt is cut off.")
    page.get_by_role("button", name="Flag and judge").click()
    expect(page.get_by_role("button", name="Flag")).to_have_attribute("aria-pressed", "true")
    for key in ("1", "2", "3", "Enter"):
        page.keyboard.press(key)
    expect(status(page)).to_have_text("Saved.")
    page.keyboard.press("f")
    page.keyboard.type("Two are the same.")
    page.get_by_role("button", name="Flag and skip").click()
    expect(status(page)).to_have_text("Flagged and skipped.")
    page.keyboard.press("s")
    page.get_by_role("button", name="I do not want to read this").click()
    expect(status(page)).to_have_text("Skipped.")
    page.keyboard.press("s")
    page.get_by_role("textbox", name="Why you skip it").fill("Not my field.")
    page.get_by_role("dialog").get_by_role("button", name="Skip", exact=True).click()
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    with store.read() as connection:
        rows = connection.execute(select(flags.c.kind, flags.c.reason).order_by(flags.c.id)).all()
        assert connection.scalar(select(func.count()).select_from(judgments)) == 1
    assert [tuple(row) for row in rows] == [
        ("flag", "The prompt is cut off."),
        ("flag", "Two are the same."),
        ("content", None),
        ("skip", "Not my field."),
    ]


def test_history_shows_the_pace_and_lets_one_change_ones_mind(visit: Any, store: Store) -> None:
    add_tasks(store, 2)
    page = visit().open()
    for key in ("1", "2", "3", "Enter"):
        page.keyboard.press(key)
    expect(status(page)).to_have_text("Saved.")
    page.keyboard.press("3")  # half of the next one, which waits
    page.keyboard.press("h")
    expect(page.get_by_role("heading", name="Your judgments")).to_be_focused()
    expect(page.get_by_text("1 task in all")).to_be_visible()
    page.get_by_role("button", name="A › B › C").click()
    expect(page.get_by_role("note")).to_contain_text("You judged this already: A › B › C")
    expect(page.locator(".rb-card").first).to_have_attribute("aria-label", "Output A, 1st")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Saved your change.")
    row, _ = last_judgment(store)
    assert (row["revision"], ranks_on_screen(store)) == (2, [1, 1, 2])
    expect(page.locator(".rb-card").first).to_have_attribute("aria-label", "Output A, 3rd")  # it waited


def test_undo_takes_back_one_step_at_a_time(visit: Any, store: Store) -> None:
    add_tasks(store, 1)
    settle(store, form={"rationale": "optional"})
    page = visit().open()
    labels = page.locator(".rb-card")
    for key in ("1", "2", "x"):
        page.keyboard.press(key)
    page.keyboard.press("w")
    page.keyboard.type("so")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+z")
    expect(page.get_by_role("textbox", name="Why?")).to_have_value("")
    expect(page.get_by_role("button", name="All bad")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Control+z")
    expect(page.get_by_role("button", name="All bad")).to_have_attribute("aria-pressed", "false")
    expect(labels.nth(1)).to_have_attribute("aria-label", "Output B, 2nd")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    expect(labels.first).to_have_attribute("aria-label", "Output A, not ranked")
    page.keyboard.press("Enter")
    expect(status(page)).to_have_text("Rank A, B, C first.")
