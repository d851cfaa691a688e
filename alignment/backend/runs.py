"""The run directory: what was run, on which data, from which model, with which code, and what came out.

DIR/config.yaml     the resolved config, defaults included
    run.json        stage, status, seconds, versions, git commit, data and parents with fingerprints, metrics
    metrics.jsonl   one line a log
    checkpoints/    checkpoint-N, each complete only when it holds the file COMPLETE, written last
    model/          the finished model
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from alignment.backend.config import RunConfig, config_differences
from alignment.backend.yaml_lines import read_yaml, write_yaml
from alignment.data.files import atomic_output, fingerprint
from alignment.errors import UserError

COMPLETE = "COMPLETE"
LIBRARIES = ("alignkit", "torch", "transformers", "trl", "peft", "datasets", "accelerate")
# What may change between the first start of a run and its resumption.
FREE_KEYS = {"run.dir", "run.overwrite", "run.resume", "run.tracking", "run.name"}


def is_main_process() -> bool:
    """False on every process of a distributed launch but the first: only one writes the run directory."""
    return int(os.environ.get("RANK", "0")) == 0


class Run:
    """One run directory, open for writing. Made by `open_run`."""

    def __init__(
        self, folder: Path, resolved: dict[str, Any], state: dict[str, Any], overwrite: bool
    ) -> None:
        self.dir = folder
        self.checkpoints = folder / "checkpoints"
        self.model_dir = folder / "model"
        self._resolved, self._state, self._overwrite = resolved, state, overwrite
        self._begun = time.monotonic()
        self._lock: Any = None

    def start(self) -> None:
        """Make the directory, unless an unfinished run is gone on with, and hold it for this process.

        Only here is anything written or deleted, so that a mistake found before leaves no trace.
        Raises UserError if another process is working on the directory.
        """
        if self._lock is not None or not is_main_process():
            return
        if (self.dir / "run.json").is_file():
            self._lock = _lock(self.dir)
        if self._lock is None or self._overwrite:
            remove_empty(self.dir)
            with atomic_output(self.dir, self._overwrite) as temporary:
                temporary.mkdir()
                write_yaml(self._resolved, temporary / "config.yaml")
                _write_state(temporary, self._state)
            self._lock = _lock(self.dir)

    def newest_checkpoint(self) -> Path | None:
        """The complete checkpoint with the highest step, or None."""
        complete = [path for path in self.checkpoints.glob("checkpoint-*") if (path / COMPLETE).is_file()]
        return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)

    def remove_incomplete(self) -> None:
        """Delete checkpoints that a kill left without their COMPLETE file."""
        for path in self.checkpoints.glob("checkpoint-*"):
            if is_main_process() and not (path / COMPLETE).is_file():
                shutil.rmtree(path)

    def log(self, values: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        self.start()
        if is_main_process():
            with (self.dir / "metrics.jsonl").open("a", encoding="utf-8") as out:
                out.write(json.dumps(plain(values)) + "\n")

    def logs(self) -> list[dict[str, Any]]:
        """What metrics.jsonl holds; a last line that a kill cut short is left out."""
        path = self.dir / "metrics.jsonl"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def drop_logs_after(self, step: int) -> None:
        """Forget the lines of steps that a resumed run is about to repeat."""
        if is_main_process():
            kept = [line for line in self.logs() if line.get("step", 0) <= step]
            temporary = self.dir / "metrics.jsonl.tmp"
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            os.replace(temporary, self.dir / "metrics.jsonl")

    def finish(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Mark the run complete; return {"model", "metrics", "seconds", "run"}, every stage's result."""
        self._add_seconds(status="complete", metrics=plain(metrics))
        model = str(self.model_dir) if self.model_dir.is_dir() else None
        seconds = self._state["seconds"]
        return {"model": model, "metrics": plain(metrics), "seconds": seconds, "run": str(self.dir)}

    def pause(self) -> None:
        """Keep the seconds so far, for a run that stops before its end."""
        self._add_seconds()

    def _add_seconds(self, **changes: Any) -> None:
        self.start()
        now = time.monotonic()
        self._state = {**self._state, **changes}
        self._state["seconds"] = round(self._state["seconds"] + now - self._begun, 3)
        self._begun = now
        if is_main_process():
            _write_state(self.dir, self._state)


