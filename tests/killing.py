"""Kill a stage at chosen moments, resume it, and compare the model with that of an unbroken run, bit for bit.

Tests call `outcomes`. All runs happen in forks of one process that has imported the libraries once, so a
moment costs about as much as the toy training itself.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from alignment.backend.config import load_config

HEAVY = ("torch", "transformers.trainer", "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer")


class Job(NamedTuple):
    """One stage to break at several moments.

    stage: module with `Config` and `run`, such as "alignment.sft". config: YAML; its run.dir is replaced.
    moments: "module:Class.function@N" strikes at the start of the Nth call of that function, with SIGKILL, or
    with the signal in "…@N!SIGTERM".
    """

    stage: str
    config: str
    moments: list[str]


class Outcome(NamedTuple):
    """What one moment led to. `exit` is the first start's exit code (-9: killed), `resumed` the second's."""

    exit: int
    resumed: int
    equal: bool
    """All files of the model are bit-equal to the unbroken run's."""
    checkpoint: str | None
    """Name of the newest complete checkpoint after the first start."""
    log: str
    """What both starts printed."""
    run: str
    """The run directory."""


def outcomes(jobs: list[Job], folder: Path, heavy: tuple[str, ...] = HEAVY) -> list[dict[str, Outcome]]:
    """For each job, run its stage unbroken, and for each moment broken there and started again.

    One subprocess does it all; `heavy` are modules that it imports once, before forking.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps({"jobs": jobs, "heavy": heavy}))
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **quiet}, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / "outcomes.json").read_text())
    return [{moment: Outcome(*values) for moment, values in job.items()} for job in found]


def main(folder: Path) -> None:
    task = json.loads((folder / "jobs.json").read_text())
    jobs = [Job(*values) for values in task["jobs"]]
    for name in [*task["heavy"], *(job.stage for job in jobs)]:
        importlib.import_module(name)
    found = [_break(job, folder / str(number)) for number, job in enumerate(jobs)]
    (folder / "outcomes.json").write_text(json.dumps(found))


def _break(job: Job, folder: Path) -> dict[str, Outcome]:
    folder.mkdir()
    (folder / "config.yaml").write_text(job.config)
    code, log = _start(job, folder / "unbroken", None)
    assert code == 0, log
    wanted = _model_hash(folder / "unbroken")
    found = {}
    for number, moment in enumerate(job.moments):
        run = folder / f"broken-{number}"
        first, log = _start(job, run, moment)
        complete = run.glob("checkpoints/checkpoint-*/COMPLETE")
        steps = sorted(int(path.parent.name.removeprefix("checkpoint-")) for path in complete)
        second, more = _start(job, run, None)
        equal = second == 0 and _model_hash(run) == wanted
        newest = f"checkpoint-{steps[-1]}" if steps else None
        found[moment] = Outcome(first, second, equal, newest, log + more, str(run))
    return found


def _start(job: Job, run: Path, moment: str | None) -> tuple[int, str]:
    """Run the stage in a fork; its exit code, negative for a signal, and its output."""
    log = run.with_suffix(".log")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            if moment is not None:
                _strike(moment)
            stage = importlib.import_module(job.stage)
            stage.run(load_config(stage.Config, run.parent / "config.yaml", [f"run.dir={run}"]))
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text()


def _strike(moment: str) -> None:
    """Replace the function that the moment names by one that raises the signal at its Nth call."""
    place, _, signal_name = moment.partition("!")
    target, _, count = place.partition("@")
    module, _, path = target.partition(":")
    *outer, name = path.split(".")
    owner = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    original = getattr(owner, name)
    calls = 0

    def struck(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == int(count):
            os.kill(os.getpid(), getattr(signal, signal_name or "SIGKILL"))
        return original(*args, **kwargs)

    setattr(owner, name, struck)


def _model_hash(run: Path) -> str:
    digest = hashlib.sha256()
    files = sorted(path for path in (run / "model").rglob("*") if path.is_file())
    assert any(path.suffix == ".safetensors" for path in files), f"no weights in {run}/model"
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
