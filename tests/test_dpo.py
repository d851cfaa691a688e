"""The DPO stage: the reference is the policy as given, the losses are the papers', the adapter comes back."""

from __future__ import annotations

import inspect
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment import dpo, sft
from alignment.backend import training
from alignment.backend.config import LoraSection, ModelSection, load_config
from alignment.backend.models import load_policy
from alignment.backend.runs import Run
from alignment.data.files import write_records
from alignment.data.records import Completion, Judgment, Message, Record
from alignment.errors import UserError

BETA = 0.3
Start = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, toy_records: Any) -> Path:
    path = tmp_path_factory.mktemp("dpo") / "rankings.jsonl"
    write_records(path, toy_records(12))
    return path


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, toy_model: str, data: Path) -> str:
    """A run whose model is a LoRA adapter far from its base."""
    folder = tmp_path_factory.mktemp("adapter")
    config = {
        "stage": "sft",
        "model": {"path": toy_model, "lora": {"r": 4}},
        "data": {"train": [str(data)]},
        "trainer": {"max_steps": 6, "learning_rate": 3e-2, "per_device_train_batch_size": 4},
        "run": {"dir": str(folder / "run")},
    }
    (folder / "sft.yaml").write_text(json.dumps(config))
    sft.run(load_config(sft.Config, folder / "sft.yaml"))
    return str(folder / "run")


