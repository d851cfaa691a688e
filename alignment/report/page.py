"""One self-contained HTML page: style inside, no fonts, nothing loaded from anywhere.

    page = Page("Evaluation", "4 models on 200 prompts")
    page.verdict("The aligned model is better.", "good")
    page.heading("Win rates")
    page.table(["models", "win rate"], [["dpo vs sft", "70%"]])
    page.figure(plots.intervals([("dpo vs sft", 0.70, 0.64, 0.75)], reference=0.5), "Win rate, 95% interval")
    page.write("report.html")

Every text is escaped; only an `Svg` of `plots.py` goes in as markup. The page follows the reader's light or
dark setting, prints in black on white with every fold open, and fits a phone. It has no script but
`samples.js`, where samples can be filtered, and says all it has to say without that too.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from alignment.data.files import atomic_output
from alignment.report.plots import Svg
from alignment.report.text import escape, number

Tone = Literal["good", "bad", "unsure", "plain"]
Cell = str | int | float | None
SHORT = 28  # characters of a table cell that are kept on one line
LONG = 60  # characters from which a cell is a sentence


@dataclass
class Column:
    """One text of a side-by-side sample: who wrote it, the text, a short remark such as its score."""

    name: str
    text: str
    note: str = ""
    tone: Tone = "plain"


@dataclass
class Sample:
    """A prompt as (role, text) turns and the texts to be read side by side.

    title: instead of "Sample 1"; tags: words by which filters choose it.
    """

    prompt: list[tuple[str, str]]
    columns: list[Column]
    note: str = ""
    title: str = ""
    tags: tuple[str, ...] = ()

    @property
    def words(self) -> int:
        """Of the longest of the texts."""
        return max((len(column.text.split()) for column in self.columns), default=0)


@dataclass
class Filter:
    """Samples that can be asked for: those with `tag`, under a `label`, within a `group` of such filters."""

    group: str
    label: str
    tag: str


@dataclass
class Page:
    """A page that is written from top to bottom, one block a call, and saved by `write`."""

    title: str
    subtitle: str = ""
    blocks: list[str] = field(default_factory=list)
    script: str = ""

    def heading(self, text: str, level: int = 2) -> None:
        """A heading of level 2 (a section) or 3."""
        self.blocks.append(f"<h{level}>{escape(text)}</h{level}>")

    def text(self, text: str) -> None:
        """Plain paragraphs; an empty line starts a new one."""
        self.blocks += [f"<p>{escape(part)}</p>" for part in text.split("\n\n") if part.strip()]

    def points(self, items: Sequence[str]) -> None:
        """A bulleted list."""
        self.blocks.append("<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>")

    def verdict(self, text: str, tone: Tone = "plain", detail: str = "") -> None:
        """A conclusion that is read first: one sentence, what it rests on below, a colour for its tone."""
        below = f"<p>{escape(detail)}</p>" if detail else ""
        self.blocks.append(f'<div class="verdict {tone}"><strong>{escape(text)}</strong>{below}</div>')

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        caption: str = "",
        tones: Sequence[Tone] | None = None,
    ) -> None:
        """A table; numbers are formatted and aligned right, a column of numbers by its first row.

        On a phone a table with sentences in it is shown row by row, each cell after its column's name.
        """
        right = [bool(rows) and not isinstance(cell, str) for cell in (rows[0] if rows else columns)]
        head = "".join(_cell("th", name, at) for name, at in zip(columns, right, strict=True))
        body = ""
        for i, row in enumerate(rows):
            mark = f' class="{tones[i]}"' if tones else ""
            body += (
                f"<tr{mark}>"
                + "".join(_cell("td", c, at, head) for c, at, head in zip(row, right, columns, strict=True))
                + "</tr>"
            )
        title = f"<caption>{escape(caption)}</caption>" if caption else ""
        long = any(isinstance(cell, str) and len(cell) > LONG for row in rows for cell in row)
        kind = ' class="sentences"' if long else ""
        name = escape(caption or f"Table: {', '.join(columns[:3])}")
        self.blocks.append(
            f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table{kind}>{title}'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def figure(self, svg: Svg, caption: str = "") -> None:
        """A plot with its caption. Figures that follow each other share a row where there is room."""
        block = f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        if self.blocks and self.blocks[-1].startswith('<div class="figures">'):
            self.blocks[-1] = self.blocks[-1].removesuffix("</div>") + block + "</div>"
        else:
            self.blocks.append(f'<div class="figures">{block}</div>')

    def samples(
        self, samples: Sequence[Sample], filters: Sequence[Filter] = (), shown: int | None = None
    ) -> None:
        """Prompts with the texts that answer them, side by side; once a page, if there are filters.

        shown: how many stand open, those beyond are in a fold; a script that the page then has turns fold and
        filters into a choice of so many at a time.
        """
        sections = [_sample(sample, number) for number, sample in enumerate(samples, 1)]
        first, rest = sections[:shown], sections[len(sections[:shown]) :]
        more = f'<details class="more"><summary>{len(rest):,} more</summary>{"".join(rest)}</details>'
        box = f'<div class="samples" data-shown="{len(first)}">{"".join(first)}{more if rest else ""}</div>'
        if not filters:
            self.blocks.append(box)
            return
        self.script = _resource("samples.js")
        again = f'<button type="button" class="again" hidden>Show {len(first)} more</button>'
        self.blocks.append(f"{_choice(samples, filters)}{box}{again}")

    def code(self, text: str, title: str, open_: bool = False) -> None:
        """A long text in a fold that carries `title`: a configuration, a log."""
        state = " open" if open_ else ""
        self.blocks.append(
            f"<details{state}><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        )

    def html(self) -> str:
        """The whole document."""
        subtitle = f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else ""
        script, allowed = "", ""
        if self.script:
            digest = base64.b64encode(hashlib.sha256(self.script.encode()).digest()).decode()
            script, allowed = f"<script>{self.script}</script>\n", f"; script-src 'sha256-{digest}'"
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta http-equiv="Content-Security-Policy" '
            f"content=\"default-src 'none'; style-src 'unsafe-inline'{allowed}\">"
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta name="color-scheme" content="light dark"><title>{escape(self.title)}</title>'
            f"<style>{_resource('page.css')}</style></head>\n<body><main><header><h1>{escape(self.title)}</h1>{subtitle}</header>\n"
            + "\n".join(self.blocks)
            + f"\n</main>\n{script}</body></html>\n"
        )

    def write(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Save the page. Raises UserError if `path` exists and is not to be overwritten."""
        with atomic_output(path, overwrite=overwrite) as temporary:
            Path(temporary).write_text(self.html(), encoding="utf-8")
        return Path(path)


