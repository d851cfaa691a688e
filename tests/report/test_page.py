"""Pages are self-contained, escaped and saved atomically."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.errors import UserError
from alignment.report import plots
from alignment.report.page import Column, Page, Sample

VOID = {"meta", "br", "link", "img"}


class Reader(HTMLParser):
    """Collects tags and text, and insists that tags nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_with(text: str) -> Page:
    page = Page(text, text)
    page.verdict(text, "good", text)
    page.heading(text)
    page.text(text)
    page.points([text])
    page.table([text, "n"], [[text, 3], [text, None]], text, tones=["good", "plain"])
    page.figure(plots.bars([(text, 1.0)], title=text), text)
    page.figure(plots.bars([(text, 2.0)]), text)
    page.samples([Sample([("user", text)], [Column(text, text, text), Column("b", "")], text)])
    page.code(text, text)
    return page


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_any_text_leaves_the_structure_alone(text: str) -> None:
    assert read(page_with(text).html()).tags.count("section") == 1


@pytest.mark.parametrize(
    "evil",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><b>", "]]><svg onload=x>"],
)
def test_model_text_is_never_markup(evil: str) -> None:
    plain, attacked = read(page_with("x").html()), read(page_with(evil).html())
    assert [t for t in attacked.tags if t not in ("title", "text")] == [
        t for t in plain.tags if t not in ("title", "text")
    ]
    assert not [name for name, _ in attacked.attributes if name.startswith("on")]
    assert evil in "".join(attacked.words)


def test_nothing_is_loaded_from_anywhere() -> None:
    html = page_with("x").html()
    reader = read(html)
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert "url(" not in html
    assert "default-src 'none'" in html


def test_figures_in_a_row_share_it() -> None:
    html = page_with("x").html()
    assert html.count('class="figures"') == 1
    assert html.count("<figure>") == 2


def test_write_refuses_to_overwrite(tmp_path: Path) -> None:
    page = page_with("x")
    path = page.write(tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8") == page.html()
    with pytest.raises(UserError, match="exists"):
        page.write(path)
    page.write(path, overwrite=True)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
