"""design/training.md 8 and 17: PPO killed anywhere and started again ends in the same bits."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from killing import Job, Outcome, outcomes

from alignment.data.files import write_records

TRAINER, CRITIC = "alignment.ppo.trainer:PPOTrainer", "alignment.ppo.critic:Critic"
SAVE = "transformers.trainer:Trainer._save_rng_state"
# A cycle is 4 optimiser steps, an epoch 3 cycles, a checkpoint every 3 steps: most lie within a cycle.
FULL = [
    f"{TRAINER}._roll_out@2",  # inside a rollout, the newest checkpoint inside the cycle before
    f"{TRAINER}._score@4",  # in the second epoch: sampled, not scored
    f"{TRAINER}._compute_loss@6",  # inside an update
    f"{TRAINER}._compute_loss@13",  # right after a checkpoint that no rollout belongs to
    f"{SAVE}@2",  # inside a save: weights and critic are there, the rest is not
    f"{CRITIC}.save@3",  # inside a save, before the critic
    "alignment.backend.training:_save_model@1",  # training over, model not saved
    f"{TRAINER}.save_critic@8",  # model saved, critic not
    f"{TRAINER}._compute_loss@6!SIGTERM",
]
LORA = [f"{TRAINER}._roll_out@3", f"{TRAINER}._compute_loss@11", f"{CRITIC}.save@3"]
# Everything that keeps state: a reference that follows, an actor that rests, held-out evaluation.
STATE = [
    f"{TRAINER}._compute_loss@9",
    "alignment.ppo.reference:FollowPolicy.save@2",
    "alignment.ppo.trainer:held_out_metrics@3",
]
MORE = """
  sync_ref_model: true
  ref_model_sync_steps: 5
  target_kl: 1e-4
  dual_clip: 3
  kl_estimator: k3
  min_completion_length: 4
  eval_strategy: steps
  eval_steps: 4
run:"""
KINDS = {"full": FULL, "lora": LORA, "state": STATE}
CONFIG = """
stage: ppo
model: {{path: {model}}}
reward: {{path: {reward}}}
data: {{train: [{data}]}}
trainer:
  max_steps: 20
  per_device_train_batch_size: 4
  steps_per_generation: 2
  max_completion_length: 6
  learning_rate: 1e-3
  critic_warmup_steps: 2
  kl_target: 0.1
  scale_rewards: true
  save_steps: 3
  save_total_limit: 1
run: {{dir: replaced, seed: 3}}
"""


@pytest.fixture(scope="module")
def found(
    toy_model: str,
    toy_adapter: str,
    toy_reward: str,
    toy_records: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("ppo-resume")
    data = folder / "data.jsonl"
    write_records(data, toy_records(25))
    values = {"reward": toy_reward, "data": data}
    held_out = f"train: [{data}], validation_fraction: 0.2"
    everything = CONFIG.replace("\nrun:", MORE).replace("train: [{data}]", held_out)
    jobs = [
        Job("alignment.ppo.stage", CONFIG.format(model=toy_model, **values), FULL),
        Job("alignment.ppo.stage", CONFIG.format(model=toy_adapter, **values), LORA),
        Job("alignment.ppo.stage", everything.format(model=toy_model, **values), STATE),
    ]
    heavy = ("torch", "transformers.trainer", "alignment.ppo.trainer", "alignment.backend.training")
    kinds = zip(("full", "lora", "state"), outcomes(jobs, folder / "runs", heavy), strict=True)
    return {f"{kind} {moment}": outcome for kind, moments in kinds for moment, outcome in moments.items()}


@pytest.mark.parametrize("moment", [f"{kind} {m}" for kind, moments in KINDS.items() for m in moments])
def test_killed_and_resumed_is_bit_equal(found: dict[str, Outcome], moment: str) -> None:
    outcome = found[moment]
    assert outcome.exit == (143 if "!" in moment else -signal.SIGKILL), outcome.log
    assert outcome.resumed == 0, outcome.log
    assert outcome.equal, outcome.log
    run = Path(outcome.run)
    unbroken = run.parent / "unbroken"
    for name in ("critic.safetensors", "samples.jsonl"):
        assert (run / name).read_bytes() == (unbroken / name).read_bytes(), name


def test_the_newest_complete_checkpoint_is_the_one_resumed(found: dict[str, Outcome]) -> None:
    assert found[f"full {SAVE}@2"].checkpoint == "checkpoint-3"
    assert found[f"full {CRITIC}.save@3"].checkpoint == "checkpoint-6"
    assert found[f"full {TRAINER}._compute_loss@6!SIGTERM"].checkpoint == "checkpoint-6"


def test_a_run_holds_policy_critic_and_samples(found: dict[str, Outcome]) -> None:
    run = Path(found[f"lora {LORA[0]}"].run)
    assert (run / "model" / "adapter_config.json").is_file()
    assert not (run / "model" / "ref").exists()
    assert not list((run / "model").glob("critic*"))
    state = json.loads((run / "run.json").read_text())
    assert state["status"] == "complete"
    assert {"score", "kl", "reward", "first_score", "mean_length"} <= set(state["metrics"])
    steps = [json.loads(line)["step"] for line in (run / "samples.jsonl").read_text().splitlines()]
    assert steps == sorted([0, 4, 8, 12, 16] * 4)
