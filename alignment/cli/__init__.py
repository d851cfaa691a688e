"""The `alignkit` command, a file a group of subcommands; nothing heavy is imported to show help."""

import importlib.metadata
import os
import sys
import warnings
from typing import Any

import typer

from alignment.cli import configs, data, evaluate, label, models, reward, train
from alignment.errors import UserError

_UsageError: Any = typer.BadParameter.__base__  # click's, which typer names only by this child of it

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="From instruction tuning to alignment: rank outputs, learn a reward, run PPO or DPO, measure.",
)
for stage, summary in train.STAGES.items():
    if stage == "reward":
        app.add_typer(reward.app, name="reward")
    else:
        app.command(stage, help=summary)(train.stage_command(stage))
app.command()(train.run)
app.command()(train.quickstart)
app.add_typer(evaluate.app, name="evaluate")
app.command()(models.generate)
app.command()(models.export)
app.command()(models.chat)
app.add_typer(data.app, name="data", help="Convert, check, view, merge, split and count datasets.")
app.add_typer(label.app, name="label", help="The labeling app: serve it, take records in and out.")
app.add_typer(configs.app, name="configs", help="The configs that come with alignkit.")


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        print(importlib.metadata.version("alignkit"))
        raise typer.Exit()


def main() -> None:
    """Run the command line: a UserError, or words it does not take, become one sentence and exit code 2."""
    # Libraries read these when they are imported: no telemetry, no bars where nobody looks.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # What the libraries have to tell each other's developers is not for our users.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="Could not find a config file in")  # peft, of an adapter's base
    warnings.filterwarnings("ignore", message="SSR mode is not supported")  # gradio, where it is off anyway
    try:
        check_package()
        raise SystemExit(app(standalone_mode=False, prog_name="alignkit"))
    except UserError as error:
        print(f"alignkit: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except _UsageError as error:
        # Without a word of its own where the help was asked for by giving no argument, and is printed.
        if said := error.format_message().rstrip("."):
            command = error.ctx.command_path if error.ctx else "alignkit"
            print(f"alignkit: {said} (`{command} --help` says what it takes)", file=sys.stderr)
        raise SystemExit(2) from None
    except typer.Abort:
        raise SystemExit("alignkit: given up") from None


def check_package() -> None:
    """Refuse to run beside alignment-handbook, which installs files into the same package `alignment`."""
    try:
        importlib.metadata.distribution("alignment-handbook")
    except importlib.metadata.PackageNotFoundError:
        return
    raise UserError(
        "alignment-handbook is installed here and puts its files into alignkit's package `alignment`; "
        "use another environment, or `pip uninstall alignment-handbook` and reinstall alignkit"
    )
