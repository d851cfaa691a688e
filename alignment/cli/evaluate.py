"""`alignkit evaluate CONFIG`: are the models better, by how much, and how surely; and figures beside it."""

import json
import sys
from typing import Any

import typer

from alignment.cli import evaluate_drift, evaluate_figures
from alignment.cli.groups import ConfigArgument, ConfigFirst, Overrides, Overwrite, Resume, run_flags

app = typer.Typer(
    cls=ConfigFirst,
    no_args_is_help=True,
    subcommand_metavar="CONFIG [KEY=VALUE]... [--overwrite] [--resume]",
    help="Compare models: win rates with intervals, KL, lengths, controls, and a report on one page.",
)


@app.callback()
def _group() -> None:
    """Compare models: win rates with intervals, KL, lengths, controls, and a report on one page."""


app.add_typer(evaluate_figures.app)  # without a name: its commands stand beside `run`
app.add_typer(evaluate_drift.app)


@app.command()
def run(
    config: ConfigArgument,
    overrides: Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Evaluate (the word `run` may be left out). The same command again goes on where it stopped."""
    from alignment.backend.config import load_config
    from alignment.evaluation import stage

    result = stage.run(
        load_config(
            stage.Config, config, [*(overrides or []), *run_flags(resume=resume, overwrite=overwrite)]
        )
    )
    show(result)


@app.command("reward-kl")
def reward_kl(
    config: ConfigArgument,
    overrides: Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Reward against KL over a run's checkpoints: where did more proxy reward stop to help?"""
    from alignment.backend.config import load_config
    from alignment.evaluation import reward_kl

    result = reward_kl.run(
        load_config(
            reward_kl.Config, config, [*(overrides or []), *run_flags(resume=resume, overwrite=overwrite)]
        )
    )
    metrics = result["metrics"]
    for verdict in metrics["verdict"]:
        print(f"{verdict['text']} {verdict['detail']}", file=sys.stderr)
    for warning in metrics["warnings"]:
        print(f"note: {warning}", file=sys.stderr)
    print(f"report: {result['report']}", file=sys.stderr)
    points = [
        {key: point[key] for key in ("name", "kl", "proxy_gain", "gold_gain")}
        for point in metrics["checkpoints"]
    ]
    print(json.dumps({"run": result["run"], "report": result["report"], "checkpoints": points}, indent=2))


@app.command()
def schema() -> None:
    """Print the JSON Schema of an evaluation's report.json."""
    from importlib import resources

    print(
        (resources.files("alignment.evaluation") / "report.schema.json").read_text(encoding="utf-8"), end=""
    )


def show(result: dict[str, Any]) -> None:
    """Verdicts and the report's path for people on stderr, the win rates as JSON on stdout."""
    from rich.console import Console
    from rich.table import Table

    metrics = result["metrics"]
    table = Table("comparison", "win rate", "95% interval", "ties", "n")
    for name, rate in metrics["win_rate"].items():
        interval = f"{rate['low']:.3f} to {rate['high']:.3f}"
        title = name.replace("_vs_", " against ")
        table.add_row(title, f"{rate['rate']:.3f}", interval, str(rate["ties"]), str(rate["n"]))
    console = Console(stderr=True)
    console.print(table)
    for verdict in metrics["verdict"]:
        print(verdict["text"], verdict["detail"], file=sys.stderr)
    for warning in metrics["warnings"]:
        print(f"note: {warning}", file=sys.stderr)
    print(f"report: {result['report']}", file=sys.stderr)
    print(
        json.dumps(
            {"run": result["run"], "report": result["report"], "win_rate": metrics["win_rate"]}, indent=2
        )
    )
