"""The other ways to train a reward model: rankings, ensembles, without length, in parts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alignment.backend.config import ModelSection, load_config, trainer_args
from alignment.backend.ensembles import combined, read_ensemble
from alignment.backend.models import export_model, load_reward_model, load_tokenizer
from alignment.backend.scoring import load_scorer
from alignment.data.files import write_records
from alignment.data.records import Completion, Judgment, Message, Record
from alignment.data.views import pairs_view, rankings_view
from alignment.errors import UserError
from reward import stage
from reward.losses import pairwise_loss, plackett_luce
from reward.rows import add_draws, add_offsets, comparisons, orders, rankings
from reward.trainer import ComparisonCollator, ComparisonTrainer

PROMPT = [{"role": "user", "content": "a story"}]
TEXTS = ["the hen hen hen", "the hen hen", "the hen", "the mat"]


def hens(n: int) -> list[Record]:
    """The more hens the better; completions without any are tied."""
    records = []
    for row in range(n):
        counts = [(row * k) % 5 for k in (1, 2, 3, 4)] if row % 5 else [3, 0, 0, 1]
        texts = [f"cat {row % 7} " + "hen " * count + "mat " * (5 - count) for count in counts]
        ranks = [1 + sum(other > count for other in counts) for count in counts]
        dense = {rank: place for place, rank in enumerate(sorted(set(ranks)), 1)}
        records.append(
            Record(
                prompt=[Message("user", f"a story {row}")],
                id=str(row),
                completions=[Completion(content=text) for text in texts],
                judgments=[Judgment(by="ann", ranks=[dense[rank] for rank in ranks])],
            )
        )
    return records


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hens") / "data.jsonl"
    write_records(path, hens(60))
    return path


@pytest.fixture
def make(tmp_path: Path, toy_model: str, data: Path) -> Any:
    def config(name: str = "run", **changes: Any) -> stage.Config:
        text = {
            "stage": "reward",
            "model": {"path": toy_model, **changes.pop("model", {})},
            "data": {"train": [str(data)], "validation_fraction": 0.3, **changes.pop("data", {})},
            "trainer": {
                "per_device_train_batch_size": 8,
                "max_steps": 16,
                "learning_rate": 3e-3,
                "lr_scheduler_type": "constant",
                "logging_steps": 8,
                "save_strategy": "no",
                **changes.pop("trainer", {}),
            },
            "run": {"dir": str(tmp_path / name)},
            **changes,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(text))
        return load_config(stage.Config, path)

    return config


def trainer_of(config: stage.Config, tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> Any:
    tokenizer = load_tokenizer(config.model.path)
    members = config.ensemble.members if config.ensemble else 1
    trainer = ComparisonTrainer(
        model=load_reward_model(config.model, members=members),
        args=trainer_args(config, tmp_path / "checkpoints", use_cpu=True, disable_dropout=True),
        train_dataset=stage._dataset(rows),
        processing_class=tokenizer,
        **options,
    )
    trainer.model.eval()
    return trainer


def test_rankings_are_learned(make: Any) -> None:
    result = stage.run(make(loss="rankings", trainer={"center_rewards_coefficient": 0.01}))
    metrics = result["metrics"]
    assert metrics["accuracy"]["value"] > 0.8
    assert metrics["rows"] < 60
    assert metrics["by_length"]
    assert "Calibration" in (Path(result["run"]) / "report.html").read_text()
    scores = load_scorer(result["run"], device="cpu").score([PROMPT] * 4, TEXTS)
    assert scores[0] > scores[3]


def test_a_ranking_is_one_element_and_its_loss_that_of_the_formula(
    make: Any, tmp_path: Path, toy_model: str
) -> None:
    records = hens(4)
    records[1].judgments.append(Judgment(by="bob", ranks=[1, 1, None, 2]))
    tokenizer = load_tokenizer(toy_model)
    rows = rankings(list(rankings_view(records)), tokenizer, None)
    assert [len(row["ranks"]) for row in rows] == [1, 2, 1, 1]
    batch = ComparisonCollator(tokenizer.pad_token_id)(rows)
    assert batch["ranks"].shape == (5, 4)
    trainer = trainer_of(make(loss="rankings"), tmp_path, rows)
    with torch.no_grad():
        total, count = torch.zeros(()), 0
        for row in rows:
            for places, ranks in zip(row["places"], row["ranks"], strict=True):
                texts = [torch.tensor([row["texts"][place]]) for place in places]
                scores = torch.cat([trainer.model(input_ids=text).logits for text in texts])
                total += plackett_luce(scores.T, torch.tensor([ranks]))[0]
                count += len(ranks) - 1
        assert count == 14
        assert trainer.compute_loss(trainer.model, batch) == pytest.approx(float(total) / count, abs=1e-5)
    # what is too long leaves its ranking, and a ranking without an order is left out
    longest = max(len(text) for row in rows for text in row["texts"])
    shorter = rankings(list(rankings_view(records)), tokenizer, longest - 1)
    assert sum(len(row["texts"]) for row in shorter) < sum(len(row["texts"]) for row in rows)
    assert rankings(list(rankings_view(records)), tokenizer, 3) == []


def test_rankings_and_pairs_agree_where_there_are_two(make: Any, tmp_path: Path, toy_model: str) -> None:
    records = hens(3)
    for record in records:
        record.completions, record.judgments = record.completions[:2], [Judgment(by="a", ranks=[2, 1])]
    tokenizer = load_tokenizer(toy_model)
    trainer = trainer_of(make(trainer={"center_rewards_coefficient": 0.1}), tmp_path, [{"texts": []}])
    collate = ComparisonCollator(tokenizer.pad_token_id)
    pairs = collate(comparisons(list(pairs_view(records)), tokenizer, None))
    ranked = collate(rankings(list(rankings_view(records)), tokenizer, None))
    with torch.no_grad():
        first, second = (trainer.compute_loss(trainer.model, batch) for batch in (pairs, ranked))
    assert first == pytest.approx(float(second), abs=1e-6)


@pytest.mark.parametrize("loss", ["pairs", "rankings"])
def test_parts_add_up_to_the_batch(make: Any, tmp_path: Path, toy_model: str, loss: str) -> None:
    tokenizer = load_tokenizer(toy_model)
    config = make(loss=loss, trainer={"center_rewards_coefficient": 0.05})
    view, shape = (pairs_view, comparisons) if loss == "pairs" else (rankings_view, rankings)
    rows: list[dict[str, Any]] = shape(list(view(hens(9))), tokenizer, None)
    add_draws(rows, 1, seed=1)
    trainer = trainer_of(config, tmp_path, rows)
    gradients, metrics = [], []
    for budget in (None, 300):
        batch = ComparisonCollator(tokenizer.pad_token_id, budget)(rows)
        if budget:
            assert len(batch["parts"]) > 2
            for part in batch["parts"]:
                assert part["input_ids"].numel() <= budget
            assert sum(part["share"] for part in batch["parts"]) == pytest.approx(1)
        trainer.model.zero_grad()
        trainer.current_gradient_accumulation_steps = 1
        loss_value = trainer.training_step(trainer.model, batch)
        flat = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
        gradients.append(torch.cat([flat, loss_value.reshape(1)]))
        metrics.append({name: float(values.pop()) for name, values in trainer._metrics["train"].items()})
        trainer.model.eval()
    assert torch.allclose(*gradients, atol=1e-6)
    assert gradients[0].abs().max() > 1e-3
    if loss == "pairs":  # of rankings the metrics are per ranking, the shares per choice
        assert metrics[0]["accuracy"] == pytest.approx(metrics[1]["accuracy"], abs=1e-5)
        assert metrics[0]["margin"] == pytest.approx(metrics[1]["margin"], abs=1e-5)


def test_what_length_explains_is_taken_out(make: Any, tmp_path: Path, toy_model: str) -> None:
    """The better text is always the longer one: with the offset, equal scores already explain it."""
    records = [
        Record(
            prompt=[Message("user", f"go {row}")],
            completions=[Completion(content="cat " * (4 + row % 3)), Completion(content="cat")],
            judgments=[Judgment(by="a", ranks=[1, 2])],
        )
        for row in range(6)
    ]
    tokenizer = load_tokenizer(toy_model)
    rows = comparisons(list(pairs_view(records)), tokenizer, None)
    gamma = add_offsets(rows, tokenizer)
    assert gamma == 10.0  # nothing speaks against it
    first = rows[0]
    better, worse, _ = next(iter(orders(first)))
    start = len(first["texts"][worse]) - 4  # "cat", end, newline and so on
    assert first["offset"][better] > first["offset"][worse] > 0
    assert start > 0
    batch = ComparisonCollator(tokenizer.pad_token_id)(rows)
    trainer = trainer_of(make(length_debias=True), tmp_path, rows)
    with torch.no_grad():
        scores = trainer.model(batch["input_ids"], batch["attention_mask"]).logits[:, 0]
        level = scores + batch["offset"]
        wanted = pairwise_loss(level[batch["better"]], level[batch["worse"]])
        assert trainer.compute_loss(trainer.model, batch) == pytest.approx(float(wanted), abs=1e-5)
        assert wanted < math.log(2) / 10


@pytest.mark.parametrize("lora", [None, {"r": 4, "alpha": 16}])
def test_an_ensemble_of_heads(make: Any, tmp_path: Path, lora: Any) -> None:
    config = make(
        model={"lora": lora},
        ensemble={"members": 3},
        resample=True,
        label_smoothing=0.05,
        length_debias=True,
        trainer={"learning_rate": 2e-2 if lora else 3e-3},
    )
    result = stage.run(config)
    metrics = result["metrics"]
    assert metrics["accuracy"]["value"] > 0.7
    assert len(metrics["members"]) == 3
    assert metrics["disagreement"] > 0
    assert isinstance(metrics["length_coefficient"], float)
    found = read_ensemble(result["model"])
    assert found is not None
    assert (found.kind, found.members) == ("heads", 3)
    scorer = load_scorer(result["run"], device="cpu")
    members = np.array(scorer.members([PROMPT] * 4, TEXTS))
    assert members.shape == (4, 3)
    assert members.std(axis=1).min() > 1e-4
    assert scorer.score([PROMPT] * 4, TEXTS) == pytest.approx(members.mean(axis=1).tolist())
    worst = load_scorer(result["run"], device="cpu", combine="worst").score([PROMPT] * 4, TEXTS)
    assert worst == pytest.approx(members.min(axis=1).tolist(), abs=1e-5)
    export_model(result["run"], tmp_path / "plain")
    exported = load_scorer(str(tmp_path / "plain"), device="cpu")
    assert np.allclose(exported.members([PROMPT] * 4, TEXTS), members, atol=1e-4)
    # more heads than the model has are refused, and a further run takes up those there are
    with pytest.raises(UserError, match="reward model already"):
        load_reward_model(ModelSection(path=str(tmp_path / "plain")), members=4)
    assert load_reward_model(ModelSection(path=str(tmp_path / "plain")), members=3).score.out_features == 3


@pytest.mark.parametrize("lora", [None, {"r": 4, "alpha": 16}])
def test_an_ensemble_of_runs(make: Any, lora: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make(
        model={"lora": lora}, ensemble={"members": 2, "kind": "runs"}, resample=True, trainer={"max_steps": 4}
    )
    from reward import ensemble

    with monkeypatch.context() as patch:  # broken off after both members, and started again
        patch.setattr(ensemble, "write_ensemble", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stage.run(config)
    steps = [line for k in (0, 1) for line in (Path(config.run.dir) / f"members/{k}/metrics.jsonl").open()]
    result = stage.run(config)
    assert steps == [
        line for k in (0, 1) for line in (Path(config.run.dir) / f"members/{k}/metrics.jsonl").open()
    ]
    assert len(result["metrics"]["members"]) == 2
    scorer: Any = load_scorer(result["run"], device="cpu")
    members = np.array(scorer.members([PROMPT] * 4, TEXTS))
    found = read_ensemble(result["model"])
    assert found is not None
    assert not np.allclose(members[:, 0], members[:, 1])
    for number in (0, 1):
        alone = load_scorer(f"{result['run']}/members/{number}", device="cpu").score([PROMPT] * 4, TEXTS)
        assert np.allclose(np.array(alone) - found.levels[number], members[:, number], atol=1e-5)
    if lora:  # one base for both
        assert len({id(model) for _, model in scorer.parts}) == 1
    else:
        assert len({id(model) for model in scorer.parts}) == 2
    with pytest.raises(UserError, match="ensemble of 2 models"):
        export_model(result["run"], f"{result['run']}-plain")


def test_how_members_are_combined() -> None:
    table = [[1.0, 3.0], [-2.0, 2.0]]
    assert combined(table).tolist() == [2.0, 0.0]
    assert combined(table, "worst").tolist() == [1.0, -2.0]
    assert combined(table, "uncertainty", 0.5).tolist() == [2.0 - 0.5 * 1, 0.0 - 0.5 * 4]


def test_draws_are_a_bootstrap_of_the_prompts() -> None:
    rows: list[dict[str, Any]] = [{} for _ in range(4000)]
    add_draws(rows, 2, seed=3)
    draws = np.array([row["draws"] for row in rows])
    assert draws.mean() == pytest.approx(1.0, abs=0.05)
    assert (draws == 0).mean() == pytest.approx(math.exp(-1), abs=0.03)
    again: list[dict[str, Any]] = [{} for _ in range(4000)]
    add_draws(again, 2, seed=3)
    assert again == rows
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "rankings", "margin": True}, "margin is of pairs"),
        ({"loss": "rankings", "label_smoothing": 0.1}, "label_smoothing is of pairs"),
        ({"loss": "rankings", "data": {"how": "majority"}}, "data.how and data.pairs_per_prompt"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"ensemble": {"members": 1}}, "ensemble.members"),
    ],
)
def test_what_does_not_go_together(make: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make(**changes)
