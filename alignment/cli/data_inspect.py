"""`alignkit data`: show, head, diff: a dataset as a person reads it."""

import typer

app = typer.Typer()
