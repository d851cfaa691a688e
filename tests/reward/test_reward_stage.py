"""The reward stage from records to a scorer."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model

from alignment.backend.batching import LengthGroupedSampler
from alignment.backend.config import ModelSection, load_config
from alignment.backend.models import export_model, load_policy, load_tokenizer
from alignment.backend.scoring import load_scorer
from alignment.data.files import write_records
from alignment.data.records import Comparison, Completion, Judgment, Message, Record
from alignment.errors import UserError
from reward import stage
from reward.rows import comparisons, pair_ids, shuffled
from reward.trainer import ComparisonCollator, ComparisonTrainer


def hen_records(n: int, judges: int = 1) -> list[Record]:
    """Judges always prefer the completion with a hen in it."""
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "dog", "ran", "to", "red"]
    records = []
    for row in range(n):
        filler = [words[(row * k) % len(words)] for k in range(1, 4 + row % 5)]
        good, bad = " ".join([*filler, "hen"]), " ".join([*filler, "mat"])
        texts = [good, bad] if row % 2 else [bad, good]
        ranks = [1, 2] if row % 2 else [2, 1]
        records.append(
            Record(
                prompt=[Message("user", f"a story of {words[row % len(words)]} {row}")],
                completions=[Completion(content=text) for text in texts],
                judgments=[Judgment(by=f"j{j}", ranks=ranks) for j in range(judges)],
            )
        )
    return records


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_records(tmp_path / "data.jsonl", hen_records(120))
    return tmp_path / "data.jsonl"


def make_config(data: Path, model: str, folder: Path, *overrides: str) -> stage.Config:
    text = {
        "stage": "reward",
        "model": {"path": model},
        "data": {"train": [str(data)], "validation_fraction": 0.3},
        "trainer": {
            "per_device_train_batch_size": 8,
            "max_steps": 24,
            "learning_rate": 3e-3,
            "lr_scheduler_type": "constant",
            "logging_steps": 8,
            "save_strategy": "no",
            "train_sampling_strategy": "group_by_length",
        },
        "run": {"dir": str(folder)},
    }
    path = folder.parent / f"{folder.name}.yaml"
    path.write_text(json.dumps(text))
    return load_config(stage.Config, path, list(overrides))


def test_learns_and_the_scorer_gives_the_trained_scores(data: Path, toy_model: str, tmp_path: Path) -> None:
    result = stage.run(make_config(data, toy_model, tmp_path / "run"))
    accuracy = result["metrics"]["accuracy"]
    assert accuracy["value"] > 0.9
    assert accuracy["low"] > 0.6
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    assert result["metrics"]["rows"] + accuracy["n"] == 120
    scorer = load_scorer(result["run"], device="cpu")
    prompt = [{"role": "user", "content": "a story of cat 1"}]
    good, bad = scorer.score([prompt] * 2, ["the cat sat hen", "the cat sat mat"])
    assert good > bad


def test_lora_and_a_shuffled_control(data: Path, toy_model: str, tmp_path: Path) -> None:
    lora = ["model.lora={r: 8, alpha: 32}", "trainer.learning_rate=2e-2"]
    result = stage.run(make_config(data, toy_model, tmp_path / "lora", *lora))
    assert result["metrics"]["accuracy"]["value"] > 0.9
    assert (Path(result["model"]) / "adapter_config.json").exists()
    prompts, texts = [[{"role": "user", "content": "a story"}]] * 2, ["the hen", "the mat"]
    merged = export_model(result["run"], tmp_path / "merged")
    assert load_scorer(merged, device="cpu").score(prompts, texts) == pytest.approx(
        load_scorer(result["run"], device="cpu").score(prompts, texts), abs=1e-4
    )
    control = stage.run(make_config(data, toy_model, tmp_path / "control", "shuffle_labels=true"))
    assert control["metrics"]["loss"] > 0.6  # about ln 2: there is nothing to learn


@pytest.mark.parametrize("lora", [None, {"r": 4}])
def test_a_run_from_an_adapter_of_a_policy_loads_again_in_a_new_process(
    data: Path, toy_model: str, tmp_path: Path, lora: dict[str, int] | None
) -> None:
    model = get_peft_model(
        load_policy(ModelSection(path=toy_model)),
        LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    model.save_pretrained(tmp_path / "sft")
    load_tokenizer(toy_model).save_pretrained(tmp_path / "sft")
    asked = [f"model.lora={json.dumps(lora)}", "trainer.max_steps=2"]
    result = stage.run(make_config(data, str(tmp_path / "sft"), tmp_path / "run", *asked))
    assert (Path(result["model"]) / "adapter_config.json").exists() == (lora is not None)
    prompts, texts = [[{"role": "user", "content": "a story"}]] * 2, ["the hen", "the mat"]
    here = load_scorer(result["run"], device="cpu").score(prompts, texts)
    program = (
        "import json, sys; from alignment.backend.scoring import load_scorer\n"
        f"print(json.dumps(load_scorer(sys.argv[1], device='cpu').score({prompts!r}, {texts!r})))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, result["run"]], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(answer.strip().splitlines()[-1]) == pytest.approx(here, abs=1e-6)


def test_margin_and_validation_during_training(toy_model: str, tmp_path: Path) -> None:
    records = hen_records(40)
    for record in records:
        record.judgments[0].ranks = None
        good = "hen" in record.completions[0].text
        comparison = Comparison(a=0, b=1, p=1.0 if good else 0.0, strength=3)
        record.judgments[0].comparisons = [comparison]
    write_records(tmp_path / "graded.jsonl", records)
    evaluate = ["trainer.eval_strategy=steps", "trainer.eval_steps=4", "trainer.max_steps=4"]
    plain = make_config(tmp_path / "graded.jsonl", toy_model, tmp_path / "plain", *evaluate)
    margin = make_config(tmp_path / "graded.jsonl", toy_model, tmp_path / "margin", "margin=true", *evaluate)
    without, asked = stage.run(plain)["metrics"], stage.run(margin)["metrics"]
    assert asked["eval_loss"] > without["eval_loss"] + 0.5  # a margin of 3 is not reached in four steps
    assert 0 <= without["eval_accuracy"] <= 1


def test_votes_of_several_judges_weigh(tmp_path: Path, toy_model: str) -> None:
    record = hen_records(1)[0]
    record.judgments = [Judgment(by=str(j), ranks=[1, 2] if j else [2, 1]) for j in range(3)]
    from alignment.data.views import pairs_view

    rows = list(pairs_view([record]))
    (one,) = comparisons(rows, load_tokenizer(toy_model), None)
    assert sorted(one["weight"]) == pytest.approx([1 / 3, 2 / 3])
    assert len(one["texts"]) == 2
    assert one["better"] == one["worse"][::-1]


def test_a_ranking_is_read_once_and_its_loss_is_trls_over_all_pairs(toy_model: str, tmp_path: Path) -> None:
    """Four ranked completions: four texts, six pairs; TRL's trainer reads twelve texts for the same loss."""
    from trl import RewardTrainer
    from trl.trainer.reward_trainer import DataCollatorForPreference

    from alignment.backend.config import ModelSection, trainer_args
    from alignment.backend.models import load_reward_model
    from alignment.data.views import pairs_view

    records = [
        Record(
            prompt=[Message("user", f"the cat {n}")],
            id=str(n),
            completions=[Completion(content="the hen " * k + "sat") for k in range(4)],
            judgments=[Judgment(ranks=[2, 1, 4, 3])],
        )
        for n in range(3)
    ]
    tokenizer = load_tokenizer(toy_model)
    rows = list(pairs_view(records))
    train = comparisons(rows, tokenizer, None)
    assert [(len(row["texts"]), len(row["better"])) for row in train] == [(4, 6)] * 3
    batch = ComparisonCollator(tokenizer.pad_token_id)(train)
    assert batch["input_ids"].shape[0] == 12
    config = make_config(tmp_path / "none.jsonl", toy_model, tmp_path / "run")
    trainer = ComparisonTrainer(
        model=load_reward_model(ModelSection(path=toy_model)),
        args=trainer_args(config, tmp_path, use_cpu=True),
        train_dataset=Dataset.from_list(train),
        processing_class=tokenizer,
    )
    model = trainer.model.eval()
    pairs = [dict(zip(("chosen_ids", "rejected_ids"), pair_ids(row, tokenizer), strict=True)) for row in rows]
    theirs = DataCollatorForPreference(tokenizer.pad_token_id)(pairs)
    assert theirs["input_ids"].shape[0] == 36
    with torch.no_grad():
        ours = trainer.compute_loss(model, batch)
        assert torch.allclose(ours, RewardTrainer.compute_loss(trainer, model, theirs), atol=1e-6)
    assert abs(ours.item() - 0.693) > 1e-3


