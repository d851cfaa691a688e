"""Loading, adapters, the score head, export."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alignment.backend.config import LoraSection, ModelSection
from alignment.backend.heads import unwrap
from alignment.backend.memory import model_sizes
from alignment.backend.models import (
    export_model,
    load_policy,
    load_reward_model,
    load_tokenizer,
    peft_config,
    resolve_model_path,
)
from alignment.backend.scoring import load_scorer
from alignment.errors import UserError

PROMPTS = [[{"role": "user", "content": "the cat"}], [{"role": "user", "content": "the red hen and the dog"}]]
TEXTS = ["sat on a mat .", "ran"]


def logits(path: str) -> torch.Tensor:
    model = load_policy(ModelSection(path=path), trainable=False, device="cpu")
    return model(torch.tensor([[5, 6, 7, 8]])).logits


def perturbed_adapter(base: str, folder: Path, task: str = "SEQ_CLS", dora: bool = False) -> str:
    """A LoRA over `base` whose every trained weight was moved, saved at `folder`."""
    from peft import get_peft_model

    section = ModelSection(path=base, dtype="float32", lora=LoraSection(r=4, alpha=8, dora=dora))
    load = load_reward_model if task == "SEQ_CLS" else load_policy
    model = get_peft_model(load(section), peft_config(section, task))
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("dora", [False, True])
def test_reward_head_survives_lora(toy_model: str, tmp_path: Path, dora: bool) -> None:
    """design/training.md 7: the same scores in a new process, from the adapter and merged."""
    adapter = perturbed_adapter(toy_model, tmp_path / "adapter", dora=dora)
    here = load_scorer(adapter, device="cpu").score(PROMPTS, TEXTS)
    assert here[0] != here[1]
    merged = export_model(adapter, tmp_path / "merged")
    assert not (Path(merged) / "adapter_config.json").exists()
    assert load_scorer(merged, device="cpu").score(PROMPTS, TEXTS) == pytest.approx(here, abs=1e-5)
    if dora:
        return
    program = (
        "import json, sys; from alignment.backend.scoring import load_scorer\n"
        "scorers = [load_scorer(path, device='cpu') for path in sys.argv[1:]]\n"
        f"print(json.dumps([scorer.score({PROMPTS!r}, {TEXTS!r}) for scorer in scorers]))"
    )
    command = [sys.executable, "-c", program, adapter, merged]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    from_adapter, from_merged = json.loads(answer.strip().splitlines()[-1])
    assert from_adapter == pytest.approx(here, abs=1e-6)
    assert from_merged == pytest.approx(here, abs=1e-5)


def test_reward_model_of_an_adapter_of_a_policy(toy_model: str, tmp_path: Path) -> None:
    """The old adapter is merged: what an export of it gives; whole and stacked it loads with its scores."""
    adapter = perturbed_adapter(toy_model, tmp_path / "adapter", task="CAUSAL_LM")
    plain = load_reward_model(ModelSection(path=adapter), seed=1).eval()
    flat = load_reward_model(ModelSection(path=export_model(adapter, tmp_path / "flat")), seed=1).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    assert not hasattr(plain, "peft_config")
    assert torch.allclose(plain(ids).logits, flat(ids).logits, atol=1e-5)
    untuned = load_reward_model(ModelSection(path=toy_model), seed=1).eval()
    assert not torch.allclose(plain(ids).logits, untuned(ids).logits, atol=1e-3)
    assert all(parameter.requires_grad for parameter in plain.parameters())
    with pytest.raises(UserError, match="not a reward model"):
        load_scorer(adapter, device="cpu")
    sizes = model_sizes(ModelSection(path=adapter), scalar=True)
    assert sizes.trained == sizes.parameters
    stacked = perturbed_adapter(adapter, tmp_path / "stacked")
    named = json.loads((Path(stacked) / "adapter_config.json").read_text())
    assert named["base_model_name_or_path"] == adapter
    here = load_scorer(stacked, device="cpu").score(PROMPTS, TEXTS)
    merged = export_model(stacked, tmp_path / "merged")
    assert load_scorer(merged, device="cpu").score(PROMPTS, TEXTS) == pytest.approx(here, abs=1e-5)


def test_adapter_of_a_policy_is_loaded_merged_and_stacked(toy_model: str, tmp_path: Path) -> None:
    adapter = perturbed_adapter(toy_model, tmp_path / "adapter", task="CAUSAL_LM")
    ids = torch.tensor([[5, 6, 7, 8]])
    tuned = logits(adapter)
    assert not torch.allclose(logits(toy_model), tuned)
    trainable = load_policy(ModelSection(path=adapter))
    assert any(p.requires_grad for p in trainable.parameters())
    # a new LoRA over an adapter: the old one is merged, so without the new one it is the SFT policy
    stacked = load_policy(ModelSection(path=adapter, dtype="float32", lora=LoraSection(r=2)))
    assert not hasattr(stacked, "peft_config")
    assert torch.allclose(stacked.eval()(ids).logits, tuned, atol=1e-5)
    second = perturbed_adapter(adapter, tmp_path / "second", task="CAUSAL_LM")
    named = json.loads((Path(second) / "adapter_config.json").read_text())
    assert named["base_model_name_or_path"] == adapter
    twice = logits(second)
    assert not torch.allclose(twice, tuned, atol=1e-3)
    flat = export_model(second, tmp_path / "flat")
    assert torch.allclose(logits(flat), twice, atol=1e-4)
    merged = export_model(adapter, tmp_path / "merged")
    assert torch.allclose(logits(merged), tuned, atol=1e-5)
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    assert load_tokenizer(merged).chat_template == load_tokenizer(toy_model).chat_template
    with pytest.raises(UserError, match="exists"):
        export_model(adapter, tmp_path / "merged")


def test_new_heads_are_seeded_and_leave_random_state(toy_model: str) -> None:
    state = torch.get_rng_state()
    one, same, other = (load_reward_model(ModelSection(path=toy_model), seed=s) for s in (0, 0, 1))
    assert torch.equal(one.score.weight, same.score.weight)
    assert not torch.equal(one.score.weight, other.score.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_paths(toy_model: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with pytest.raises(UserError, match="has no model yet"):
        resolve_model_path(str(run))
    (run / "model").symlink_to(toy_model)
    assert resolve_model_path(str(run)) == str(run / "model")
    assert resolve_model_path(toy_model) == toy_model
    assert resolve_model_path("org/name") == "org/name"
    with pytest.raises(UserError, match="does not exist"):
        resolve_model_path("./nowhere")
    with pytest.raises(UserError, match="holds no model"):
        resolve_model_path(str(tmp_path))
    with pytest.raises(UserError, match="could not be loaded"):
        load_policy(ModelSection(path="org/a-model-that-is-not-there"))


def test_a_mistyped_path_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for path in ("runs/nope", "mine/nope", "mine/"):
        with pytest.raises(UserError, match=r"does not exist|holds no model"):
            resolve_model_path(path)
    with pytest.raises(UserError, match="no model at runs/nope: the folder does not exist"):
        export_model("runs/nope", tmp_path / "out")
    assert resolve_model_path("yours/nope") == "yours/nope"


def test_refusals(toy_model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a reward model"):
        load_scorer(toy_model, device="cpu")
    with pytest.raises(UserError, match=r"bitsandbytes|cannot be trained"):
        load_policy(ModelSection(path=toy_model, quantize="4bit"))


def test_classifier_with_two_outputs_is_no_reward_model(toy_model: str, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(toy_model, num_labels=2)
    model.save_pretrained(tmp_path / "two")
    load_tokenizer(toy_model).save_pretrained(tmp_path / "two")
    with pytest.raises(UserError, match="classifier with 2 outputs"):
        load_scorer(str(tmp_path / "two"), device="cpu")


@pytest.mark.parametrize("quantize", ["4bit", "8bit"])
def test_qlora(toy_model: str, tmp_path: Path, quantize: str) -> None:
    pytest.importorskip("bitsandbytes")
    from peft import get_peft_model

    section = ModelSection(path=toy_model, quantize=quantize, lora=LoraSection(r=4))
    model = get_peft_model(load_reward_model(section), peft_config(section, "SEQ_CLS"))
    model(input_ids=torch.tensor([[5, 6, 7]])).logits.sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "modules_to_save" in n)
    model.save_pretrained(tmp_path / "adapter")
    load_tokenizer(toy_model).save_pretrained(tmp_path / "adapter")
    assert load_scorer(str(tmp_path / "adapter"), device="cpu").score(PROMPTS, TEXTS)


def test_adapter_names_its_base(toy_model: str, tmp_path: Path) -> None:
    adapter = perturbed_adapter(toy_model, tmp_path / "adapter")
    named = json.loads((Path(adapter) / "adapter_config.json").read_text())
    assert named["base_model_name_or_path"] == toy_model
    assert "score" in named["modules_to_save"]
    assert (
        type(unwrap(load_reward_model(ModelSection(path=adapter)))).__name__
        == "LlamaForSequenceClassification"
    )
