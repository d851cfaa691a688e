"""What several commands of `alignkit label` take: the database, an actor's confirmation, texts from files."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from alignment.errors import UserError

DEFAULT_DB = "sqlite:///labels.db"
Database = Annotated[
    str,
    typer.Option(
        "--db",
        envvar="ALIGNKIT_LABEL_DB",
        help="sqlite:///FILE or postgresql+psycopg://user:password@host/name.",
        show_envvar=True,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def read_text(path: Path) -> str:
    """The text of a file. Raises UserError if it is not there or not UTF-8."""
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})") from None


def confirm(question: str, yes: bool) -> None:
    """Ask before what cannot be undone, unless `yes`. Raises UserError if there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("there is no terminal to ask for a confirmation; add --yes")
    if not typer.confirm(question):
        raise typer.Exit(1)


def day(moment: datetime | None) -> str:
    """A time as a table shows it, in UTC; "-" for none."""
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M}"
