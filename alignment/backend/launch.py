"""From one process to many: hand the same command over to `accelerate launch`, one GPU a process.

Nothing here is distributed code: data parallelism, FSDP2 and DeepSpeed are accelerate's, chosen by its
config file. TRL ships some, usable by name: fsdp1, fsdp2, zero1, zero2, zero3, multi_gpu.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from alignment.errors import UserError

LAUNCHED = "ALIGNKIT_LAUNCHED"


def hand_over(arguments: list[str], processes: int, accelerate_config: str | None) -> None:
    """Replace this process by a launch of `alignkit ARGUMENTS` on so many processes.

    Returns only if there is nothing to hand over: one process and no accelerate config, or this is a launched
    process already. Without a GPU torchrun starts the processes, for accelerate would want MPI. Raises
    UserError for an accelerate config that does not exist.
    """
    if (processes == 1 and accelerate_config is None) or LAUNCHED in os.environ or "RANK" in os.environ:
        return
    if accelerate_config is not None:
        file = str(accelerate_file(accelerate_config))
        launcher = ["accelerate.commands.launch", "--config_file", file, "--num_processes", str(processes)]
    elif _has_gpu():
        launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]
    else:
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    os.environ[LAUNCHED] = "1"  # the launched processes run this same command line
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", *launcher, "-m", "alignment.cli", *arguments])  # noqa: S606


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


def sharded(args: Any) -> bool:
    """Whether FSDP or DeepSpeed shards the weights of a run with these TrainingArguments."""
    names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")  # set by accelerate's launcher
    return bool(args.fsdp or args.deepspeed or any(os.environ.get(name) == "true" for name in names))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
