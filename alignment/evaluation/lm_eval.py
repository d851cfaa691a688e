"""Results of lm-evaluation-harness, as one more kind of probe: its files are read, nothing is run.

`lm_eval --output_path DIR` writes DIR/MODEL/results_DATE.json, and with --log_samples beside it a
samples_TASK_DATE.jsonl of every task. Two models with samples are compared item by item; without them only
the standard errors of the results are there, and the comparison is of two separate samples, which sees less.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from alignment.data.files import atomic_output
from alignment.errors import UserError
from alignment.evaluation.probe_rows import SETTINGS, Measured, Row

# A task has several metrics; the first of these that it has is the one that is compared.
METRICS = ("acc_norm", "acc", "exact_match", "em", "pass@1", "f1", "rouge1", "bleu")


def read_lm_eval(outputs: Mapping[str, str]) -> dict[str, Measured]:
    """{"lm_eval.TASK": its rows by model} of every task that one of the models has.

    outputs: model -> results file or a folder with it (the newest counts). A row is {item, score} where there
    are samples of the task, else the only one is {value, stderr, n}. Tasks that sum up others are left out.
    Raises UserError for what is no such output.
    """
    found: dict[str, Measured] = {}
    for model, path in outputs.items():
        file = _results_file(path, model)
        results = _read_json(file)
        groups = results.get("group_subtasks") or {}
        tasks = results.get("results")
        if not isinstance(tasks, dict) or not tasks:
            raise UserError(f"lm_eval.{model}: {file} holds no results of lm-evaluation-harness")
        for task, figures in tasks.items():
            key = None if groups.get(task) else _metric(figures)
            if key is None:
                continue
            higher = results.get("higher_is_better", {}).get(task, {}).get(key.partition(",")[0], True)
            settings = {
                "kind": "lm_eval",
                "task": task,
                "metric": key,
                "better": "lower" if higher is False else "higher",
                "files": [],
            }
            probe = found.setdefault(f"lm_eval.{_plain(task)}", Measured(settings))
            if probe.settings["metric"] != key:
                raise UserError(
                    f"lm_eval.{model}: {task} has {key}, and another model has {probe.settings['metric']}: "
                    "run both with the same version of the harness"
                )
            samples = _samples_file(file, task)
            probe.settings["files"] += [str(samples or file)]
            rows = _sample_rows(samples, key) if samples else None
            probe.rows[model] = rows or [_summary(figures, key, results, task)]
    return found


def write_lm_eval(measured: Mapping[str, Measured], folder: Path) -> None:
    """Keep the imported rows with those of the run's own probes."""
    for name, probe in measured.items():
        for file, text in [
            (SETTINGS, json.dumps(probe.settings, indent=2) + "\n"),
            *(
                (f"{model}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
                for model, rows in probe.rows.items()
            ),
        ]:
            with atomic_output(folder / "probes" / name / file, overwrite=True) as temporary:
                temporary.write_text(text, encoding="utf-8")


def _results_file(path: str, model: str) -> Path:
    place = Path(path)
    if place.is_file():
        return place
    files = [file for file in place.rglob("*.json") if file.name.startswith("results_")]
    if not files:
        raise UserError(f"lm_eval.{model}: {path} is no file, and no folder with a results_*.json")
    return max(files, key=lambda file: _date(file))


def _date(file: Path) -> str:
    """The end of NAME_2024-05-01T12-00-00.123456.json, by which results and samples belong together."""
    return file.stem.rpartition("_")[2]


def _samples_file(results: Path, task: str) -> Path | None:
    file = results.with_name(f"samples_{task}_{_date(results)}.jsonl")
    return file if file.is_file() else None


def _metric(figures: Mapping[str, Any]) -> str | None:
    """The key ("acc,none") of the metric that counts, with a value that is a number."""
    keys = [
        key
        for key, value in figures.items()
        if "," in key and "_stderr," not in key and isinstance(value, int | float)
    ]
    names = {key.partition(",")[0]: key for key in reversed(keys)}
    return next((names[name] for name in METRICS if name in names), keys[0] if keys else None)


def _sample_rows(file: Path, key: str) -> list[Row] | None:
    """{item, score} of every document; None where the metric is no number an item (perplexities are none)."""
    name, _, wanted = key.partition(",")
    rows: dict[str, Row] = {}
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                sample = msgspec.json.decode(line)
            except msgspec.DecodeError as error:
                raise UserError(f"{file}, line {number}: {error}") from None
            if sample.get("filter", wanted) != wanted:
                continue
            score = sample.get(name)
            if not isinstance(score, int | float):
                return None
            item = sample.get("doc_hash") or str(sample["doc_id"])
            rows.setdefault(item, {"item": item, "score": float(score)})
    return list(rows.values()) or None


def _summary(figures: Mapping[str, Any], key: str, results: Mapping[str, Any], task: str) -> Row:
    name, _, filter_ = key.partition(",")
    stderr = figures.get(f"{name}_stderr,{filter_}")
    count = (results.get("n-samples") or {}).get(task, {}).get("effective")
    return {
        "value": float(figures[key]),
        "stderr": float(stderr) if isinstance(stderr, int | float) else None,
        "n": count,
    }


def _plain(task: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in task)


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error})") from None
