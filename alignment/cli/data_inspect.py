"""`alignkit data`: show, head, diff: a dataset as a person reads it."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from alignment.cli.data_terminal import native_records, next_steps
from alignment.cli.progress import progress
from alignment.data.differences import ADDED, CHANGED, REMOVED, Difference, differences
from alignment.data.printing import Printer, searched_texts, visible
from alignment.data.records import Record, record_id
from alignment.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()
_HEAD = 300  # characters of a text that `head` shows

Source = Annotated[str, typer.Argument(metavar="FILE", help="A file, a folder or a glob of records.")]
SideBySide = Annotated[bool, typer.Option("--side-by-side", help="Completions in columns.")]


@app.command()
def show(
    source: Source,
    id_: Annotated[str | None, typer.Option("--id", help="The record of this id.")] = None,
    grep: Annotated[
        str | None,
        typer.Option(help="A regular expression; looks into ids, prompts, completions, judges, rationales."),
    ] = None,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", "-i", help="With --grep.")] = False,
    row: Annotated[int | None, typer.Option(min=1, help="The record in this row, from 1.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many records.")] = 5,
    side_by_side: SideBySide = False,
    full: Annotated[bool, typer.Option("--full", help="Unfold meta, tools and parameters.")] = False,
) -> None:
    """Print records as a person reads them: those asked for, else the first.

    Control characters in the data are shown as \\x1b and the like, never sent to the terminal.
    """
    asked = [name for name, value in (("--id", id_), ("--grep", grep), ("--row", row)) if value is not None]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)}: give one of them")
    if not asked:
        limit = 1
    wanted = _wanted(id_, grep, ignore_case, row)
    printer = Printer(_console(), full=full, side_by_side=side_by_side)
    read = shown = 0
    for number, record in enumerate(progress(native_records(source), "searching"), 1):
        read = number
        if wanted(number, record):
            printer.record(record, f"row {number:,} of {source}")
            shown += 1
            if shown == limit or row is not None:
                break
    if not shown and grep is not None:
        print(f"none of the {read:,} records matches")
    elif not shown:
        what = (
            f"with the id {visible(id_)}" if id_ is not None else f"in row {row:,}; the last row is {read:,}"
        )
        raise UserError(f"{source}: there is no record {what}")
    elif grep is not None and shown == limit:
        print(f"stopped after {limit:,} records; --limit shows more")
    elif not asked:
        next_steps(f"alignkit data show {source} --row 2, --id ID or --grep REGEX")


def _wanted(
    id_: str | None, grep: str | None, ignore_case: bool, row: int | None
) -> Callable[[int, Record], bool]:
    """Whether the record in a row is asked for."""
    if grep is not None:
        try:
            pattern = re.compile(grep, re.IGNORECASE if ignore_case else 0)
        except re.error as error:
            raise UserError(f"--grep: not a regular expression: {error}") from None
        return lambda number, record: any(map(pattern.search, searched_texts(record)))
    if id_ is not None:
        return lambda number, record: record_id(record) == id_
    return lambda number, record: number == (row or 1)


@app.command()
def head(
    source: Source,
    count: Annotated[int, typer.Option("-n", min=1, help="How many records.")] = 5,
    side_by_side: SideBySide = False,
) -> None:
    """Print the first records, long texts cut."""
    printer = Printer(_console(), longest=_HEAD, side_by_side=side_by_side)
    for number, record in enumerate(islice(native_records(source), count), 1):
        printer.record(record, f"row {number:,}")
    next_steps(f"alignkit data show {source} --row 1", f"alignkit data stats {source}")


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A file, a folder or a glob of records.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same, later or elsewhere.")],
    limit: Annotated[
        int, typer.Option(min=0, help="List at most so many of each kind; all are counted.")
    ] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="All differences, a line of JSON each, the counts last.")
    ] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if there is any.")] = False,
) -> None:
    """Compare datasets by id: what B adds, lacks and says otherwise. The order of rows does not matter."""
    counts = dict.fromkeys((REMOVED, ADDED, CHANGED), 0)
    fields: Counter[str] = Counter()
    judgments = [0, 0]
    for found in differences(lambda: _passing(first), lambda: _passing(second)):
        counts[found.kind] += 1
        fields.update({re.sub(r"\[\d+\]", "[]", field): 1 for field in found.fields})
        judgments = [judgments[0] + found.judgments_added, judgments[1] + found.judgments_removed]
        if as_json:
            print(json.dumps(found._asdict()))
        elif counts[found.kind] <= limit:
            print(_listed(found))
    any_found = any(counts.values())
    if as_json:
        added, removed = judgments
        summary = {**counts, "fields": fields, "judgments_added": added, "judgments_removed": removed}
        print(json.dumps({"summary": summary}))
    elif not any_found:
        print(f"{first} and {second} hold the same records")
    else:
        print(", ".join(f"{number:,} {kind}" for kind, number in counts.items()))
        for field, number in fields.most_common(20):
            more = f" ({judgments[0]:,} added, {judgments[1]:,} removed)" if field == "judgments" else ""
            print(f"  {number:,} changed in {visible(field)}{more}")
        if any(number > limit for number in counts.values()):
            print(f"listed {limit:,} of each kind; --limit or --json lists more")
    if exit_code and any_found:
        raise typer.Exit(1)


_SIGNS = {REMOVED: "-", ADDED: "+", CHANGED: "~"}


def _listed(found: Difference) -> str:
    line = f"{_SIGNS[found.kind]} {found.id}"
    if found.fields:
        line += f": {', '.join(found.fields)}"
    if found.judgments_added or found.judgments_removed:
        line += f" (+{found.judgments_added:,} -{found.judgments_removed:,})"
    return visible(line).replace("\n", "\\n")


def _passing(source: str) -> Iterator[Record]:
    return progress(native_records(source), f"reading {source}")


def _console() -> Console:
    from rich.console import Console

    # Markup and emoji codes in the data are text. Off a terminal there are no colours, and room for tables.
    width = None if sys.stdout.isatty() else 120
    return Console(width=width, markup=False, emoji=False, highlight=False)
