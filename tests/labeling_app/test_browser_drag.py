"""Ranking by dragging, with a mouse and with a finger, and by the buttons beside it."""

from __future__ import annotations

from typing import Any

import pytest
from labeling_helpers import add_tasks, ranks_on_screen

from alignment.data.records import Completion, Message, Record
from labeling_app import imports
from labeling_app.store.database import Store

expect = pytest.importorskip("playwright.sync_api").expect


def order(page: Any) -> Any:
    return page.get_by_role("group", name="Outputs, best first")


def middle(node: Any, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
    box = node.bounding_box()
    return box["x"] + across * box["width"], box["y"] + down * box["height"]


def handle(page: Any, letter: str) -> Any:
    return page.locator(".rb-handle", has_text=letter)


def chip(page: Any, letter: str) -> Any:
    return page.locator(".rb-chip", has_text=letter)


def drag(page: Any, start: tuple[float, float], end: tuple[float, float], drop: bool = True) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=4)
    page.mouse.move(*end, steps=4)
    if drop:
        page.mouse.up()


def test_dragging_with_a_mouse(visit: Any, store: Store) -> None:
    """Onto another card: better above its middle, worse below it, a tie in it; onto the order; back out."""
    add_tasks(store, 1, outputs=4)
    page = visit(viewport={"width": 1100, "height": 900}).open()
    card = {letter: page.locator(".rb-card").nth(n) for n, letter in enumerate("ABCD")}
    drag(page, middle(handle(page, "A")), middle(order(page)))
    expect(order(page)).to_have_text("Aleft:BCD")
    drag(page, middle(handle(page, "B")), middle(card["A"], down=0.1), drop=False)
    expect(page.locator(".rb-ghost")).to_have_text("Bbetter than A")
    page.mouse.up()
    expect(order(page)).to_have_text("B›Aleft:CD")
    drag(page, middle(handle(page, "C")), middle(card["A"], down=0.5))
    expect(order(page)).to_have_text("B›A=Cleft:D")
    drag(page, middle(handle(page, "D")), middle(card["B"], down=0.9))
    expect(order(page)).to_have_text("B›D›A=C")
    drag(page, middle(chip(page, "C")), middle(chip(page, "B"), across=0.1))
    expect(order(page)).to_have_text("C›B›D›A")
    drag(page, middle(chip(page, "A")), middle(chip(page, "C")), drop=False)
    page.keyboard.press("Escape")  # a drag that is given up changes nothing
    page.mouse.up()
    expect(order(page)).to_have_text("C›B›D›A")
    page.keyboard.press("Control+z")
    expect(order(page)).to_have_text("B›D›A=C")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    assert ranks_on_screen(store) == [3, 1, 3, 2]


def test_dragging_scrolls_at_the_edges(visit: Any, store: Store) -> None:
    """From the last of long outputs to the first, which was not on the screen when the drag began."""
    long = "A line of text.\n\n" * 25
    record = Record(
        prompt=[Message("user", "?")], completions=[Completion(content=f"{n}. {long}") for n in range(3)]
    )
    imports.import_records(store, [record])
    page = visit(viewport={"width": 900, "height": 700}).open()
    page.keyboard.press("1")
    page.keyboard.press("2")
    page.locator(".rb-card").nth(2).scroll_into_view_if_needed()
    handle(page, "C").scroll_into_view_if_needed()
    start = middle(handle(page, "C"))
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0], 75, steps=5)  # just below the header
    page.wait_for_function("scrollY === 0")
    x, y = middle(page.locator(".rb-card").first, down=0)
    page.mouse.move(x, y + 10)
    expect(page.locator(".rb-ghost")).to_have_text("Cbetter than A")
    page.mouse.up()
    expect(order(page)).to_have_text("C›A›B")


def test_dragging_with_a_finger(visit: Any, store: Store) -> None:
    """On a phone: the letter drags, and everywhere else a finger scrolls."""
    add_tasks(store, 1, outputs=4)
    visitor = visit(viewport={"width": 320, "height": 1000}, has_touch=True, is_mobile=True)
    page = visitor.open()
    page.get_by_role("button", name="Hide").tap()
    touch = visitor.context.new_cdp_session(page)

    def swipe(start: tuple[float, float], end: tuple[float, float]) -> None:
        points = [
            (start[0] + (end[0] - start[0]) * t / 8, start[1] + (end[1] - start[1]) * t / 8) for t in range(9)
        ]
        for n, (x, y) in enumerate(points):
            kind = "touchMove" if n else "touchStart"
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    swipe(middle(handle(page, "B")), middle(order(page), across=0.9))
    expect(order(page)).to_have_text("Bleft:ACD")
    swipe(middle(chip(page, "A")), middle(chip(page, "B")))
    expect(order(page)).to_have_text("A=Bleft:CD")
    swipe(middle(handle(page, "C")), middle(page.locator(".rb-card").nth(1), down=0.9))
    expect(order(page)).to_have_text("A=B›Cleft:D")
    swipe(middle(page.locator(".rb-body").first), (160, 100))
    page.wait_for_function("scrollY > 0")
    expect(order(page)).to_have_text("A=B›Cleft:D")
    swipe(middle(chip(page, "D")), middle(chip(page, "C"), across=0.9))
    expect(order(page)).to_have_text("A=B›C›D")
    page.wait_for_timeout(700)  # Chromium takes no tap right after a drag; a person's finger is not as quick
    submit = middle(page.get_by_role("button", name="Submit"))
    swipe(submit, submit)  # a tap, by the same finger
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    assert ranks_on_screen(store) == [1, 1, 2, 3]


def test_buttons_up_and_down(visit: Any, store: Store) -> None:
    add_tasks(store, 1)
    page = visit().open()
    page.get_by_role("button", name="Better: output B").click()
    page.get_by_role("button", name="Worse: output A").click()
    expect(order(page)).to_have_text("B›Aleft:C")
    for _ in range(2):
        page.get_by_role("button", name="Better: output A").click()
    page.get_by_role("button", name="Worse: output C").click()
    expect(order(page)).to_have_text("A=B›C")
    page.get_by_role("button", name="Undo").click()
    expect(order(page)).to_have_text("A=Bleft:C")
    page.get_by_role("button", name="Submit").click()  # what nobody touched has no rank
    expect(page.locator(".rb-status")).to_have_text("Rank C first.")
