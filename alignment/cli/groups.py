"""A command that has subcommands beside its CONFIG: `alignkit reward CONFIG`, and `alignkit reward serve`."""

from typing import Any

from typer.core import TyperGroup


class ConfigFirst(TyperGroup):
    """A group whose first argument, where it is no subcommand's name, is the config of its command `run`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)
