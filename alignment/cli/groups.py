"""What commands with a CONFIG share: their arguments, and subcommands beside it (`alignkit reward serve`)."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or a shipped config's name.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Set keys over the file, e.g. run.seed=1.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run, or refuse.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Delete an earlier run in the same directory.")]


def run_flags(**flags: bool) -> list[str]:
    """Options of the command line that are on, as overrides of the config's `run:` section."""
    return [f"run.{name}=true" for name, given in flags.items() if given]


class ConfigFirst(TyperGroup):
    """A group whose first argument, where it is no subcommand's name, is the config of its command `run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)