def _sample(sample: Sample, number: int) -> str:
    turns = "".join(
        f'<div class="turn"><b>{escape(role)}</b><div class="said" dir="auto">{escape(text)}</div></div>'
        for role, text in sample.prompt
    )
    columns = "".join(_column(column) for column in sample.columns)
    note = f'<p class="note">{escape(sample.note)}</p>' if sample.note else ""
    told = f' data-tags="{escape(" ".join(sample.tags))}" data-words="{sample.words}"' if sample.tags else ""
    return (
        f'<section class="sample"{told}><h3>{escape(sample.title or f"Sample {number}")}</h3>{turns}{note}'
        f'<div class="columns">{columns}</div></section>'
    )


def _choice(samples: Sequence[Sample], filters: Sequence[Filter]) -> str:
    """The form that `samples.js` shows and listens to."""
    groups = ""
    for group in dict.fromkeys(one.group for one in filters):
        options = ""
        for one in filters:
            count = sum(one.tag in sample.tags for sample in samples)
            if one.group == group and count:
                options += f'<option value="{escape(one.tag)}">{escape(f"{one.label} ({count:,})")}</option>'
        groups += f'<optgroup label="{escape(group)}">{options}</optgroup>' if options else ""
    return (
        f'<form class="filters" hidden><label>Show <select><option value="">all ({len(samples):,})</option>'
        f'{groups}</select></label><label><input type="checkbox"> longest first</label>'
        "<output></output></form>"
    )


def _column(column: Column) -> str:
    note = f'<span class="note">{escape(column.note)}</span>' if column.note else ""
    said = escape(column.text) if column.text.strip() else "<i>(empty)</i>"
    return (
        f'<article class="{column.tone}"><header><b>{escape(column.name)}</b>{note}</header>'
        f'<div class="said" dir="auto" tabindex="0">{said}</div></article>'
    )


def _cell(tag: str, value: Cell, right: bool, head: str = "") -> str:
    shown = value if isinstance(value, str) else number(value)
    kind = "number" if right else "short" if len(shown) <= SHORT else ""
    named = f' class="{kind}"' if kind else ""
    told = f' data-head="{escape(head)}"' if head else ""
    return f"<{tag}{named}{told}>{escape(shown)}</{tag}>"


@cache
def _resource(name: str) -> str:
    return (resources.files("alignment.report") / name).read_text(encoding="utf-8")
