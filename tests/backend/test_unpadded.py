"""Padded batches run on their real tokens alone, whoever pads them, and give what they gave before."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

from alignment import dpo, grpo, kto, rloo, sft
from alignment.backend import packed, unpadded
from alignment.backend.config import ModelSection, load_config, trainer_args
from alignment.backend.models import load_policy
from alignment.data.files import write_records
from alignment.errors import UserError
from reward import stage as reward

STAGES = {"sft": sft, "dpo": dpo, "kto": kto, "reward": reward, "rloo": rloo, "grpo": grpo}
SMALL: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


def a_model(config: Any = None) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config or LlamaConfig(**SMALL)).eval()


def a_batch(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of 9, 1, 5 and 12 tokens, padded on the left or on the right."""
    ids = torch.randint(97, (4, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.zeros(4, 12, dtype=torch.long)
    for row, length in enumerate((9, 1, 5, 12)):
        mask[row, 12 - length if side == "left" else 0 : 12 if side == "left" else length] = 1
    return ids, mask


def tokens_seen(model: Any) -> list[int]:
    """How many tokens each forward pass of `model` embeds, from here on."""
    seen: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda m, args, out: seen.append(args[0].numel()))
    return seen


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_gives_what_it_gave(side: str) -> None:
    ids, mask = a_batch(side)
    weights = torch.randn(4, 12, 32, generator=torch.Generator().manual_seed(2)) * mask[..., None]
    found = []
    for padded in (True, False):
        model = a_model()
        assert padded or unpadded.without_padding(model) is None
        seen = tokens_seen(model)
        hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        (hidden * weights).sum().backward()
        found.append((hidden.detach() * mask[..., None], [p.grad for p in model.base_model.parameters()]))
        assert seen == [48 if padded else int(mask.sum())]
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


def test_other_calls_are_as_before() -> None:
    ids, mask = a_batch("left")
    ids, mask = ids[[0, 3]], mask[[0, 3]]
    plain, model = a_model(), a_model()
    assert unpadded.without_padding(model) is None
    asked = {"attention_mask": mask, "max_new_tokens": 6, "do_sample": False}
    assert torch.equal(model.generate(ids, **asked), plain.generate(ids, **asked))
    for asked in ({"output_hidden_states": True}, {"use_cache": True}, {"output_attentions": True}):
        mine = model(input_ids=ids, attention_mask=mask, **asked)
        theirs = plain(input_ids=ids, attention_mask=mask, **asked)
        assert mine.keys() == theirs.keys()
        torch.testing.assert_close(mine.logits, theirs.logits)


def test_twice_is_once_and_who_cannot_stays_padded() -> None:
    model = a_model()
    assert unpadded.without_padding(model) is None
    before = model.base_model.forward
    assert unpadded.without_padding(model) is None
    assert model.base_model.forward is before
    sliding = a_model(MistralConfig(**SMALL, sliding_window=8))
    assert "sliding" in str(unpadded.without_padding(sliding))
    assert "forward" not in vars(sliding.base_model)


@pytest.fixture
def start(tmp_path: Path, toy_model: str, toy_reward: str, toy_records: Any) -> Any:
    """Two steps of a stage at a folder: loss and gradient's norm of each."""
    write_records(tmp_path / "data.jsonl", toy_records(12))

    def run(stage: str, name: str, **trainer: Any) -> list[float]:
        options = {
            "max_steps": 2,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "save_strategy": "no",
        }
        config = {
            "stage": stage,
            "model": {"path": toy_model},
            "data": {"train": [str(tmp_path / "data.jsonl")]},
            "trainer": {**options, "learning_rate": 1e-2, **trainer},
            "run": {"dir": str(tmp_path / name)},
            **({"labels": "pairs"} if stage == "kto" else {}),
            **({"reward": {"path": toy_reward}} if stage in ("rloo", "grpo") else {}),
        }
        (tmp_path / "stage.yaml").write_text(json.dumps(config))
        module = STAGES[stage]
        module.run(load_config(module.Config, tmp_path / "stage.yaml"))
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        return [line[key] for line in lines if "loss" in line for key in ("loss", "grad_norm")]

    return run


SAMPLED = {"beta": 0.1, "max_completion_length": 6, "num_generations": 2}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("sft", {}),
    ("sft", {"packing": True, "max_length": 128}),
    ("dpo", {}),
    ("dpo", {"precompute_ref_log_probs": True, "activation_checkpointing": True}),
    ("kto", {}),
    ("reward", {}),
    ("rloo", SAMPLED),
    ("grpo", SAMPLED),
]


