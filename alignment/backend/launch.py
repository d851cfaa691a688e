"""From one process to many: hand the same command over to `accelerate launch`, one GPU a process.

Nothing here is distributed code: data parallelism, FSDP2 and DeepSpeed are accelerate's, chosen by its
config file. TRL ships some, usable by name: fsdp1, fsdp2, zero1, zero2, zero3, multi_gpu.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from alignment.errors import UserError


def hand_over(arguments: list[str], processes: int, accelerate_config: str | None) -> None:
    """Replace this process by `accelerate launch` of `alignkit ARGUMENTS`.

    Returns only if there is nothing to hand over: one process and no accelerate config, or already inside a
    launch. Raises UserError for an accelerate config that does not exist.
    """
    if (processes == 1 and accelerate_config is None) or "RANK" in os.environ:
        return
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
    if accelerate_config is not None:
        command += ["--config_file", str(accelerate_file(accelerate_config))]
    elif processes > 1:
        command += ["--multi_gpu"] if _has_gpu() else ["--cpu"]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [*command, "-m", "alignment.cli", *arguments])  # noqa: S606


def accelerate_file(name: str) -> Path:
    """An accelerate config: a path, or the name of one that TRL ships."""
    if Path(name).is_file():
        return Path(name)
    spec = importlib.util.find_spec("trl")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        path = Path(folder) / "accelerate_configs" / f"{name}.yaml"
        if path.is_file():
            return path
    raise UserError(
        f"no accelerate config {name!r}: give a file, or one of fsdp1, fsdp2, zero1, zero2, zero3"
    )


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
