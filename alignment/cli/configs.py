"""`alignkit configs`: list the shipped configs, or copy them to a folder to edit."""

import shutil
from pathlib import Path

import typer

from alignment.backend.config import configs_folder, shipped_configs
from alignment.data.files import atomic_output

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def show() -> None:
    """Print the names of the shipped configs; each is accepted where a config is asked for."""
    for name in shipped_configs():
        print(name)


@app.command()
def copy(
    folder: Path = typer.Argument(help="A folder that does not exist yet."),
    overwrite: bool = typer.Option(False, help="Replace the folder."),
) -> None:
    """Copy every shipped config to FOLDER."""
    with atomic_output(folder, overwrite) as temporary:
        for name in shipped_configs():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(configs_folder() / name, temporary / name)
    print(f"{len(shipped_configs())} configs in {folder}")
