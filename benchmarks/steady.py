"""The clock of a trainer's own loop, the same for every side: from a step after compiling and warming up."""

from __future__ import annotations

import time
from typing import Any

from transformers import Trainer, TrainerCallback


class Clock(TrainerCallback):
    """Watches every `Trainer.train` of this process from here on; rates leave out the first `skip` steps."""

    def __init__(self, skip: int) -> None:
        self.skip, self.steps = skip, 0
        self.begun = self.warm = self.ended = 0.0
        train, clock = Trainer.train, self

        def watched(trainer: Trainer, *given: Any, **options: Any) -> Any:
            trainer.add_callback(clock)
            return train(trainer, *given, **options)

        Trainer.train = watched

    def on_train_begin(self, args: Any, state: Any, control: Any, **also: Any) -> None:
        self.begun = now()

    def on_step_end(self, args: Any, state: Any, control: Any, **also: Any) -> None:
        if state.global_step == self.skip:
            self.warm = now()

    def on_train_end(self, args: Any, state: Any, control: Any, **also: Any) -> None:
        self.steps, self.ended = state.global_step, now()

    def found(self, rows: int) -> dict[str, float]:
        """{"rows_per_second" after the first steps, "seconds" of all, "first_seconds" of these, "steps"}."""
        if self.steps <= self.skip:
            raise SystemExit(f"{self.steps} steps are too few: the first {self.skip} are not measured")
        done = rows * (self.steps - self.skip) / self.steps
        return {
            "rows_per_second": done / (self.ended - self.warm),
            "seconds": self.ended - self.begun,
            "first_seconds": self.warm - self.begun,
            "steps": self.steps,
        }


def now() -> float:
    """The time once the GPU has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
