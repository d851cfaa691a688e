"""What `alignkit quickstart` says before and after the pipeline: a refusal, or the table and what is next."""

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from alignment.errors import UserError


def check_new(out: Path, overwrite: bool) -> None:
    """Raise UserError if `out` holds a quickstart that is done; with `overwrite` its report goes first.

    The report is written last, so a run that was killed has none and the same command goes on with it.
    """
    if overwrite:
        for name in ("report.json", "report.html"):
            (out / name).unlink(missing_ok=True)
    elif (out / "report.json").is_file():
        raise UserError(
            f"{out} holds a finished quickstart (its report is {out / 'report.html'}); choose another --out "
            "or add --overwrite"
        )


def closing(results: dict[str, Any], out: Path) -> None:
    """Print the figures of each stage, where the report is, and commands to go on with.

    results: what `pipeline.run` returned; the report is read from `out`.
    """
    from rich.console import Console

    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    console = Console()
    console.print(_table(results, report))
    for warning in report["warnings"]:
        console.print(f"Note: {warning}", markup=False, highlight=False)
    print(f"\n{results['seconds']:.0f} seconds in all. The report: {out / 'report.html'}")
    print(_next(out))


def _table(results: dict[str, Any], report: dict[str, Any]) -> Any:
    """One row a stage: seconds, KL from its parent, win rate and reward accuracy with 95% intervals."""
    from rich.table import Table

    compared = {name.split("_vs_")[0]: name for name in report["win_rate"]}
    table = Table("stage", "seconds", "KL", "win rate [95%]", "against", "accuracy [95%]")
    for name, result in results["steps"].items():
        figures = report["stages"].get(name, {})
        kl = "" if figures.get("kl") is None else f"{figures['kl']:.2f}"
        won = against = right = ""
        if name in compared:
            rate = report["win_rate"][compared[name]]
            won = _interval(rate["rate"], rate)
            against = compared[name].split("_vs_")[1]
        accuracy = result["metrics"].get("accuracy")
        if accuracy is not None:
            right = _interval(accuracy["value"], accuracy)
        table.add_row(name, f"{result['seconds']:.0f}", kl, won, against, right)
    return table


def _interval(value: float, of: dict[str, float]) -> str:
    return rf"{value:.2f} \[{of['low']:.2f}, {of['high']:.2f}]"


def _next(out: Path) -> str:
    """Commands that work as they stand."""
    db = shlex.quote(f"sqlite:///{out / 'labels.db'}")
    answers = shlex.quote(str(out / "evaluate" / "completions.jsonl"))
    models = " ".join(shlex.quote(str(out / name)) for name in ("sft", "ppo"))
    command = "alignkit" if shutil.which("alignkit") else shlex.quote(str(Path(sys.argv[0]).absolute()))
    return f"""
Rank these very answers yourself, blind, in the browser:
  {command} label import {answers} --db {db}
  {command} label user add me --db {db}
  {command} label serve --db {db}
Talk to two of the models side by side:
  {command} chat {models}
The same path on a real model (fetched from the hub; a GPU is advised):
  {command} sft smollm2-135m/sft data.train='[quickstart/demonstrations.jsonl.gz]'
"""
