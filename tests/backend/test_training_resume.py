"""A run that is killed anywhere and started again ends in the same bits as one that was never broken."""

from __future__ import annotations

import inspect
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from killing import HEAVY, Job, Outcome, outcomes

from alignment.data.files import write_records

TRAINER = "transformers.trainer:Trainer"
WATCH = "alignment.backend.training:_Watch"
SFT_MOMENTS = [
    f"{TRAINER}.training_step@9",  # between two checkpoints, in the middle of an accumulated step
    f"{TRAINER}._save_rng_state@1",  # inside the first save: weights are there, the rest is not
    f"{TRAINER}._save_rng_state@2",  # inside the second save: the first checkpoint must still be there
    f"{WATCH}.on_save@2",  # the second checkpoint is written but not marked: the same
    "alignment.backend.training:rotate_checkpoints@3",  # after the marker, before older ones are deleted
    "alignment.backend.training:os.replace@1",  # the model is written but not in place
    f"{TRAINER}.training_step@6!SIGTERM",
    f"{TRAINER}.training_step@6!SIGINT",
]
DPO_MOMENTS = [
    f"{TRAINER}.training_step@5",
    f"{TRAINER}._save_rng_state@2",
    "alignment.backend.training:_save_model@1",  # training over, in the middle of an epoch, model not saved
]


def sft_config(model: str, data: Path) -> str:
    """LoRA with dropout (the random state matters), accumulation, an epoch's end, one checkpoint kept."""
    return f"""
stage: sft
model: {{path: {model}, lora: {{r: 4, dropout: 0.2}}}}
data: {{train: [{data}], validation_fraction: 0.2}}
early_stopping: {{patience: 5}}
trainer:
  max_steps: 8
  per_device_train_batch_size: 4
  gradient_accumulation_steps: 2
  learning_rate: 1e-3
  save_steps: 2
  eval_strategy: steps
  eval_steps: 2
  logging_steps: 1
  save_total_limit: 1
run: {{dir: replaced, seed: 3}}
"""


def dpo_config(model: str, data: Path) -> str:
    return f"""
stage: dpo
model: {{path: {model}}}
data: {{train: [{data}]}}
trainer:
  max_steps: 6
  per_device_train_batch_size: 4
  learning_rate: 1e-3
  save_steps: 2
  logging_steps: 1
  save_total_limit: 1
  precompute_ref_log_probs: true
run: {{dir: replaced, seed: 3}}
"""


def kto_config(model: str, data: Path) -> str:
    return f"""
stage: kto
model: {{path: {model}}}
labels: pairs
data: {{train: [{data}]}}
trainer:
  max_steps: 6
  per_device_train_batch_size: 4
  learning_rate: 1e-3
  save_steps: 2
  logging_steps: 1
  save_total_limit: 1
run: {{dir: replaced, seed: 3}}
"""


@pytest.fixture(scope="module")
def found(
    toy_model: str, toy_records: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("resume")
    data = folder / "data.jsonl"
    write_records(data, toy_records(30))
    jobs = [
        Job("alignment.sft", sft_config(toy_model, data), SFT_MOMENTS),
        Job("alignment.dpo", dpo_config(toy_model, data), DPO_MOMENTS),
        Job("alignment.kto", kto_config(toy_model, data), DPO_MOMENTS[:1]),
    ]
    sft, dpo, kto = outcomes(jobs, folder / "runs", (*HEAVY, "trl.trainer.kto_trainer"))
    return {
        **{f"sft {moment}": o for moment, o in sft.items()},
        **{f"dpo {moment}": o for moment, o in dpo.items()},
        **{f"kto {moment}": o for moment, o in kto.items()},
    }


KILLS = [f"sft {m}" for m in SFT_MOMENTS if "!" not in m] + [f"dpo {m}" for m in DPO_MOMENTS]
KILLS.append(f"kto {DPO_MOMENTS[0]}")


def test_the_methods_of_transformers_that_are_called_are_as_they_were() -> None:
    from transformers import Trainer
    from transformers.trainer_utils import rotate_checkpoints

    assert list(inspect.signature(Trainer._load_from_checkpoint).parameters)[1] == "resume_from_checkpoint"
    assert list(inspect.signature(Trainer._load_best_model).parameters) == ["self"]
    assert "_internal_call" in inspect.signature(Trainer.save_model).parameters
    assert {"save_total_limit", "best_model_checkpoint", "use_mtime"} <= set(
        inspect.signature(rotate_checkpoints).parameters
    )
    source = inspect.getsource(Trainer._save_checkpoint)
    places = [source.index(f"{name}(") for name in ("save_model", "_save_rng_state", "rotate_checkpoints")]
    assert places == sorted(places)


@pytest.mark.parametrize("moment", KILLS)
def test_killed_and_resumed_is_bit_equal(found: dict[str, Outcome], moment: str) -> None:
    outcome = found[moment]
    assert outcome.exit == -signal.SIGKILL, outcome.log
    assert outcome.resumed == 0, outcome.log
    assert outcome.equal, outcome.log


def test_a_kill_inside_a_save_leaves_the_previous_checkpoint(found: dict[str, Outcome]) -> None:
    assert found[f"sft {TRAINER}._save_rng_state@1"].checkpoint is None
    assert found[f"sft {TRAINER}._save_rng_state@2"].checkpoint == "checkpoint-2"
    assert found[f"sft {WATCH}.on_save@2"].checkpoint == "checkpoint-2"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_checkpoints_first_and_says_how_to_resume(found: dict[str, Outcome], name: str) -> None:
    outcome = found[f"sft {TRAINER}.training_step@6!{name}"]
    assert outcome.exit == 128 + getattr(signal, name), outcome.log
    assert outcome.checkpoint == "checkpoint-3"
    assert "same command again resumes" in outcome.log
    assert "checkpoints/checkpoint-3\n" in outcome.log
    assert outcome.resumed == 0, outcome.log
    assert outcome.equal, outcome.log


def test_metrics_hold_every_step_once(found: dict[str, Outcome]) -> None:
    for moment, outcome in found.items():
        run = Path(outcome.run)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        steps = 8 if moment.startswith("sft") else 6
        assert [line["step"] for line in lines if "loss" in line] == list(range(1, steps + 1)), moment
        assert json.loads((run / "run.json").read_text())["status"] == "complete"


def test_no_more_checkpoints_are_kept_than_asked_for(found: dict[str, Outcome]) -> None:
    for moment, outcome in found.items():
        kept = list(Path(outcome.run, "checkpoints").glob("checkpoint-*"))
        # One, and the best one besides, where the best is looked for.
        assert len(kept) <= (2 if moment.startswith("sft") else 1), (moment, kept)
        assert all((path / "COMPLETE").is_file() for path in kept)
