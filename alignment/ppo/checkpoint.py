"""What a PPO checkpoint holds beside the policy, the critic and the optimiser: what a resume needs to repeat.

ppo.json                KL coefficient, running scale of the scores, whether the actor rests
reference.safetensors   a reference that follows the policy
rollout_N.pt            within a cycle, what process N works on, and how far it has come
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from alignment.backend.online_trainer import drop_samples_from
from alignment.ppo.losses import RunningScale

STATE, REFERENCE = "ppo.json", "reference.safetensors"


def save_state(trainer: Any, folder: Path) -> None:
    """Write the state of this PPOTrainer into a checkpoint's folder."""
    if trainer.args.should_save:
        if trainer.follower is not None:
            trainer.follower.save(folder / REFERENCE)
        state = {"kl_coef": trainer.kl_coef, "scale": vars(trainer.scale), "resting": trainer.resting}
        (folder / STATE).write_text(json.dumps(state, indent=2))
    if trainer._position:
        position = torch.tensor(trainer._position)
        torch.save({**trainer.rollout, "position": position}, _rollout_file(trainer, folder))


def load_state(trainer: Any, folder: Path) -> None:
    """Take in what `save_state` wrote; samples that were written after it are dropped."""
    state = json.loads((folder / STATE).read_text())
    trainer.kl_coef, trainer.scale = state["kl_coef"], RunningScale(**state["scale"])
    trainer.resting = state["resting"]
    if trainer.follower is not None:
        trainer.follower.load(folder / REFERENCE)
    if _rollout_file(trainer, folder).is_file():
        trainer.rollout = torch.load(_rollout_file(trainer, folder), weights_only=True)
        trainer._step = int(trainer.rollout.pop("position"))
    if trainer.samples_path is not None and trainer.accelerator.is_main_process:
        drop_samples_from(trainer.samples_path, trainer.state.global_step)


def _rollout_file(trainer: Any, folder: Path) -> Path:
    return folder / f"rollout_{trainer.accelerator.process_index}.pt"
