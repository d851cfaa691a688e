"""design/training.md 13: the memory estimate against measured peaks, and the refusal."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from alignment.backend import memory
from alignment.backend.config import LoraSection, ModelSection
from alignment.errors import UserError

LLAMAS = {
    "135M": (576, 30, 9, 3, 1536, 49152, True),
    "1B": (2048, 12, 32, 8, 8192, 32000, False),
}
# Peaks of torch.cuda.max_memory_allocated in GB on one H200 (torch 2.11, trl 1.16), by benchmarks/memory.py:
# shape, stage, LoRA, checkpointing, rows, tokens a row, accumulation, peak
MEASURED = [
    ("135M", "sft", False, False, 8, 471, 1, 5.798),
    ("135M", "sft", False, True, 8, 471, 1, 2.437),
    ("135M", "sft", True, False, 8, 471, 1, 3.707),
    ("135M", "dpo", True, True, 4, 471, 1, 0.687),
    ("135M", "dpo", False, False, 4, 1815, 1, 16.285),
    ("135M", "reward", True, True, 4, 471, 1, 0.689),
    ("135M", "reward", False, False, 2, 471, 2, 4.279),
    ("135M", "ppo", False, False, 4, 499, 1, 8.348),
    ("135M", "ppo", True, True, 4, 499, 1, 0.954),
    ("1B", "sft", False, True, 8, 471, 1, 14.135),
    ("1B", "sft", True, True, 8, 471, 1, 2.786),
    ("1B", "dpo", False, False, 4, 471, 1, 21.794),
    ("1B", "reward", False, True, 4, 471, 1, 13.089),
    ("1B", "reward", True, False, 4, 471, 1, 7.341),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders with a configuration and no weights: the estimate needs no more."""
    from transformers import LlamaConfig

    found = {}
    for name, (hidden, layers, heads, keys, inner, vocab, tied) in LLAMAS.items():
        folder = tmp_path_factory.mktemp(name)
        LlamaConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=keys,
            intermediate_size=inner,
            vocab_size=vocab,
            tie_word_embeddings=tied,
        ).save_pretrained(folder)
        found[name] = str(folder)
    return found


@pytest.mark.parametrize("case", MEASURED, ids=lambda case: "-".join(map(str, case[:5])))
def test_within_15_percent_of_the_measured_peak(folders: dict[str, str], case: tuple) -> None:
    shape, stage, lora, checkpointing, rows, length, accumulation, peak = case
    section = ModelSection(path=folders[shape], lora=LoraSection(r=16) if lora else None)
    estimate = memory.estimate_memory(
        memory.model_sizes(section, scalar=stage == "reward"),
        stage,
        rows=rows,
        length=length,
        dtype="bfloat16" if lora else "float32",
        checkpointing=checkpointing,
        accumulation=accumulation,
    )
    assert estimate.total / 1e9 == pytest.approx(peak, rel=0.15)


def test_too_small_is_said_before_loading(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    args = SimpleNamespace(
        per_device_train_batch_size=8,
        bf16=True,
        fp16=False,
        activation_checkpointing=False,
        gradient_accumulation_steps=1,
        optim="adamw_torch_fused",
    )
    section = ModelSection(path=folders["1B"])  # no weights there: nothing is loaded
    config = SimpleNamespace(model=section, trainer={})
    monkeypatch.setattr(memory, "free_gpu_memory", lambda: None)
    assert memory.check_memory(config, args, "sft", 471) is None
    monkeypatch.setattr(memory, "free_gpu_memory", lambda: 80 * 10**9)
    needed = memory.check_memory(config, args, "sft", 471)
    assert "of 80.0 GB free" in capsys.readouterr().err
    monkeypatch.setattr(memory, "free_gpu_memory", lambda: 16 * 10**9)
    with pytest.raises(UserError, match=r"GPU is too small: sft needs about .* trainer.max_length"):
        memory.check_memory(config, args, "sft", 471)
    args.optim = "adamw_8bit"
    config.model = section.model_copy(update={"lora": LoraSection(), "dtype": "bfloat16"})
    smaller = memory.check_memory(config, args, "sft", 471)
    assert smaller.total < needed.total / 2


@pytest.mark.parametrize(
    ("trainer", "free", "kept"),
    [({}, 80, False), ({}, 28, True), ({"gradient_checkpointing": True}, 80, True)],
)
def test_checkpointing_only_where_memory_asks_or_the_user(
    folders: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    trainer: dict[str, bool],
    free: int,
    kept: bool,
) -> None:
    args = SimpleNamespace(
        per_device_train_batch_size=16,
        bf16=True,
        fp16=False,
        activation_checkpointing=True,
        gradient_checkpointing=True,
        gradient_accumulation_steps=1,
        optim="adamw_torch_fused",
    )
    monkeypatch.setattr(memory, "free_gpu_memory", lambda: free * 10**9)
    config = SimpleNamespace(model=ModelSection(path=folders["1B"]), trainer=trainer)
    said = memory.check_memory(config, args, "sft", 471)
    assert args.activation_checkpointing is args.gradient_checkpointing is kept
    assert said.total < free * 10**9


def test_the_graph_engine_keeps_its_cache_and_a_copy(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = SimpleNamespace(
        per_device_train_batch_size=32,
        steps_per_generation=16,
        rollout_engine="transformers",
        bf16=True,
        fp16=False,
        activation_checkpointing=False,
        gradient_accumulation_steps=1,
        optim="adamw_torch_fused",
    )
    monkeypatch.setattr(memory, "free_gpu_memory", lambda: 140 * 10**9)
    config = SimpleNamespace(model=ModelSection(path=folders["135M"]), trainer={})
    plain = memory.check_memory(config, args, "ppo", 300)
    args.rollout_engine = "graph"
    more = memory.check_memory(config, args, "ppo", 300).total - plain.total
    # 512 rows of 300 tokens, keys and values of 30 layers with 3 heads of 64, and the weights, two bytes each
    assert more == 512 * 300 * 2 * 30 * 3 * 64 * 2 + 2 * memory.model_sizes(config.model).parameters
    args.rollout_batch_size = 4  # PPO's; it pads to 16
    config.model = config.model.model_copy(update={"dtype": "bfloat16"})
    few = memory.check_memory(config, args, "ppo", 300).total
    args.rollout_engine = "transformers"
    assert few - memory.check_memory(config, args, "ppo", 300).total == 16 * 300 * 2 * 30 * 3 * 64 * 2


@pytest.mark.gpu
def test_within_15_percent_on_this_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes and lengths that the estimate was not fitted to."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    benchmark = importlib.import_module("memory")
    model = benchmark.make_model(tmp_path / "240M", "240M")
    benchmark.make_scorer(model, tmp_path / "240M-scorer")
    for case in benchmark.held_out(list(benchmark.STAGES)):
        if case["shape"] == "240M":
            assert benchmark.measure(case, tmp_path, tmp_path)["ratio"] == pytest.approx(1, abs=0.15), case
