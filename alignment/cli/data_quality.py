"""`alignkit data`: duplicates, contamination, personal data, report."""

import typer

app = typer.Typer()
