"""One self-contained HTML page: style inside, no scripts, no fonts, nothing loaded from anywhere.

    page = Page("Evaluation", "4 models on 200 prompts")
    page.verdict("The aligned model is better.", "good")
    page.heading("Win rates")
    page.table(["models", "win rate"], [["dpo vs sft", "70%"]])
    page.figure(plots.intervals([("dpo vs sft", 0.70, 0.64, 0.75)], reference=0.5), "Win rate, 95% interval")
    page.write("report.html")

Every text is escaped; only an `Svg` of `plots.py` goes in as markup. The page follows the reader's light or
dark setting, prints in black on white with every fold open, and fits a phone.
"""

from __future__ import annotations

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


@dataclass
class Column:
    """One text of a side-by-side sample: who wrote it, the text, a short remark such as its score."""

    name: str
    text: str
    note: str = ""
    tone: Tone = "plain"


@dataclass
class Sample:
    """A prompt as (role, text) turns and the texts to be read side by side."""

    prompt: list[tuple[str, str]]
    columns: list[Column]
    note: str = ""


@dataclass
class Page:
    """A page that is written from top to bottom, one block a call, and saved by `write`."""

    title: str
    subtitle: str = ""
    blocks: list[str] = field(default_factory=list)

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
        """A table; numbers are formatted and aligned right, a column of numbers by its first row."""
        right = [bool(rows) and not isinstance(cell, str) for cell in (rows[0] if rows else columns)]
        head = "".join(_cell("th", name, at) for name, at in zip(columns, right, strict=True))
        body = ""
        for i, row in enumerate(rows):
            mark = f' class="{tones[i]}"' if tones else ""
            body += (
                f"<tr{mark}>"
                + "".join(_cell("td", c, at) for c, at in zip(row, right, strict=True))
                + "</tr>"
            )
        title = f"<caption>{escape(caption)}</caption>" if caption else ""
        self.blocks.append(
            f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def figure(self, svg: Svg, caption: str = "") -> None:
        """A plot with its caption. Figures that follow each other share a row where there is room."""
        block = f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"
        if self.blocks and self.blocks[-1].startswith('<div class="figures">'):
            self.blocks[-1] = self.blocks[-1].removesuffix("</div>") + block + "</div>"
        else:
            self.blocks.append(f'<div class="figures">{block}</div>')

    def samples(self, samples: Sequence[Sample]) -> None:
        """Prompts with the texts that answer them, side by side."""
        for i, sample in enumerate(samples, 1):
            turns = "".join(
                f'<div class="turn"><b>{escape(role)}</b>'
                f'<div class="said" dir="auto">{escape(text)}</div></div>'
                for role, text in sample.prompt
            )
            columns = "".join(_column(column) for column in sample.columns)
            note = f"<p class='note'>{escape(sample.note)}</p>" if sample.note else ""
            self.blocks.append(
                f'<section class="sample"><h3>Sample {i}</h3>{turns}{note}'
                f'<div class="columns">{columns}</div></section>'
            )

    def code(self, text: str, title: str, open_: bool = False) -> None:
        """A long text in a fold that carries `title`: a configuration, a log."""
        state = " open" if open_ else ""
        self.blocks.append(
            f"<details{state}><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
        )

    def html(self) -> str:
        """The whole document."""
        subtitle = f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else ""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta name="color-scheme" content="light dark"><title>{escape(self.title)}</title>'
            f"<style>{_style()}</style></head>\n<body><main><header><h1>{escape(self.title)}</h1>{subtitle}</header>\n"
            + "\n".join(self.blocks)
            + "\n</main></body></html>\n"
        )

    def write(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Save the page. Raises UserError if `path` exists and is not to be overwritten."""
        with atomic_output(path, overwrite=overwrite) as temporary:
            Path(temporary).write_text(self.html(), encoding="utf-8")
        return Path(path)


def _column(column: Column) -> str:
    note = f'<span class="note">{escape(column.note)}</span>' if column.note else ""
    said = escape(column.text) if column.text.strip() else "<i>(empty)</i>"
    return (
        f'<article class="{column.tone}"><header><b>{escape(column.name)}</b>{note}</header>'
        f'<div class="said" dir="auto">{said}</div></article>'
    )


def _cell(tag: str, value: Cell, right: bool) -> str:
    shown = value if isinstance(value, str) else number(value)
    kind = "number" if right else "short" if len(shown) <= SHORT else ""
    return f'<{tag} class="{kind}">{escape(shown)}</{tag}>' if kind else f"<{tag}>{escape(shown)}</{tag}>"


@cache
def _style() -> str:
    return (resources.files("alignment.report") / "page.css").read_text(encoding="utf-8")
