"""The KTO stage: labels become rows in an order that the loss needs, and the loss begins where it must."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from alignment import kto
from alignment.backend.config import load_config
from alignment.data.files import write_records
from alignment.data.records import Judgment
from alignment.errors import UserError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, toy_records: Any) -> Path:
    """Rankings that also label the best completion good, and the worst bad."""
    records = toy_records(12)
    for record in records:
        ranks = record.judgments[0].ranks
        last = max(ranks)
        labels = [True if rank == 1 else False if rank == last else None for rank in ranks]
        record.judgments.append(Judgment(by="ann-3", labels=labels))
    path = tmp_path_factory.mktemp("kto") / "labels.jsonl"
    write_records(path, records)
    return path


@pytest.fixture
def load(tmp_path: Path, toy_model: str, data: Path) -> Callable[..., kto.Config]:
    trainer = {"max_steps": 3, "per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 1e-2}
    config = {
        "stage": "kto",
        "model": {"path": toy_model},
        "data": {"train": [str(data)]},
        "trainer": trainer,
        "run": {"dir": str(tmp_path / "run")},
    }
    (tmp_path / "kto.yaml").write_text(json.dumps(config))
    return lambda *overrides: load_config(kto.Config, tmp_path / "kto.yaml", overrides)


def losses(result: dict[str, Any]) -> list[float]:
    lines = (Path(result["run"]) / "metrics.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


@pytest.mark.parametrize(
    "given",
    [
        ["trainer.precompute_ref_log_probs=true"],
        ["model.lora={r: 4}", "labels=pairs", "data.pairs_per_prompt=1"],
        ["trainer.loss_type=apo_zero_unpaired", "data.validation_fraction=0.3"],
    ],
    ids=["precomputed", "lora on pairs", "apo"],
)
def test_the_first_loss_is_one_half(load: Callable[..., kto.Config], given: list[str]) -> None:
    """The policy is the reference: every log-ratio is 0, and 1 − σ(0) is one half whatever the label."""
    result = kto.run(load(*given))
    found = losses(result)
    assert found[0] == pytest.approx(0.5, abs=1e-5)
    assert abs(found[-1] - 0.5) > 1e-4
    rows = result["metrics"]["rows"]
    assert rows == 2 * result["metrics"]["good"] > 12
    assert ("eval_loss" in result["metrics"]) == (given[-1].startswith("data.validation"))


def test_a_batch_is_of_different_prompts() -> None:
    """TRL takes the completion of the row before for the reference point, which must be another prompt's."""
    rows = [{"id": str(k), "prompt": f"p{k}", "chosen": "a", "rejected": "b"} for k in range(500)]
    flat = kto.unpaired(rows)
    assert [(row["completion"], row["label"]) for row in flat[:2]] == [("a", True), ("b", False)]
    mixed = kto.apart(flat, 1)
    same = sum(a["prompt"] == b["prompt"] for a, b in pairwise(mixed))
    assert same < 10
    assert sorted(map(str, mixed)) == sorted(map(str, flat))
    assert mixed == kto.apart(flat, 1) != kto.apart(flat, 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("data.pairs_per_prompt=1", "go with labels: pairs"),
        ("trainer.per_device_train_batch_size=1", "take 2 or more"),
        ("trainer.loss_typ=kto", "did you mean 'loss_type'"),
    ],
)
def test_refusals(load: Callable[..., kto.Config], given: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(given)


def test_rows_without_labels_say_so(
    load: Callable[..., kto.Config], tmp_path: Path, toy_records: Any
) -> None:
    write_records(tmp_path / "ranks.jsonl", toy_records(4))
    with pytest.raises(UserError, match=r"no record has .*labelled good or bad.*labels=pairs.*no label"):
        kto.run(load(f"data.train=[{tmp_path / 'ranks.jsonl'}]"))
