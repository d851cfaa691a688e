"""How outputs are shown: code, fitted to the screen, differences, right to left; and the guideline."""

from __future__ import annotations

from typing import Any

import pytest
from labeling_helpers import add_tasks, make_records
from sqlalchemy import func, select

from alignment.data.records import Completion, Message, Record
from labeling_app import imports
from labeling_app.store.database import Store
from labeling_app.store.models import judgments

expect = pytest.importorskip("playwright.sync_api").expect
READY = '.rb[data-ready="task"]'


def add_outputs(store: Store, *outputs: str, prompt: str = "?") -> None:
    record = Record(
        prompt=[Message("user", prompt)], completions=[Completion(content=text) for text in outputs]
    )
    imports.import_records(store, [record])


def test_code_has_colours_and_scrolls_inside_its_card(visit: Any, store: Store) -> None:
    add_outputs(
        store,
        "```python\ndef f(): return 'x'\n```",
        "```\n" + "x" * 900 + "\n```",
        prompt="```js\nlet a\n```",
    )
    page = visit(viewport={"width": 1000, "height": 700}).open()
    keyword = page.locator(".rb-cards .rb-k").first
    expect(keyword).to_have_text("def")
    assert keyword.evaluate("node => getComputedStyle(node).color") != page.locator(
        ".rb-cards code"
    ).first.evaluate("node => getComputedStyle(node).color")
    expect(page.get_by_role("region", name="Prompt").locator(".rb-k")).to_have_text("let")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1000
    assert page.evaluate(
        "[...document.querySelectorAll('pre')].some(node => node.scrollWidth > node.clientWidth)"
    )


def test_differences_word_by_word(visit: Any, store: Store) -> None:
    one = "The light bends as it enters the drop and again as it leaves it."
    add_outputs(
        store, one, one.replace("bends", "breaks").replace(" again", ""), "Something else altogether!"
    )
    page = visit().open()
    page.keyboard.press("d")
    near = [n for n, text in enumerate(page.locator(".rb-body").all_inner_texts()) if "drop" in text]
    page.get_by_role("combobox", name="Compare with").select_option(index=near[0])
    body = page.locator(".rb-body").nth(near[1])
    changed = {"bends", "breaks", "again"}
    assert {text.strip() for text in body.locator("ins, del").all_inner_texts()} == changed
    kept = body.evaluate(
        "node => [...node.querySelectorAll('span, ins')].map(part => part.textContent).join('')"
    )
    page.keyboard.press("d")
    expect(page.locator("ins, del")).to_have_count(0)
    assert kept == page.locator(".rb-body").nth(near[1]).inner_text().strip()


def test_no_differences_where_nothing_is_alike(visit: Any, store: Store) -> None:
    add_outputs(store, "Light bends.", "Rain falls down on us")
    page = visit().open()
    expect(page.get_by_role("button", name="Raw text")).to_be_visible()
    expect(page.get_by_role("button", name="Differences")).to_have_count(0)


def test_eight_long_outputs_stay_usable(visit: Any, store: Store) -> None:
    """4,000 words each: fitted, all have a window of their own, and keys read, move, rank and submit."""
    add_outputs(store, *(f"Output {n}. " + "word " * 4000 + "\n\nthe end" for n in range(8)))
    page = visit(viewport={"width": 1280, "height": 800}).open()
    whole = page.evaluate("document.documentElement.scrollHeight")
    page.keyboard.press("v")
    assert page.evaluate("document.documentElement.scrollHeight") < 3200 < whole
    page.keyboard.press("ArrowDown")
    text = page.get_by_role("region", name="Text of output B")
    page.keyboard.press("PageDown")
    page.wait_for_function("node => node.scrollTop > 100", arg=text.element_handle())
    expect(page.locator(".rb-card").nth(1)).to_have_attribute("data-current", "true")
    for key in "87654321":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(judgments)) == 1


def test_right_to_left_by_paragraph(visit: Any, store: Store) -> None:
    add_outputs(store, "قوس قزح يظهر.\n\nIn English.\n\n`code`", "plain", prompt="لماذا يظهر قوس قزح؟")
    page = visit().open()

    def side(text: str) -> str:
        return page.get_by_text(text).evaluate(
            """node => { const range = document.createRange(); range.selectNodeContents(node);
            const text = range.getBoundingClientRect();
            const box = node.closest('.rb-text').getBoundingClientRect();
            return text.left - box.left < box.right - text.right ? 'left' : 'right'; }"""
        )

    assert side("قوس قزح يظهر.") == "right"
    assert side("In English.") == "left"
    assert side("لماذا يظهر قوس قزح؟") == "right"


def test_a_changed_guideline_is_told(visit: Any, store: Store) -> None:
    """To who judged by the older one, in any browser, until the next judgment; what changed is shown."""
    imports.import_records(store, make_records(3), guideline="Be strict about facts.", overlap=2)
    page = visit("anna").open()
    for key in ("1", "2", "3", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".rb-status")).to_have_text("Saved.")
    imports.import_records(store, make_records(3), guideline="Be strict about style.")
    page = visit("anna").open()
    expect(page.get_by_role("note")).to_contain_text(
        "The guideline was changed since you last worked here (v1, now v2)"
    )
    page.get_by_role("button", name="What changed").click()
    change = page.get_by_role("dialog", name="What changed")
    expect(change.locator("del")).to_have_text("facts")
    expect(change.locator("ins")).to_have_text("style")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="I have read it").click()
    expect(page.get_by_role("note")).to_have_count(0)
    for key in ("1", "2", "3", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_text("2 done")).to_be_visible()
    page = visit("anna").open()
    expect(page.get_by_role("note")).to_have_count(0)
    page = visit("ben").open()  # who never worked here reads it for the first time
    expect(page.get_by_role("note")).to_have_count(0)


def test_on_a_phone_the_guideline_gives_way_once_it_was_used(visit: Any, store: Store) -> None:
    add_tasks(store, 2)
    page = visit(viewport={"width": 360, "height": 700}).open()
    guide = page.get_by_role("complementary", name="Guideline")
    expect(guide).to_be_visible()
    for key in ("1", "2", "3", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_text("1 done")).to_be_visible()
    expect(guide).to_be_hidden()
    page.get_by_role("button", name="Guideline").click()
    expect(guide).to_be_visible()
