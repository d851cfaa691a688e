"""The most memory that a piece of work took: of the GPU where it runs on one, else of the whole process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """A context manager; afterwards `bytes` (None: not measured) and `kind` hold what the work took at most.

    device: a torch.device. On a GPU these are the bytes that torch had allocated on it, weights included; on
    a CPU the resident memory of the process, Python and libraries included, whose peak Linux lets a process
    reset for itself. Where it does not, nothing is measured.
    """

    def __init__(self, device: Any) -> None:
        self.device = device
        self.kind: Literal["gpu", "process"] = "gpu" if device.type == "cuda" else "process"
        self.bytes: int | None = None

    def __enter__(self) -> PeakMemory:
        import torch

        self._known = True
        if self.kind == "gpu":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            try:
                _RESET.write_text("5")  # proc(5): resets the peak resident set size
            except OSError:
                self._known = False
        return self

    def __exit__(self, *error: object) -> None:
        import torch

        if self.kind == "gpu":
            self.bytes = torch.cuda.max_memory_allocated(self.device)
        elif self._known:
            found = re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
            self.bytes = 1024 * int(found[1]) if found else None
