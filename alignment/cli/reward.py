"""`alignkit reward CONFIG` trains a reward model; `serve` and `score` use one."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from alignment.cli.groups import ConfigFirst
from alignment.cli.train import STAGES, stage_command

app = typer.Typer(
    cls=ConfigFirst,
    no_args_is_help=True,
    subcommand_metavar="CONFIG [KEY=VALUE]... [--overwrite] [--resume]",
    help=f"{STAGES['reward']} Or score texts with one, from a file or over HTTP.",
)
app.command("run", help="Train (the word `run` may be left out).")(stage_command("reward"))

REMEMBERED = 100_000  # texts whose scores a service keeps
Model = Annotated[str, typer.Argument(metavar="MODEL", help="A reward run, a model folder, or a hub id.")]
Combine = Annotated[
    Literal["mean", "worst", "uncertainty"], typer.Option(help="How an ensemble's members become one score.")
]
Penalty = Annotated[float, typer.Option(min=0, help="Of the variance, for --combine uncertainty.")]
MaxLength = Annotated[int | None, typer.Option(min=1, help="Longer texts lose their first tokens.")]
Budget = Annotated[int, typer.Option(min=1, help="Tokens in one forward pass.")]


@app.callback()
def _group() -> None:
    """Reward models: train, score, serve."""


@app.command()
def score(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Records.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The same records with rewards.")],
    model: Annotated[
        str, typer.Option("--model", help="A reward run, a folder, a hub id, or http://… of a service.")
    ],
    combine: Annotated[
        Literal["mean", "worst", "uncertainty"] | None,
        typer.Option(help="Write an ensemble's one score by this, instead of one a member."),
    ] = None,
    penalty: Penalty = 0.1,
    max_length: MaxLength = None,
    token_budget: Budget = 16_384,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
) -> None:
    """Write every completion's rewards, one a member; the labeling queue is ordered by their spread."""
    from alignment.data.files import data_files
    from alignment.errors import UserError

    data_files([file])  # a file that is not there is told before a model is loaded
    if out.exists() and not overwrite:
        raise UserError(f"{out} exists; choose another name or add --overwrite")
    if combine is not None and model.startswith(("http://", "https://")):
        raise UserError(f"{model} is a service, which combines by its own --combine: leave it out here")
    from alignment.backend.scoring import load_scorer
    from reward.score import score_file

    scorer = load_scorer(
        model, max_length=max_length, token_budget=token_budget, combine=combine or "mean", penalty=penalty
    )
    print(json.dumps(score_file(scorer, file, out, overwrite, combine is not None), indent=2))


@app.command()
def serve(
    model: Model,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")] = 8500,
    combine: Combine = "mean",
    penalty: Penalty = 0.1,
    max_length: MaxLength = None,
    token_budget: Budget = 16_384,
) -> None:
    """Answer POST /score; its address can stand for a reward model in PPO, RLOO, GRPO and evaluation."""
    from alignment.backend.scoring import RewardScorer, load_scorer
    from alignment.errors import UserError
    from reward.service import serve as answer

    scorer = load_scorer(
        model,
        max_length=max_length,
        token_budget=token_budget,
        combine=combine,
        penalty=penalty,
        remember=REMEMBERED,
    )
    if not isinstance(scorer, RewardScorer):
        raise UserError(f"{model} is a service already")
    print(f"scoring with {scorer.name} at http://{host}:{port}", file=sys.stderr, flush=True)
    answer(scorer, host, port)