def test_refusals(data: Path, toy_model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"max_length 8 .*trainer.max_length or data.max_truncated"):
        stage.run(make_config(data, toy_model, tmp_path / "long", "trainer.max_length=8"))
    prompts = [Record(prompt=[Message("user", f"hi {n}")]) for n in range(20)]
    write_records(tmp_path / "prompts.jsonl", prompts)
    with pytest.raises(UserError, match="no record has a pair"):
        stage.run(make_config(tmp_path / "prompts.jsonl", toy_model, tmp_path / "empty"))
    assert not (tmp_path / "empty").exists()


def test_shuffled_turns_exactly_half() -> None:
    rows = [{"chosen": 1, "rejected": 0} for _ in range(100)]
    assert sum(row["chosen"] for row in shuffled(rows, 3)) == 50
    assert shuffled(rows, 3) == shuffled(rows, 3)


def test_length_grouping_repeats_and_groups() -> None:
    lengths = torch.randint(5, 100, (403,)).tolist()
    sampler = LengthGroupedSampler(lengths, batch=8, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(403))
    assert list(LengthGroupedSampler(lengths, batch=8, seed=1)) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    batches = [[lengths[i] for i in first[k : k + 8]] for k in range(0, 403, 8)]
    waste = sum(len(batch) * max(batch) for batch in batches) / sum(lengths)
    assert waste < 1.05


def test_the_methods_of_trl_that_are_overridden() -> None:
    """design/training.md 15."""
    from trl import RewardTrainer

    for name in ("compute_loss", "_get_train_sampler", "_prepare_dataset", "log"):
        ours, theirs = (inspect.signature(getattr(cls, name)) for cls in (ComparisonTrainer, RewardTrainer))
        assert list(ours.parameters) == list(theirs.parameters)
    assert "self._metrics[mode]" in inspect.getsource(RewardTrainer.compute_loss)
    assert "self._prepare_dataset(train_dataset" in inspect.getsource(RewardTrainer.__init__)
