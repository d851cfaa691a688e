"""Stages in order, from one YAML, in one process: the quickstart is such a YAML.

    stage: pipeline
    run: {dir: runs/mine, seed: 0}
    steps:
      - {stage: sft, config: mine/sft.yaml}
      - {stage: dpo, config: mine/dpo.yaml, set: {model.path: "{run}/sft"}}

Each step runs in {run}/NAME (its name, or else its stage) with the pipeline's seed. A step that is done is
not run again, so the same command goes on where it stopped. All configs are read before the first step runs.
"""

import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Literal

import pydantic

from alignment.backend.config import RunConfig, RunSection, Section, load_config_with
from alignment.backend.progress import say
from alignment.backend.runs import finished_result, is_main_process, plain
from alignment.errors import UserError

STAGES = {
    "sft": "alignment.sft",
    "dpo": "alignment.dpo",
    "kto": "alignment.kto",
    "reward": "reward.stage",
    "ppo": "alignment.ppo.stage",
    "rloo": "alignment.rloo",
    "grpo": "alignment.grpo",
    "evaluate": "alignment.evaluation.stage",
}


class Step(Section):
    """One stage of a pipeline."""

    stage: Literal["sft", "dpo", "kto", "reward", "ppo", "rloo", "grpo", "evaluate"]
    config: str
    """The stage's config: a path, or the name of a shipped one."""
    name: str | None = None
    """Of the step's run directory; needed when a stage occurs twice."""
    set: dict[str, Any] = pydantic.Field(default_factory=dict)
    """Dotted keys of the stage's config and their values; `{run}` in a value is the pipeline's directory."""

    @property
    def title(self) -> str:
        """The step's name, else its stage."""
        return self.name or self.stage


class Config(Section):
    """The config of a pipeline."""

    stage: Literal["pipeline"] = "pipeline"
    run: RunSection
    steps: list[Step] = pydantic.Field(min_length=1)


def stage_module(stage: str) -> Any:
    """The module of a stage, with its `Config` and `run`; light to import."""
    return importlib.import_module(STAGES[stage])


def run(config: Config) -> dict[str, Any]:
    """Run the steps; {"run": directory, "seconds": total, "steps": {name: the stage's result dict}}.

    The same is written to pipeline.json in the directory after each step. Raises UserError for two steps of
    one name, and whatever a stage raises.
    """
    started = time.monotonic()
    folder = Path(config.run.dir)
    configs = step_configs(config)
    results: dict[str, Any] = {}
    for number, (title, step) in enumerate(configs.items(), 1):
        done = None if config.run.overwrite else finished_result(step)
        state = f"done before, in {done['seconds']:.0f} s" if done else step.run.dir
        say(f"[{number}/{len(configs)}] {title}: {state}")
        results[title] = done or stage_module(step.stage).run(step)
        seconds = round(time.monotonic() - started, 3)
        summary = {"run": str(folder), "seconds": seconds, "steps": plain(results)}
        if is_main_process():
            temporary = folder / "pipeline.json.tmp"
            temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            os.replace(temporary, folder / "pipeline.json")
        free_memory()
    return summary


def step_configs(config: Config) -> dict[str, RunConfig]:
    """The config of every step by its name, with the step's `set`, the pipeline's seed and run directory."""
    configs: dict[str, RunConfig] = {}
    for number, step in enumerate(config.steps, 1):
        if step.title in configs:
            raise UserError(f"steps: two steps are called {step.title!r}; give one of them a name")
        where = f"step {number} ({step.title})"
        values = {key: (_fill(value, config.run.dir), where) for key, value in step.set.items()}
        values["run.dir"] = (str(Path(config.run.dir) / step.title), where)
        values["run.seed"] = (config.run.seed, where)
        if config.run.overwrite:
            values["run.overwrite"] = (True, where)
        if config.run.tracking:
            values["run.tracking"] = (config.run.tracking, where)
        configs[step.title] = load_config_with(stage_module(step.stage).Config, step.config, values)
    return configs


def _fill(value: Any, folder: str) -> Any:
    """`{run}` in every string of a value, replaced."""
    if isinstance(value, str):
        return value.replace("{run}", folder)
    if isinstance(value, list):
        return [_fill(item, folder) for item in value]
    if isinstance(value, dict):
        return {key: _fill(item, folder) for key, item in value.items()}
    return value


def free_memory() -> None:
    """Give back what the last stage held: models sit in reference cycles with their trainer."""
    gc.collect()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
