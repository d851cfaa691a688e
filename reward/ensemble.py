"""Training an ensemble's members apart, and putting what was trained into one folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alignment.backend.config import trainer_args
from alignment.backend.ensembles import Ensemble, write_ensemble
from alignment.backend.progress import say
from alignment.backend.runs import finished_result, is_main_process, open_run
from alignment.data.files import atomic_output

if TYPE_CHECKING:
    from alignment.backend.scoring import RewardScorer
    from reward.stage import Config


def save_heads(scorer: RewardScorer, texts: Sequence[Sequence[int]], folder: Path) -> None:
    """Say at `folder` that its model is an ensemble of heads; their levels go to it and to the scorer."""
    levels = np.mean(scorer.members_of_ids(texts), axis=0).tolist()
    if is_main_process():
        write_ensemble(folder, Ensemble("heads", len(levels), levels))
    scorer.levels = levels


def run_apart(config: Config) -> dict[str, Any]:
    """Train each member in DIR/members/K by a run of its own, and link them as an ensemble in DIR/model.

    A run that is broken off goes on with the member it was at. Metrics as of one model, of all together, with
    "steps" and "loss" of the last member.
    """
    from alignment.backend.scoring import load_scorer
    from reward import stage

    assert config.ensemble is not None
    rows = stage.judged_rows(config)
    run_dir = open_run(config, data=config.data.paths(), parents=[config.model.path])
    run_dir.start()
    max_length = trainer_args(config, run_dir.checkpoints).max_length
    results = []
    for number in range(config.ensemble.members):
        member = _member(config, number)
        say(f"member {number + 1} of {config.ensemble.members}: {member.run.dir}")
        results.append(finished_result(member) or stage.run(member))
    folders = [Path(result["model"]) for result in results]
    if is_main_process():
        with atomic_output(run_dir.model_dir, overwrite=True) as temporary:
            for number, folder in enumerate(folders):
                shutil.copytree(folder, temporary / str(number), copy_function=os.link)
            write_ensemble(temporary, Ensemble("runs", len(folders), []))
            levels = _levels(config, rows.train, temporary, max_length)
            write_ensemble(temporary, Ensemble("runs", len(folders), levels))
    scorer: Any = load_scorer(str(run_dir.model_dir), max_length=max_length)
    kept = {key: value for key, value in results[-1]["metrics"].items() if key in stage.COUNTED}
    return run_dir.finish(kept | stage.measured(run_dir, scorer, rows.validation))


def _member(config: Config, number: int) -> Config:
    """The config of one member: its seed and directory are its own."""
    run = {"dir": str(Path(config.run.dir) / "members" / str(number)), "seed": config.run.seed + number}
    own = config.run.model_copy(update={**run, "overwrite": False, "resume": False})
    return config.model_copy(update={"ensemble": None, "run": own})


def _levels(config: Config, rows: list[dict[str, Any]], folder: Path, max_length: int | None) -> list[float]:
    """Each member's mean score on the first training texts."""
    from alignment.backend.scoring import load_scorer
    from reward import stage

    scorer: Any = load_scorer(str(folder), max_length=max_length)
    train, _ = stage.training_rows(config, rows, scorer.tokenizer, max_length)
    texts = [text for row in train for text in row["texts"]][: stage.KEPT]
    return np.mean(scorer.members_of_ids(texts), axis=0).tolist()
