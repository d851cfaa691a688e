"""Runs any Trainer in a run directory: checkpoints that survive a kill, resume, signals, final save.

transformers writes a checkpoint in place, weights first, and deletes the older one before anything says
that the newer is whole. Here a checkpoint counts once it holds the file COMPLETE, written last and synced,
and older ones go only after that.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState
from transformers.integrations import TensorBoardCallback
from transformers.trainer_utils import rotate_checkpoints

from alignment.backend.packed import compile_layers
from alignment.backend.preflight import check_disk
from alignment.backend.progress import Steps, only_own_progress, say
from alignment.backend.runs import COMPLETE, Run, is_main_process, remove_empty
from alignment.errors import UserError

# Of an evaluation's metrics, those that only time it.
TIMINGS = ("_runtime", "_per_second")


def run_trainer(trainer: Any, run: Run, *, stop_every: int = 1) -> dict[str, Any]:
    """Train from the newest complete checkpoint, or from the start; save the model to `run.model_dir`.

    Returns {"steps", "epochs", "loss" (the last logged), "eval_*"}; the caller adds its own and passes all to
    `run.finish`. SIGINT and SIGTERM end the current step (the next one that `stop_every` divides), write a
    checkpoint and exit with 130 or 143. Raises UserError when the disk has no room for the checkpoints.
    """
    only_own_progress()
    trainer.create_model_card = lambda *_, **__: None  # TRL would write one of nothing into the checkpoints
    if hasattr(trainer.model, "peft_config"):
        # PEFT would look up the base by its name, also on the hub, for whether we added to its vocabulary.
        trainer.model.save_pretrained = partial(trainer.model.save_pretrained, save_embedding_layers=False)
    if trainer.args.torch_compile:
        compile_layers(trainer.model)
    _check_room(trainer, run)
    run.start()
    run.remove_incomplete()
    trainer.accelerator.wait_for_everyone()
    checkpoint = run.newest_checkpoint()
    watch = _Watch(trainer, run, stop_every)
    trainer.args.save_total_limit = None  # `watch` deletes older checkpoints, once the newer is complete
    trainer.pop_callback(PrinterCallback)
    trainer.pop_callback(ProgressCallback)
    trainer.add_callback(watch)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            callback.logging_dir = str(run.dir / "tensorboard")  # not among the checkpoints
    if checkpoint is not None:
        say(f"going on from {checkpoint}")
    run.drop_logs_after(0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]))
    if checkpoint is not None and json.loads((checkpoint / COMPLETE).read_text())["last"]:
        _restore(trainer, checkpoint)
    else:
        watch.listen()
        try:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        finally:
            watch.close()
    if watch.stopped_by is not None:
        run.pause()
        if is_main_process():
            name, step, total = watch.stopped_by.name, trainer.state.global_step, trainer.state.max_steps
            print(
                f"stopped by {name} at step {step} of {total}, checkpoint saved in {run.dir}; "
                "the same command again resumes from there",
                file=sys.stderr,
            )
        raise SystemExit(128 + watch.stopped_by)
    metrics = _metrics(trainer)
    _save_model(trainer, run)
    return metrics


class _Watch(TrainerCallback):
    """The one callback: progress, metrics.jsonl, completion markers, and the stop that a signal asks for."""

    def __init__(self, trainer: Any, run: Run, stop_every: int) -> None:
        self.trainer, self.run, self.stop_every = trainer, run, stop_every
        self.limit = trainer.args.save_total_limit
        self.stopped_by: signal.Signals | None = None
        self.stopping = False
        self.steps: Steps | None = None
        self.note = ""
        self.handlers: dict[int, Any] = {}

    def listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.handlers[number] = signal.signal(number, self._on_signal)

    def close(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if self.steps is not None:
            self.steps.__exit__()

    def _on_signal(self, number: int, frame: Any) -> None:
        self.stopped_by = signal.Signals(number)
        for other, handler in self.handlers.items():
            signal.signal(other, handler)  # a second signal does not wait for the checkpoint
        print(f"\n{self.stopped_by.name}: finishing the step and writing a checkpoint", file=sys.stderr)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if is_main_process():
            self.steps = Steps(self.run.dir.name, state.max_steps, state.global_step).__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.steps is not None:
            self.steps.update(state.global_step, self.note)
        if (
            self._asked_to_stop()
            and state.global_step % self.stop_every == 0
            and not control.should_training_stop
        ):
            self.stopping = True
            control.should_save = control.should_training_stop = True

    def _asked_to_stop(self) -> bool:
        """Whether any process got a signal: all must stop at the same step."""
        accelerator = self.trainer.accelerator
        if accelerator.num_processes == 1:
            return self.stopped_by is not None
        import torch

        own = torch.tensor([int(self.stopped_by or 0)], device=accelerator.device)
        number = int(accelerator.gather(own).max())
        if number:
            self.stopped_by = signal.Signals(number)
        return bool(number)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        values = {key: value for key, value in logs.items() if key != "total_flos"}
        self.run.log({"step": state.global_step, **values})
        if "loss" in values:
            self.note = f"loss {float(values['loss']):.4f}"

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The checkpoint of this step is written, by every process: sync it, mark it, drop older ones."""
        self.trainer.accelerator.wait_for_everyone()
        if not is_main_process():
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        for path in folder.rglob("*"):
            _sync(path)
        last = control.should_training_stop and not self.stopping
        (folder / COMPLETE).write_text(json.dumps({"step": state.global_step, "last": last}) + "\n")
        for path in (folder / COMPLETE, folder, folder.parent):
            _sync(path)
        rotate_checkpoints(
            str(folder.parent), self.limit, best_model_checkpoint=state.best_model_checkpoint, use_mtime=False
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _restore(trainer: Any, checkpoint: Path) -> None:
    """Training was over when this checkpoint was written (the kill came after it): take up its end."""
    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint:
        trainer._load_best_model()
    else:
        trainer._load_from_checkpoint(str(checkpoint))


def _metrics(trainer: Any) -> dict[str, Any]:
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    metrics: dict[str, Any] = {
        "steps": trainer.state.global_step,
        "epochs": round(trainer.state.epoch or 0.0, 4),
    }
    if losses:
        metrics["loss"] = losses[-1]
    if trainer.eval_dataset is not None:
        evaluated = [entry for entry in history if any(key.startswith("eval_") for key in entry)]
        fresh = evaluated and evaluated[-1]["step"] == trainer.state.global_step
        values = evaluated[-1] if fresh and not trainer.args.load_best_model_at_end else trainer.evaluate()
        metrics |= {
            key: value
            for key, value in values.items()
            if key.startswith("eval_") and not key.endswith(TIMINGS)
        }
    return metrics


def _save_model(trainer: Any, run: Run) -> None:
    """Save weights, tokenizer and template beside, and move them to `run.model_dir` when whole."""
    unfinished = run.dir / ".model-unfinished"
    if is_main_process():
        shutil.rmtree(unfinished, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    trainer.save_model(str(unfinished), _internal_call=True)
    trainer.accelerator.wait_for_everyone()
    if is_main_process():
        for name in ("training_args.bin", "README.md"):  # a pickle nothing reads, and a card nobody wrote
            (unfinished / name).unlink(missing_ok=True)
        shutil.rmtree(
            unfinished / "ref", ignore_errors=True
        )  # TRL's frozen copy of the adapter it began with
        for path in unfinished.rglob("*"):
            _sync(path)
        shutil.rmtree(run.model_dir, ignore_errors=True)
        os.replace(unfinished, run.model_dir)
    trainer.accelerator.wait_for_everyone()


def _check_room(trainer: Any, run: Run) -> None:
    """Room for the checkpoints kept, one more being written, and the model. Adam: two values a weight."""
    parameters = list(trainer.model.parameters())
    saved = (
        [p for p in parameters if p.requires_grad] if hasattr(trainer.model, "peft_config") else parameters
    )
    weights = sum(p.numel() * p.element_size() for p in saved)
    optimizer = sum(2 * p.numel() * p.element_size() for p in parameters if p.requires_grad)
    kept = (trainer.args.save_total_limit or 2) + 1
    try:
        check_disk(
            run.dir, kept * (weights + optimizer) + weights, f"a run with {kept} checkpoints and the model"
        )
    except UserError:
        remove_empty(run.dir)  # transformers has made a folder already
        raise
