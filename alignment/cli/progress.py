"""Progress of a command over rows whose number is not known: a count and a rate on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], label: str, size: Callable[[Item], int] = lambda _: 1) -> Iterator[Item]:
    """The items, with a count and a rate on the terminal while they pass; nothing where there is none.

    size: how many rows an item is.
    """
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True)
    # What is printed meanwhile goes above the line on a terminal; into a file or a pipe it goes as ever.
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task, start = bar.add_task(label), time.monotonic()
        rows = shown = 0
        for item in items:
            rows += size(item)
            if rows >= shown + 1000:
                shown = rows
                rate = rows / (time.monotonic() - start)
                bar.update(task, description=f"{label}: {rows:,} rows, {rate:,.0f} a second")
            yield item
