"""The commands that train: one a stage, the pipeline, and the quickstart."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from alignment import pipeline
from alignment.backend.config import load_config
from alignment.backend.launch import hand_over
from alignment.backend.runs import is_main_process
from alignment.cli.groups import ConfigArgument, Overrides, Overwrite, Resume, run_flags
from alignment.cli.quickstart import check_new, closing

Processes = Annotated[int, typer.Option(min=1, help="Train in so many processes, one a GPU.")]
Accelerate = Annotated[
    str | None, typer.Option(help="An accelerate config: a file, or fsdp2, zero3 … as TRL ships them.")
]


STAGES = {
    "sft": "Fine-tune on demonstrations.",
    "reward": "Train a reward model on rankings.",
    "dpo": "Optimise directly on rankings, without a reward model.",
    "kto": "Optimise on completions that are labelled good or bad.",
    "ppo": "Optimise against a reward model.",
    "rloo": "The same without a critic: each completion beside the others of its prompt.",
    "grpo": "The same without a critic, relative to the spread of a group.",
}


def stage_command(stage: str) -> Callable[..., None]:
    """The command `alignkit STAGE CONFIG [KEY=VALUE …]`; prints the stage's result as JSON."""

    def command(
        config: ConfigArgument,
        overrides: Overrides = None,
        resume: Resume = False,
        overwrite: Overwrite = False,
        processes: Processes = 1,
        accelerate: Accelerate = None,
    ) -> None:
        given = [*(overrides or []), *run_flags(overwrite=overwrite, resume=resume)]
        module = pipeline.stage_module(stage)
        loaded = load_config(module.Config, config, given)
        hand_over(sys.argv[1:], processes, accelerate)
        result = module.run(loaded)
        if is_main_process():
            print(json.dumps(result, indent=2))

    return command


def run(
    config: Annotated[str, typer.Argument(metavar="PIPELINE", help="A pipeline's YAML file or name.")],
    overrides: Overrides = None,
    overwrite: Overwrite = False,
) -> None:
    """Run stages in order. The same command again goes on where it stopped."""
    given = [*(overrides or []), *run_flags(overwrite=overwrite)]
    results = pipeline.run(load_config(pipeline.Config, config, given))
    print(json.dumps(results, indent=2))


def quickstart(
    out: Annotated[Path, typer.Option(help="The folder of the runs and the report.")] = Path(
        "runs/quickstart"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """The whole path on a small model, on a CPU, in minutes: SFT, reward, DPO, PPO, evaluation."""
    given = [f"run.dir={json.dumps(str(out))}", f"run.seed={seed}", *run_flags(overwrite=overwrite)]
    config = load_config(pipeline.Config, "quickstart/pipeline.yaml", given)
    check_new(out, overwrite)
    closing(pipeline.run(config), out)