@pytest.mark.parametrize(("stage", "options"), CASES, ids=[f"{stage} {' '.join(o)}" for stage, o in CASES])
def test_trainers_of_trl_run_without_padding_to_the_same_end(
    start: Any, monkeypatch: pytest.MonkeyPatch, stage: str, options: dict[str, Any]
) -> None:
    """Fails where a trainer's call of the model is no longer of the kind that `_forward` takes."""
    calls: list[tuple[int, bool]] = []
    forward = unpadded._forward

    def watched(backbone: Any, input_ids: Any = None, attention_mask: Any = None, **kwargs: Any) -> Any:
        seen = tokens_seen(backbone)
        out = forward(backbone, input_ids, attention_mask, **kwargs)
        real = int(attention_mask.sum()) if attention_mask is not None else input_ids.numel()
        if kwargs["use_cache"] is False:  # of sampling, it is True
            calls.append((real, seen[0] == real))
        backbone.get_input_embeddings()._forward_hooks.clear()
        return out

    monkeypatch.setattr(unpadded, "_forward", watched)
    mine = start(stage, "mine", **options)
    assert calls
    assert all(fits for _, fits in calls)
    monkeypatch.undo()
    monkeypatch.setattr(unpadded, "without_padding", lambda model: "a test")
    theirs = start(stage, "theirs", **options)
    assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-6)
    assert min(theirs[1::2]) > 1e-4


def test_torch_compile_means_the_layers(
    start: Any, toy_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One compilation for all layers instead of the trainer's own of the whole model."""
    kept: list[Any] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: kept.append(options))
    start("reward", "run", torch_compile=True)
    assert kept
    assert all(options == {"dynamic": True} for options in kept)
    with pytest.raises(UserError, match="torch_compile: each layer"):
        start("reward", "other", torch_compile_mode="max-autotune")
    config = json.loads((tmp_path / "stage.yaml").read_text())
    config["trainer"] = {"torch_compile": True}
    (tmp_path / "stage.yaml").write_text(json.dumps(config))
    args = trainer_args(load_config(reward.Config, tmp_path / "stage.yaml"), tmp_path / "out")
    assert args.torch_compile
    assert args.torch_compile_backend is None


@pytest.mark.slow
def test_compiled_layers_give_the_same_losses(start: Any) -> None:
    assert start("dpo", "compiled", torch_compile=True) == pytest.approx(start("dpo", "plain"), rel=1e-3)


def test_sharded_training_keeps_its_padding(toy_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_policy(ModelSection(path=toy_model))
    args = SimpleNamespace(torch_compile=False, device=torch.device("cpu"), bf16=False, fp16=False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert unpadded.quicken(model, args) == "training is sharded"
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    assert unpadded.quicken(model, args) is None


def test_the_model_is_tried_in_the_precision_that_it_is_trained_in(
    toy_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, kernels of half precision take head sizes that those of float32 do not, and otherwise."""
    seen: list[torch.dtype] = []

    def noting(module: Any, query: torch.Tensor, *more: Any, **options: Any) -> Any:
        seen.append(packed.end_to_end(query).dtype)
        return attend(module, query, *more, **options)

    attend = packed.attend
    monkeypatch.setattr(packed, "attend", noting)
    args = SimpleNamespace(torch_compile=False, device=torch.device("cpu"), bf16=True, fp16=False)
    assert unpadded.quicken(load_policy(ModelSection(path=toy_model)), args) is None
    assert set(seen) == {torch.bfloat16}


@pytest.mark.gpu
@pytest.mark.parametrize("stage", ["sft", "dpo", "reward"])
def test_on_a_gpu_losses_are_those_of_padded_batches(
    start: Any, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Under bfloat16 autocast, plain and compiled."""
    options = {"activation_checkpointing": False, "learning_rate": 1e-3}
    mine = start(stage, "mine", **options), start(stage, "compiled", **options, torch_compile=True)
    monkeypatch.setattr(unpadded, "without_padding", lambda model: "a test")
    theirs = start(stage, "theirs", **options)
    for losses in mine:
        assert losses[::2] == pytest.approx(theirs[::2], rel=0.02)