@pytest.fixture
def start(tmp_path: Path, toy_model: str, data: Path) -> Start:
    """Run the stage: start(override, …)."""
    trainer = {"max_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 1e-3}
    config = {
        "stage": "dpo",
        "model": {"path": toy_model},
        "data": {"train": [str(data)]},
        "trainer": {**trainer, "beta": BETA},
        "run": {"dir": str(tmp_path / "run")},
    }
    (tmp_path / "dpo.yaml").write_text(json.dumps(config))
    return lambda *overrides: dpo.run(load_config(dpo.Config, tmp_path / "dpo.yaml", overrides))


@pytest.fixture
def prepared(start: Start, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The trainer as the stage made it, before a step is trained."""

    def build(*overrides: str) -> Any:
        kept: list[Any] = []

        def keep(trainer: Any, run: Any) -> dict[str, Any]:
            kept.append(trainer)
            return {}

        monkeypatch.setattr(training, "run_trainer", keep)
        monkeypatch.setattr(Run, "finish", lambda self, metrics: metrics)
        start(*overrides)
        return kept[0]

    return build


def losses(result: dict[str, Any]) -> list[float]:
    lines = (Path(result["run"]) / "metrics.jsonl").read_text().splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


@pytest.mark.parametrize("precompute", ["false", "true"])
@pytest.mark.parametrize("lora", ["null", "{r: 4}"], ids=["as given", "new lora"])
@pytest.mark.parametrize("base", ["model", "adapter"])
def test_the_first_loss_is_ln_2(
    start: Start, toy_model: str, adapter: str, base: str, lora: str, precompute: str
) -> None:
    path = toy_model if base == "model" else adapter
    given = [f"model.path={path}", f"model.lora={lora}", f"trainer.precompute_ref_log_probs={precompute}"]
    found = losses(start(*given, "trainer.learning_rate=1e-2"))
    assert found[0] == pytest.approx(math.log(2), abs=1e-5)
    assert abs(found[1] - math.log(2)) > 1e-4


@pytest.mark.parametrize("lora", ["null", "{r: 4}"], ids=["as given", "new lora"])
def test_the_saved_adapter_is_the_trained_policy(start: Start, adapter: str, lora: str) -> None:
    """Also where a new LoRA was put over an adapter: its base is then that adapter, not that one's base."""
    kept: list[Any] = []
    original = training._save_model
    ids = torch.arange(3, 40).reshape(1, -1)

    def save(trainer: Any, run: Any) -> None:
        with torch.no_grad():
            kept.append(trainer.model.eval()(ids).logits)
        original(trainer, run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_save_model", save)
        result = start(f"model.path={adapter}", f"model.lora={lora}", "trainer.learning_rate=1e-2")
    assert {path.name for path in Path(result["model"]).iterdir() if path.is_dir()} == set()
    again = load_policy(ModelSection(path=result["model"]), trainable=False)
    with torch.no_grad():
        assert torch.allclose(again(ids).logits, kept[0], atol=1e-5)
    given = load_policy(ModelSection(path=adapter), trainable=False)
    with torch.no_grad():
        assert not torch.allclose(again(ids).logits, given(ids).logits, atol=1e-3)


def test_the_libraries_write_and_say_nothing_of_their_own(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """No bars where nobody watches, no card beside checkpoints, no look for "tiny" on the hub."""
    given = ["model.path=tiny", "model.lora={r: 2}", "trainer.save_steps=1"]
    result = start(*given, "trainer.precompute_ref_log_probs=true")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("*/COMPLETE")]
    assert not (tmp_path / "run" / "checkpoints" / "README.md").exists()
    named = json.loads((Path(result["model"]) / "adapter_config.json").read_text())
    assert named["base_model_name_or_path"] == "tiny"
    said = capfd.readouterr().err + "".join(str(warning.message) for warning in recwarn)
    for words in ("Computing reference", "Loading weights", "config file", "config.json"):
        assert words not in said


def log_likelihood(model: Any, prompt: list[int], completion: list[int]) -> torch.Tensor:
    """log π(completion | prompt), one sequence alone, from the whole logits."""
    ids = torch.tensor([prompt + completion])
    logits = model(ids).logits.double()[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)[torch.arange(len(completion)), torch.tensor(completion)].sum()


def test_losses_against_the_papers(prepared: Any, toy_model: str) -> None:
    """Rafailov et al. (sigmoid), Azar et al. (IPO, by the token as TRL states), Zhao et al. (hinge)."""
    trainer = prepared("trainer.max_steps=4", "trainer.learning_rate=1e-2")
    trainer.train()
    policy = trainer.model.eval()
    reference = load_policy(ModelSection(path=toy_model), trainable=False)
    rows = [trainer.train_dataset[row] for row in range(4)]
    sigmoid, ipo, hinge = [], [], []
    with torch.no_grad():
        for row in rows:
            ratios = [
                log_likelihood(policy, row["prompt_ids"], row[key])
                - log_likelihood(reference, row["prompt_ids"], row[key])
                for key in ("chosen_ids", "rejected_ids")
            ]
            margin = ratios[0] - ratios[1]
            sigmoid.append(-math.log(1 / (1 + math.exp(-BETA * margin))))
            hinge.append(max(0.0, 1 - BETA * float(margin)))
            mean = ratios[0] / len(row["chosen_ids"]) - ratios[1] / len(row["rejected_ids"])
            ipo.append(float((mean - 1 / (2 * BETA)) ** 2))
        batch = trainer._prepare_inputs(trainer.data_collator(rows))
        for name, wanted in (("sigmoid", sigmoid), ("ipo", ipo), ("hinge", hinge)):
            trainer.loss_types = [name]
            assert float(trainer.compute_loss(policy, batch)) == pytest.approx(sum(wanted) / 4, abs=1e-5), (
                name
            )
    assert abs(sum(sigmoid) / 4 - math.log(2)) > 0.01


def test_the_losses_are_all_that_trl_has() -> None:
    import trl.trainer.dpo_trainer as module

    assert set(dpo.LOSSES) == set(re.findall(r'loss_type == "(\w+)"', inspect.getsource(module)))


@pytest.mark.parametrize("name", dpo.LOSSES)
def test_every_loss_trains_through_the_config(start: Start, toy_model: str, name: str) -> None:
    result = start(f"trainer.loss_type={name}", "trainer.label_smoothing=0.1", "trainer.save_strategy=no")
    found = losses(result)
    assert len(found) == 2
    assert all(map(math.isfinite, found))
    before = load_policy(ModelSection(path=toy_model)).state_dict()
    after = load_policy(ModelSection(path=result["model"])).state_dict()
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert any(not torch.equal(before[key], after[key]) for key in before)


def test_several_losses_through_the_config(prepared: Any) -> None:
    trainer = prepared("trainer.loss_type=[sigmoid, sft]", "trainer.loss_weights=[0.5, 2]")
    assert (trainer.loss_types, trainer.loss_weights) == (["sigmoid", "sft"], [0.5, 2])


def test_trainers_see_no_column_that_changes_the_loss(prepared: Any) -> None:
    names = set(prepared().train_dataset.column_names)
    assert names == {"prompt", "chosen", "rejected", "prompt_ids", "chosen_ids", "rejected_ids"}


def test_one_bos(prepared: Any, toy_model: str, tmp_path: Path) -> None:
    """The template writes BOS and the tokenizer would add one of its own: the prompts have one."""
    from tokenizers import Tokenizer, processors

    model = shutil.copytree(toy_model, tmp_path / "bos")
    template = model / "chat_template.jinja"
    template.write_text("{{ '<|pad|>' }}" + template.read_text())
    adding = Tokenizer.from_file(str(model / "tokenizer.json"))
    bos = adding.token_to_id("<|pad|>")
    adding.post_processor = processors.TemplateProcessing(
        single="<|pad|> $A", special_tokens=[("<|pad|>", bos)]
    )
    adding.save(str(model / "tokenizer.json"))
    row = prepared(f"model.path={model}").train_dataset[0]
    assert row["prompt_ids"][0] == bos
    assert [row[key].count(bos) for key in ("prompt_ids", "chosen_ids", "rejected_ids")] == [1, 0, 0]


def pair(prompt: list[Message], good: str = "The cat sat.", bad: str = "The dog ran.") -> Record:
    return Record(prompt, completions=[Completion(content=good), Completion(content=bad)], judgments=[JUDGED])


JUDGED = Judgment(by="ann", ranks=[1, 2])
ASKED = Message("user", "Tell me.")


@pytest.mark.parametrize(
    ("record", "overrides", "said"),
    [
        (pair([ASKED, Message("assistant", "Well")]), [], "the prompt ends with the assistant"),
        (Record([ASKED], completions=[Completion(content="A")]), [], "1 × fewer than two completions"),
        (pair([ASKED], good="The cat. " * 99), ["trainer.max_length=64"], "raise trainer.max_length"),
        (pair([ASKED]), ["trainer.loss_type=sigmod"], "'sigmod' is none of sigmoid, hinge"),
    ],
)
def test_mistakes_leave_nothing_behind(
    start: Start, tmp_path: Path, record: Record, overrides: list[str], said: str
) -> None:
    write_records(tmp_path / "one.jsonl", [record])
    with pytest.raises(UserError, match=said):
        start(f"data.train=[{tmp_path / 'one.jsonl'}]", *overrides)
    assert not (tmp_path / "run").exists()


def test_lora_section_reaches_peft(prepared: Any) -> None:
    trainer = prepared("model.lora={r: 3, alpha: 6, dora: true}")
    found = trainer.model.peft_config["default"]
    assert (found.r, found.lora_alpha, found.use_dora) == (3, 6, True)
    assert LoraSection().target_modules == "all-linear"
