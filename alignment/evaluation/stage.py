"""Aligned against base: the same prompts to every model, a judge, win rates with intervals, a report.

    DIR/completions.jsonl   records: every prompt with every model's answers, as the labeling app takes them
        verdicts.jsonl      every verdict, the controls' too: all win rates can be computed again from it
        likelihoods.jsonl   log-probabilities of the answers: all KL figures can be computed again from it
        report.json         the figures
        report.html         one page that holds all it needs

Left out here: training of any kind, and judges that are asked over a network.
"""

import shutil
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from alignment.backend.config import RunConfig, RunSection, Section
from alignment.backend.generation.settings import GenerationSection
from alignment.backend.runs import open_run
from alignment.data.files import atomic_output
from alignment.errors import UserError
from alignment.evaluation.answers import Prompt, is_file


class JudgeSection(Section):
    """Who decides which of two answers is better."""

    kind: Literal["program", "reward"]
    """program: the stated rule of alignment/evaluation/program.py; reward: a reward model."""
    path: str | None = None
    """The reward model: a run directory, a folder or a hub id."""

    @model_validator(mode="after")
    def _path_where_it_belongs(self) -> "JudgeSection":
        if (self.kind == "reward") != (self.path is not None):
            raise ValueError("path names the reward model: give it with kind: reward, and only there")
        return self


class Config(RunConfig):
    """The config of an evaluation."""

    stage: Literal["evaluate"] = "evaluate"
    models: dict[str, str] = Field(min_length=1)
    """Name -> a model (folder, run directory, "tiny", hub id) or a file of records with completions."""
    prompts: list[str] = Field(min_length=1)
    """Files of records; only their prompts are read, and each different prompt once."""
    max_prompts: int | None = Field(None, ge=1)
    """Use only the first so many prompts."""
    samples_per_prompt: int = Field(1, ge=1)
    """Answers of each model to each prompt."""
    comparisons: list[list[str]] = Field(min_length=1)
    """Pairs [a, b] of names: does a beat b?"""
    parents: dict[str, str] = Field(default_factory=dict)
    """Model -> the model it was trained from, for the KL; both are names under `models`."""
    base: str | None = None
    """The frozen model under which the likelihood of all answers is measured; null leaves that out."""
    judge: JudgeSection
    generation: GenerationSection = GenerationSection()
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the models' weights."""
    likelihood_fall: float = Field(1.0, gt=0)
    """Flag a model whose answers are by so many nats a token less likely under the base than its parent's."""
    reward_run: str | None = None
    """The run directory of the reward model, whose held-out accuracy the report quotes."""
    reward_control: str | None = None
    """The run directory of a reward model trained on shuffled labels: its accuracy should be one half."""
    report: str | None = None
    """A folder that gets a copy of report.json and report.html."""
    run: RunSection

    @field_validator("models")
    @classmethod
    def _names_are_plain(cls, models: dict[str, str]) -> dict[str, str]:
        for name in models:
            if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
                raise ValueError(f"a name is letters, digits, - _ and ., not {name!r}")
            if name in ("reward", "evaluate"):  # the report has stages of these names
                raise ValueError(f"{name!r} is taken, choose another name")
        return models

    @model_validator(mode="after")
    def _names_exist(self) -> "Config":
        for pair in self.comparisons:
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ValueError(f"comparisons: a comparison is two different names [a, b], not {pair}")
        seen = [tuple(pair) for pair in self.comparisons]
        if len(set(seen)) != len(seen):
            raise ValueError("comparisons: the same pair is there twice")
        named = [*(n for pair in self.comparisons for n in pair), *self.parents, *self.parents.values()]
        for name in [*named, *([self.base] if self.base else [])]:
            if name not in self.models:
                raise ValueError(f"{name!r} is not under models, which has {', '.join(self.models)}")
        for name in [*self.parents, *self.parents.values(), *([self.base] if self.base else [])]:
            if is_file(self.models[name]):
                raise ValueError(f"{name!r} is a file of completions; only models have likelihoods")
        if self.base in self.parents:
            raise ValueError(f"base: {self.base!r} cannot have a parent")
        for name in self.parents:
            line = [name]
            while line[-1] in self.parents:
                line.append(self.parents[line[-1]])
                if line[-1] in line[:-1]:
                    raise ValueError(f"parents: {' -> '.join(line)} goes in a circle")
        return self


def run(config: Config, judge: Any = None) -> dict[str, Any]:
    """Evaluate and write the report; the stage's result dict, its metrics being the report without config.

    judge: stands in for the one that `config.judge` names (see judges.Judge). Started again on an unfinished
    run it goes on where that was. Raises UserError as reading prompts, models and completions does.
    """
    started = time.monotonic()
    from alignment.evaluation.answers import read_prompts
    from alignment.evaluation.report import Evidence, build_report, read_accuracy, write_evidence
    from alignment.evaluation.verdict import compare, shuffled

    prompts, repeated = read_prompts(config.prompts, config.max_prompts)
    for folder in (config.reward_run, config.reward_control):
        if folder is not None:
            read_accuracy(folder)
    files = [path for path in config.models.values() if is_file(path)]
    models = [path for path in config.models.values() if not is_file(path)]
    scorers = [path for path in (config.judge.path, config.reward_run, config.reward_control) if path]
    run_dir = open_run(config, data=[*config.prompts, *files], parents=[*models, *scorers])

    from alignment.evaluation.collect import collect, open_candidates
    from alignment.evaluation.page import build_page

    answers, tokenizers = open_candidates(config.models, prompts, config.samples_per_prompt)
    judge = judge or _judge(config.judge, prompts)
    run_dir.start()
    collected = collect(
        config.models,
        answers,
        tokenizers,
        prompts,
        samples=config.samples_per_prompt,
        settings=config.generation.model_copy(update={"seed": config.run.seed + config.generation.seed}),
        parents=config.parents,
        base=config.base,
        dtype=config.dtype,
        folder=run_dir.dir / "parts",
    )
    pairs = [(a, b) for a, b in config.comparisons]
    judged = {f"{a}_vs_{b}": compare(judge, prompts, (a, b), collected.answers) for a, b in pairs}
    control = {}
    if len(prompts) > 1:
        on = shuffled(len(prompts), config.run.seed)
        control = {f"{a}_vs_{b}": compare(judge, prompts, (a, b), collected.answers, on) for a, b in pairs}
    evidence = Evidence(config, judge, prompts, repeated, collected, judged, control)
    report = build_report(evidence, seconds=time.monotonic() - started)
    write_evidence(run_dir.dir, evidence, report)
    build_page(evidence, report).write(run_dir.dir / "report.html", overwrite=True)
    if config.report is not None:
        for name in ("report.json", "report.html"):
            with atomic_output(Path(config.report) / name, overwrite=True) as temporary:
                shutil.copy(run_dir.dir / name, temporary)
    metrics = {key: value for key, value in report.items() if key not in ("config", "lineage")}
    result = run_dir.finish(metrics)
    shutil.rmtree(run_dir.dir / "parts", ignore_errors=True)
    return {**result, "report": str(run_dir.dir / "report.html")}


def _judge(section: JudgeSection, prompts: list[Prompt]) -> Any:
    """The judge that the config names. Raises UserError if it cannot judge these prompts."""
    from alignment.evaluation.judges import program_judge, reward_judge

    if section.path is not None:
        return reward_judge(section.path)
    mute = [p.id for p in prompts if not any(m["role"] == "user" for m in p.messages)]
    if mute:
        raise UserError(
            f"prompt {mute[0]} has no user message, in which judge.kind program reads the request"
        )
    return program_judge()