def open_run(config: RunConfig, *, data: list[str], parents: list[str]) -> Run:
    """The run that `config` asks for: a new one, or an unfinished one of the same config and inputs.

    data: dataset paths; parents: model paths. Both are kept with fingerprints. Nothing is written before
    `Run.start` (which `run_trainer`, `log` and `finish` call). Raises UserError: the directory holds
    something else, a finished run, or a run with another config or changed inputs (naming the key);
    nothing to resume.
    """
    folder = Path(config.run.dir)
    resolved = config.model_dump(mode="json")
    if not is_main_process():
        return Run(folder, resolved, {"seconds": 0.0}, False)
    if config.run.resume and config.run.overwrite:
        raise UserError("resume and overwrite exclude each other; give one")
    old = _existing_state(folder)
    if old is None and config.run.resume:
        raise UserError(f"{folder} holds no run to resume; start without --resume")
    if old is not None and not config.run.overwrite:
        if old["status"] == "complete":
            raise UserError(f"{folder} holds a finished run; choose another run.dir or add --overwrite")
        _refuse_other_config(folder, resolved)
    inputs = fingerprints(data, parents)
    if old is not None and not config.run.overwrite:
        _refuse_changed_inputs(folder, old, inputs)
        return Run(folder, resolved, old, False)
    where = {"cwd": os.getcwd()}  # what relative paths of data and parents are relative to
    state = {"stage": config.stage, "status": "running", **_origin(), **where, **inputs, "metrics": {}}
    return Run(folder, resolved, state, config.run.overwrite)


def result(folder: str | Path) -> dict[str, Any]:
    """The result dict of a finished run: {"model": path or None, "metrics", "seconds", "run"}."""
    state = read_run(folder)
    model = Path(folder) / "model"
    return {
        "model": str(model) if model.is_dir() else None,
        "metrics": state["metrics"],
        "seconds": state["seconds"],
        "run": str(folder),
    }


def finished_result(config: RunConfig) -> dict[str, Any] | None:
    """The result of a finished run of this very config on inputs that have not changed; None if unfinished.

    Raises UserError if `config.run.dir` holds a finished run of another config or of changed inputs.
    """
    folder = Path(config.run.dir)
    if not (folder / "run.json").is_file():
        return None
    state = _read_state(folder)
    if state["status"] != "complete":
        return None
    _refuse_other_config(folder, config.model_dump(mode="json"))
    _refuse_changed_inputs(folder, state, fingerprints(list(state["data"]), list(state["parents"])))
    return result(folder)


def fingerprints(data: list[str], parents: list[str]) -> dict[str, Any]:
    """What a run remembers of its inputs: each dataset's and each model's fingerprint by path."""
    models = {
        path: {"folder": model_folder(path), "fingerprint": model_fingerprint(path)} for path in parents
    }
    return {"data": {path: fingerprint(path) for path in data}, "parents": models}


def read_run(folder: str | Path) -> dict[str, Any]:
    """The content of a run directory's run.json. Raises UserError if it is not one."""
    if not (Path(folder) / "run.json").is_file():
        raise UserError(f"{folder} is not a run directory: it has no run.json")
    return _read_state(Path(folder))


def input_places(folder: str | Path, state: dict[str, Any], path: str) -> list[str]:
    """Where an input that a run names may lie: below the folder where the run was started, below this one,
    and, of a run that does not say where it was started, beside its own folder or above it."""
    if Path(path).is_absolute():
        return [path]
    above = [] if "cwd" in state else [str(parent / path) for parent in Path(folder).resolve().parents[:4]]
    return [*([str(Path(state["cwd"]) / path)] if "cwd" in state else []), path, *above]


