"""How the annotate page looks, and what texts of models can do to it: on a phone, in the dark, hostile."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import func, select

from alignment.data.records import Completion, Message, Record
from labeling_app import imports
from labeling_app.store.database import Store
from labeling_app.store.models import judgments

expect = pytest.importorskip("playwright.sync_api").expect


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(visit: Any, store: Store, scheme: str) -> None:
    """320 px: nothing sticks out, every button is 44 px, ranking by touch works."""
    text = "A long paragraph of text. " * 30 + "x" * 200
    record = Record(
        prompt=[Message("user", "p" * 120)],
        completions=[Completion(content=f"{n}. {text}") for n in range(8)],
    )
    imports.import_records(store, [record])
    visitor = visit(
        viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True, color_scheme=scheme
    )
    page = visitor.open()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    small = page.evaluate(
        """() => [...document.querySelectorAll('.rb button, .rb-choice')]
        .filter(node => node.checkVisibility()).map(node => [node.innerText, node.getBoundingClientRect()])
        .filter(([, box]) => box.width < 44 || box.height < 44).map(([text]) => text)"""
    )
    assert small == []
    light, ink = page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor,
        getComputedStyle(document.querySelector('.rb')).color]
        .map(color => color.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 765)"""
    )
    assert (light > ink) == (scheme == "light")
    assert abs(light - ink) > 0.6
    for letter, rank in zip("ABCDEFGH", (8, 7, 6, 5, 4, 3, 2, 1), strict=True):
        group = page.get_by_role("radiogroup", name=f"Rank of output {letter}")
        group.get_by_role("radio", name=re.compile(rf"^{rank}\b")).tap()
    page.get_by_role("button", name="Submit").tap()
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(judgments)) == 1


def test_conversations_and_raw_text(visit: Any, store: Store) -> None:
    record = Record(
        prompt=[
            Message("system", "Be *brief*."),
            Message("user", "Hello"),
            Message("assistant", "Hi **there**"),
            Message("user", "# not a heading"),
        ],
        completions=[Completion(content="**bold** and $x^2$"), Completion(content="")],
    )
    imports.import_records(store, [record])
    page = visit().open()
    prompt = page.get_by_role("region", name="Prompt")
    expect(prompt.get_by_text("Be *brief*.")).to_be_visible()
    expect(prompt.get_by_text("# not a heading")).to_be_visible()
    expect(prompt.locator("strong")).to_have_text("there")
    expect(page.locator(".rb-cards strong")).to_have_text("bold")
    expect(page.locator(".rb-cards msup")).to_have_count(1)
    expect(page.get_by_text("(an empty text)")).to_be_visible()
    page.get_by_role("button", name="Raw text").click()
    expect(page.get_by_text("**bold** and $x^2$")).to_be_visible()
    expect(page.locator(".rb-cards strong")).to_have_count(0)
