"""Pieces of HTML for the admin pages. Every text is escaped here; only `Html` and `Svg` go in as markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from urllib.parse import urlencode

from alignment.report.plots import Svg
from alignment.report.text import escape, number
from alignment.stats.intervals import Interval

REVIEWERS, ADMINS = ("reviewer", "admin"), ("admin",)
# The admin pages: path, name, who may see it, whether it is about one project
PAGES = (
    ("", "Projects", REVIEWERS, False),
    ("progress", "Progress", REVIEWERS, True),
    ("agreement", "Agreement", REVIEWERS, True),
    ("annotators", "Quality", REVIEWERS, True),
    ("bias", "Bias", REVIEWERS, True),
    ("review", "Review", REVIEWERS, True),
    ("settings", "Settings", ADMINS, True),
    ("records", "Import & export", ADMINS, True),
    ("accounts", "Accounts", ADMINS, False),
    ("audit", "Audit log", ADMINS, False),
)


class Html(str):
    """Finished markup. Only the functions of the pages make it."""

    __slots__ = ()


Cell = Html | str | int | float | None


def join(parts: Iterable[Html], between: str = "") -> Html:
    """Pieces one after the other."""
    return Html(between.join(parts))


def link(text: str, href: str, kind: str = "") -> Html:
    """A link to an address of ours."""
    style = f' class="{kind}"' if kind else ""
    return Html(f'<a href="{escape(href)}"{style}>{escape(text)}</a>')


def address(path: str, **query: object) -> str:
    """An address of the admin area, with what is not None as its query."""
    given = urlencode({key: value for key, value in query.items() if value is not None})
    return f"/admin/{path}" + (f"?{given}" if given else "")


def heading(text: str, note: str = "") -> Html:
    """A section's heading, and what it shows in a sentence."""
    return Html(f"<h2>{escape(text)}</h2>" + (f'<p class="ad-note">{escape(note)}</p>' if note else ""))


def paragraph(text: str) -> Html:
    """A plain paragraph."""
    return Html(f"<p>{escape(text)}</p>")


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str) -> Html:
    """A table with a caption for screen readers; a column whose first cells are numbers is set right.

    The first cell of a row is its header.
    """
    right = [
        _is_number(next((row[i] for row in rows if row[i] is not None), "")) for i in range(len(columns))
    ]
    head = "".join(
        f'<th scope="col"{_right(at)}>{escape(name)}</th>' for name, at in zip(columns, right, strict=True)
    )
    body = "".join(f"<tr>{_row(row, right)}</tr>" for row in rows)
    return Html(
        f'<div class="ad-scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table><caption class="ad-hidden">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figures(*plots: tuple[Svg, str]) -> Html:
    """Plots with their captions, in one row where there is room. The caption is the plot's name, too."""
    named = [(svg.replace("<svg ", f'<svg aria-label="{escape(text)}" ', 1), text) for svg, text in plots]
    inside = "".join(f"<figure>{svg}<figcaption>{escape(text)}</figcaption></figure>" for svg, text in named)
    return Html(f'<div class="ad-figures">{inside}</div>')


def facts(pairs: Sequence[tuple[str, Cell, str]]) -> Html:
    """Large numbers in a row: what it is, the number, a remark below."""
    inside = "".join(
        f'<div class="ad-fact"><dt>{escape(name)}</dt><dd>{_text(value)}'
        f"<small>{escape(note)}</small></dd></div>"
        for name, value, note in pairs
    )
    kind = "ad-facts three" if len(pairs) % 3 == 0 else "ad-facts"
    return Html(f'<dl class="{kind}">{inside}</dl>')


def empty(title: str, text: str, *links: Html) -> Html:
    """What stands where there is nothing yet: why, and what to do next."""
    return Html(
        f'<div class="ad-empty"><strong>{escape(title)}</strong><p>{escape(text)}</p>'
        f"<p>{' '.join(links)}</p></div>"
    )


def bar(done: int, wanted: int) -> Html:
    """A progress bar with its numbers."""
    share = min(1.0, done / wanted) if wanted else 0.0
    return Html(
        '<span class="ad-bar"><span class="ad-track" aria-hidden="true">'
        f'<span style="width:{100 * share:.1f}%"></span></span>'
        f'<span class="ad-count">{number(done)} of {number(wanted)}</span></span>'
    )


def badge(text: str, tone: str = "plain") -> Html:
    """A word in a small frame: good, bad, unsure or plain."""
    return Html(f'<span class="ad-badge {escape(tone)}">{escape(text)}</span>')


def told(text: str, tone: str = "good") -> Html:
    """What came of an action, announced by screen readers."""
    role = "alert" if tone == "bad" else "status"
    return Html(f'<p class="ad-told {tone}" role="{role}">{escape(text)}</p>')


def day(moment: datetime) -> str:
    """A date and a time in UTC, to the minute."""
    return f"{moment:%Y-%m-%d %H:%M}"


def estimate(found: Interval | None, percent: bool = False) -> str:
    """An estimate with its interval: 0.71 [0.65, 0.77], or as percentages."""
    if found is None:
        return "–"
    if percent:
        value, low, high = (100 * part for part in found[:3])
        return f"{value:.1f}% [{low:.1f}, {high:.1f}]"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]".replace("-", "−")


def _row(row: Sequence[Cell], right: Sequence[bool]) -> str:
    first, *rest = zip(row, right, strict=True)
    cells = "".join(f"<td{_right(at)}>{_text(cell)}</td>" for cell, at in rest)
    return f'<th scope="row"{_right(first[1])}>{_text(first[0])}</th>{cells}'


def _text(cell: Cell) -> str:
    if isinstance(cell, Html):
        return cell
    return escape(cell) if isinstance(cell, str) else escape(number(cell))


def _is_number(cell: Cell) -> bool:
    return not isinstance(cell, str) and cell is not None


def _right(at: bool) -> str:
    return ' class="ad-number"' if at else ""