def trained_on(folder: str | Path, prints: Collection[str]) -> list[Path]:
    """The run directories below `folder` that read a dataset with one of these fingerprints, and those that
    went on from a model of such a run; each after the runs that it came from."""
    states = {path.parent: _read_state(path.parent) for path in sorted(Path(folder).rglob("run.json"))}
    found = [run for run, state in states.items() if set(state["data"].values()) & set(prints)]
    for run in found:  # which grows meanwhile: a child has children
        model = (run / "model").resolve()
        for child, state in states.items():
            parents = [Path(parent["folder"]) for parent in state["parents"].values() if parent["folder"]]
            if child not in found and model in [parent.resolve() for parent in parents]:
                found.append(child)
    return found


def model_folder(path: str) -> str | None:
    """Where the model `path` lies on this disk, None for a hub id."""
    if path == "tiny":
        import alignment

        return str(Path(alignment.__file__).parent / "assets" / "tiny")
    folder = Path(path)
    if (folder / "run.json").is_file():
        folder = folder / "model"
    return str(folder) if folder.is_dir() else None


def model_fingerprint(path: str) -> str | None:
    """A hash over the names, sizes and contents of a model's files, None for a hub id.

    Of files over 64 MiB only the first and last MiB are read, so that a large model takes no minute.
    """
    folder = model_folder(path)
    if folder is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(item for item in Path(folder).rglob("*") if item.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()} {size}\n".encode())
        with file.open("rb") as content:
            if size <= 64 << 20:
                digest.update(content.read())
            else:
                digest.update(content.read(1 << 20))
                content.seek(-(1 << 20), os.SEEK_END)
                digest.update(content.read())
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's own, through dicts and lists, so that JSON can hold them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _existing_state(folder: Path) -> dict[str, Any] | None:
    """run.json of an existing run directory; None if there is nothing at `folder`."""
    if (folder / "run.json").is_file():
        return _read_state(folder)
    if folder.exists() and not _is_empty(folder):
        raise UserError(f"{folder} exists and is no run directory; choose another run.dir")
    return None


def _is_empty(folder: Path) -> bool:
    """A folder without content, or with the empty `checkpoints` that transformers makes with a trainer."""
    return folder.is_dir() and all(
        item.name == "checkpoints" and item.is_dir() and not any(item.iterdir()) for item in folder.iterdir()
    )


def remove_empty(folder: Path) -> None:
    """Delete a run directory that nothing has been written to."""
    if _is_empty(folder):
        shutil.rmtree(folder)


ADVICE = "choose another run.dir, or add --overwrite to start anew"


def _refuse_other_config(folder: Path, resolved: dict[str, Any]) -> None:
    path = folder / "config.yaml"
    old, _ = read_yaml(path.read_text(encoding="utf-8"), str(path))
    changed = [key for key in config_differences(old, resolved) if key not in FREE_KEYS]
    if changed:
        was, now = (_get(values, changed[0]) for values in (old, resolved))
        raise UserError(
            f"{folder} holds a run with another config: {changed[0]} was {was!r}, is {now!r}; {ADVICE}"
        )


def _refuse_changed_inputs(folder: Path, old: dict[str, Any], inputs: dict[str, Any]) -> None:
    for kind, values in inputs.items():
        for name, value in values.items():
            if old[kind].get(name) != value:
                raise UserError(f"{folder} holds a run whose {kind} {name} changed since; {ADVICE}")


def _get(values: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _lock(folder: Path) -> Any:
    """Hold the run directory for this process until it ends. The system drops the lock on any death."""
    handle = (folder / ".lock").open("w")
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(
            f"another process is working on {folder}; wait for it, or choose another run.dir"
        ) from None
    return handle


def _origin() -> dict[str, Any]:
    """When, with which versions, and from which commit if the code runs from a git checkout."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    checkout = Path(__file__).resolve().parents[2]
    git = None
    if (checkout / ".git").exists() and shutil.which("git"):
        commit = _git(checkout, "rev-parse", "HEAD")
        git = {"commit": commit, "changed": bool(_git(checkout, "status", "--porcelain"))} if commit else None
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"started": started, "seconds": 0.0, "versions": versions, "git": git}


def _git(checkout: Path, *words: str) -> str:
    command = ["git", "-C", str(checkout), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603


def _read_state(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    temporary = folder / "run.json.tmp"
    temporary.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, folder / "run.json")
