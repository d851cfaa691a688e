"""design/training.md 17, for the reward stage: killed anywhere and resumed, the same bits."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import Job, Outcome, outcomes

from alignment.data.files import write_records

TRAINER = "transformers.trainer:Trainer"
# an epoch is five steps: the kill at step 7 is inside the second, whose order must be repeated
MOMENTS = [
    f"{TRAINER}.training_step@2",
    f"{TRAINER}.training_step@7",
    f"{TRAINER}._save_rng_state@2",
    "alignment.backend.training:_save_model@1",
]
CONFIG = """
stage: reward
model: {{path: {model}, lora: {{r: 4, dropout: 0.2}}}}
data: {{train: [{data}], validation_fraction: 0.2}}
trainer:
  max_steps: 8
  per_device_train_batch_size: 4
  learning_rate: 1e-3
  save_steps: 2
  logging_steps: 1
  train_sampling_strategy: group_by_length
  disable_dropout: false
run: {{dir: replaced, seed: 3}}
"""
# an ensemble on rankings in parts: what else there is that could hold a state
OTHER = f"{TRAINER}.training_step@9"
KEPT = """loss: rankings
ensemble: {{members: 2}}
resample: true
length_debias: true
token_budget: 400
"""


@pytest.fixture(scope="module")
def found(
    toy_model: str, toy_records: Callable, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("reward-resume")
    write_records(folder / "data.jsonl", toy_records(20))
    values = {"model": toy_model, "data": folder / "data.jsonl"}
    jobs = [
        Job("reward.stage", CONFIG.format(**values), MOMENTS),
        Job("reward.stage", (CONFIG + KEPT).format(**values), [OTHER]),
    ]
    heavy = ("torch", "transformers.trainer", "reward.trainer")
    plain, other = outcomes(jobs, folder / "runs", heavy)
    return plain | other


@pytest.mark.parametrize("moment", [*MOMENTS, OTHER])
def test_killed_and_resumed_is_bit_equal(found: dict[str, Outcome], moment: str) -> None:
    outcome = found[moment]
    assert outcome.exit == -signal.SIGKILL, outcome.log
    assert outcome.resumed == 0, outcome.log
    assert outcome.equal, outcome.log
    if moment.endswith("_save_rng_state@2"):
        assert outcome.checkpoint == "checkpoint-2"
    assert (Path(outcome.run) / "model" / "adapter_config.json").is_file()
