"""What the scripts share that run each side of a comparison in a process of its own.

A side prints lines that begin with RESULT and hold JSON, each with all that is known so far: one that is
stopped, or dies, keeps its last. What it says otherwise is in NAME.log in the work folder.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARK = "RESULT "


def tell(found: Mapping[str, Any]) -> None:
    """What a side has found so far, for the process that started it."""
    print(MARK + json.dumps(found), flush=True)


def start(script: str, name: str, work: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """A side in a process of its own, which gets `arguments` and writes to its log."""
    work.mkdir(parents=True, exist_ok=True)
    with log_of(work, name).open("wb") as log:
        return subprocess.Popen([sys.executable, script, *arguments], stdout=log, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes], name: str, work: Path, seconds: float) -> dict[str, Any]:
    """What a side has told, once it ends or its time is up; of one that failed "error" is the log's end."""
    try:
        code = process.wait(timeout=max(seconds, 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = 124
    text = log_of(work, name).read_text(errors="replace")
    lines = [line for line in text.splitlines() if line.startswith(MARK)]
    found = json.loads(lines[-1].removeprefix(MARK)) if lines else {}
    if code:
        found["error"] = f"stopped after {seconds:.0f} s" if code == 124 else text[-1500:]
    return found


def run(script: str, name: str, work: Path, arguments: Sequence[str], seconds: float) -> dict[str, Any]:
    """`start` and `finish`."""
    began = time.monotonic()
    found = finish(start(script, name, work, arguments), name, work, seconds)
    return {**found, "whole_seconds": round(time.monotonic() - began, 1)}


def log_of(work: Path, name: str) -> Path:
    return work / (re.sub(r"[^A-Za-z0-9.=]+", "-", name).strip("-") + ".log")


def save(path: Path, result: Mapping[str, Any]) -> None:
    """Write the result so far, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(temporary, path)


def origin(commit: str | None, libraries: Sequence[str]) -> dict[str, Any]:
    """Device, commit and versions, as the page of figures tells them."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if gpu else platform.processor() or "CPU",
        "commit": commit or _head(),
        "versions": {name: importlib.metadata.version(name) for name in libraries},
    }


def _head() -> str | None:
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def peak_memory() -> dict[str, float | None]:
    """GiB that this process's tensors took at most, and that it held."""
    import torch

    if not torch.cuda.is_available():
        return {"peak_gib": None, "reserved_gib": None}
    return {
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 2),
    }


def instructions(data: Path, count: int, characters: int) -> list[str]:
    """The first `count` different instructions of AlpacaEval's judged pairs, cut to so many characters."""
    found: dict[str, None] = {}
    with gzip.open(data / "judge" / "alpaca_eval_gpt4_pairs.jsonl.gz", "rt") as lines:
        for line in lines:
            found.setdefault(json.loads(line)["instruction"][:characters])
            if len(found) == count:
                break
    prompts = list(found)
    return (prompts * (count // len(prompts) + 1))[:count]


def rendered(tokenizer: Any, prompt: str) -> list[int]:
    """A prompt's token ids under the model's chat template."""
    turns = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]


def overrides(values: Mapping[str, Any]) -> list[str]:
    """Settings as `load_config` takes them."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def model_folder(path: str) -> str:
    """A folder, also of the embedded model."""
    from alignment.backend.models import resolve_model_path

    return str(resolve_model_path(path))
