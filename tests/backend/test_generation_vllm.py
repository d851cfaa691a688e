"""The vLLM engine, against a stand-in that speaks the API of vLLM 0.26: vLLM itself runs on GPUs alone."""

from __future__ import annotations

import importlib.machinery
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from alignment.backend import chat
from alignment.backend.config import ModelSection
from alignment.backend.generation import GenerationSection, generate, vllm_engine
from alignment.backend.models import load_policy, load_tokenizer
from alignment.errors import UserError

PROMPTS = [[{"role": "user", "content": "the cat " * (1 + 3 * (i % 3))}] for i in range(5)]


@dataclass
class SamplingParams:
    """The fields of vllm.SamplingParams that matter here, with its defaults; another name is a TypeError."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    logprobs: int | None = None
    detokenize: bool = True


class LLM:
    """vllm.LLM: samples from the model in a folder, a row at a time, each by its own seed."""

    made: list[LLM] = []  # noqa: RUF012 (the test's own record)

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        seed: int = 0,
        gpu_memory_utilization: float = 0.92,
        max_model_len: int | None = None,
    ) -> None:
        self.model = load_policy(ModelSection(path=model, dtype=dtype), trainable=False, device="cpu")  # type: ignore[arg-type]
        self.share = gpu_memory_utilization
        self.asked: list[SamplingParams] = []
        LLM.made.append(self)

    def generate(
        self,
        prompts: list[Any],
        sampling_params: Any = None,
        *,
        use_tqdm: bool = True,
        lora_request: Any = None,
    ) -> list[Any]:
        self.asked += sampling_params
        return [
            SimpleNamespace(outputs=[self._complete(prompt["prompt_token_ids"], wanted)])
            for prompt, wanted in zip(prompts, sampling_params, strict=True)
        ]

    def _complete(self, row: list[int], wanted: SamplingParams) -> Any:
        dice, ids, stops = torch.Generator(), list(row), set(wanted.stop_token_ids or ())
        dice.manual_seed(int(wanted.seed or 0))
        if not wanted.ignore_eos:
            stops.add(self.model.config.eos_token_id)
        while len(ids) < len(row) + int(wanted.max_tokens or 0):
            logits = self.model(torch.tensor([ids])).logits[0, -1]
            if wanted.temperature == 0:
                ids.append(int(logits.argmax()))
            else:
                ids.append(int((logits / wanted.temperature).softmax(-1).multinomial(1, generator=dice)))
            if ids[-1] in stops:
                return SimpleNamespace(token_ids=ids[len(row) :], finish_reason="stop", stop_reason=ids[-1])
        return SimpleNamespace(token_ids=ids[len(row) :], finish_reason="length", stop_reason=None)


@pytest.fixture
def policy(toy_model: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """A model as on a GPU, where vLLM is installed."""
    module: Any = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, SamplingParams
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(vllm_engine, "why_not", lambda model: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6_000, 8_000))
    monkeypatch.setattr(LLM, "made", [])
    return load_policy(ModelSection(path=toy_model), trainable=False, device="cpu"), load_tokenizer(toy_model)


def test_greedy_is_what_transformers_gives(policy: tuple[Any, Any]) -> None:
    wanted = {"max_new_tokens": 12, "temperature": 0.0}
    by_vllm = generate(*policy, PROMPTS, GenerationSection(**wanted, engine="vllm"), n=2)
    assert by_vllm == generate(*policy, PROMPTS, GenerationSection(**wanted), n=2)


def test_what_is_asked_of_vllm(policy: tuple[Any, Any]) -> None:
    model, tokenizer = policy
    asked = {"temperature": 0.7, "top_p": 0.9, "top_k": 5}
    done: list[int] = []
    settings = GenerationSection(max_new_tokens=3, engine="vllm", **asked)  # type: ignore[arg-type]
    generate(model, tokenizer, PROMPTS, settings, n=2, progress=done.append)
    (llm,) = LLM.made
    assert done == [10]  # vLLM makes its batches itself
    assert llm.share == pytest.approx(0.9 * 6 / 8)  # of what is free, the model's own weights being there
    assert llm.model.dtype == model.dtype
    for got in llm.asked:
        assert (got.max_tokens, got.temperature, got.top_p, got.top_k) == (3, 0.7, 0.9, 5)
        assert got.ignore_eos
        assert tokenizer.eos_token_id in (got.stop_token_ids or [])
    assert len({got.seed for got in llm.asked}) == 10
    generate(model, tokenizer, PROMPTS, settings)
    assert LLM.made == [llm]  # one engine a model


def test_seeds_and_endings(policy: tuple[Any, Any]) -> None:
    settings = GenerationSection(max_new_tokens=24, seed=4, engine="vllm")
    first = generate(*policy, PROMPTS, settings, n=2)
    assert generate(*policy, PROMPTS, settings, n=2) == first
    assert generate(*policy, PROMPTS, settings.model_copy(update={"token_budget": 60}), n=2) == first
    assert generate(*policy, PROMPTS, settings.model_copy(update={"seed": 5}), n=2) != first
    completions = [got for row in first for got in row]
    assert {got.finished for got in completions} == {True, False}
    for got in completions:
        assert got.finished == (got.token_ids[-1] == policy[1].eos_token_id)
        assert got.finished or len(got.token_ids) == 24
        assert "<|" not in got.text


def test_a_completion_that_was_given_up_is_no_completion(
    policy: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = SimpleNamespace(token_ids=[5], finish_reason="abort", stop_reason=None)
    monkeypatch.setattr(LLM, "_complete", lambda *given: lost)
    with pytest.raises(RuntimeError, match="by 'abort'"):
        generate(*policy, PROMPTS, GenerationSection(engine="vllm"))


def test_a_missing_vllm_is_named(policy: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"generation\.engine: vllm needs vLLM.*pip install vllm"):
        generate(*policy, PROMPTS, GenerationSection(engine="vllm"))


def test_what_it_cannot_do_is_said_and_done_by_transformers(
    toy_model: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "_SAID", set())
    model, tokenizer = (
        load_policy(ModelSection(path=toy_model), trainable=False, device="cpu"),
        load_tokenizer(toy_model),
    )
    plain = GenerationSection(max_new_tokens=5)
    asked = GenerationSection(max_new_tokens=5, engine="vllm")
    assert generate(model, tokenizer, PROMPTS, asked) == generate(model, tokenizer, PROMPTS, plain)
    assert "generation.engine vllm is not used: the model is on cpu" in caplog.text
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"), is_quantized=False)
    assert vllm_engine.why_not(on_gpu) is None
    on_gpu.is_quantized = True
    assert "quantised" in str(vllm_engine.why_not(on_gpu))
    adapted: Any = SimpleNamespace(peft_config={}, get_base_model=lambda: on_gpu)
    assert "alignkit export" in str(vllm_engine.why_not(adapted))
