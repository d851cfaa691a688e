"""`alignkit data`: pull and push: datasets of the Hugging Face hub and local `datasets` folders."""

import typer

app = typer.Typer()
