"""Progress with rate and time left: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import os
import sys
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from alignment.backend.runs import is_main_process

SECONDS_BETWEEN_LINES = 30.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


class Steps:
    """A count of steps on stderr. Use as a context manager; `update(done, note)` as steps are done."""

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self.title, self.total, self.first = title, total, done
        self.started = self.last_line = time.monotonic()
        console = Console(stderr=True)
        self.bar: Progress | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self.bar = Progress(*columns, console=console)
            self.task = self.bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Steps:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, done: int, note: str = "") -> None:
        """`done` steps of the total are over; `note` is shown behind them."""
        if self.bar:
            self.bar.update(self.task, completed=done, note=note)
            return
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LINES or (done >= self.total and done > self.first):
            self.last_line = now
            seconds = (now - self.started) / max(done - self.first, 1)
            left = seconds * (self.total - done)
            tail = f", {note}" if note else ""
            print(
                f"{self.title}: {done}/{self.total}, {seconds:.2f} s each, {left:.0f} s left{tail}",
                file=sys.stderr,
            )


def only_own_progress() -> None:
    """No bars of the libraries from here on: of loading weights, and where nobody watches those of TRL."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # what TRL asks before it shows one


def say(text: str) -> None:
    """One line on stderr, from the first process only."""
    if is_main_process():
        print(text, file=sys.stderr, flush=True)
