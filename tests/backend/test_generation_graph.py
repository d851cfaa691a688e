"""The graph engine: the tokens that transformers gives, whatever is padded, retired or reused."""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alignment.backend.chat import render_prompt
from alignment.backend.config import ModelSection
from alignment.backend.generation import GenerationSection, generate, graph
from alignment.backend.generation.graph import GraphEngine, why_not
from alignment.backend.models import load_policy, load_tokenizer
from alignment.backend.packed import states

TEXTS = ["the cat", "a hen ran to the red mat and sat " * 3, "dog", "sun " * 20, "."]


@pytest.fixture(scope="module")
def policy(toy_model: str) -> Any:
    return load_policy(ModelSection(path=toy_model), trainable=False, device="cpu")


@pytest.fixture(scope="module")
def prompts(toy_model: str) -> list[list[int]]:
    tokenizer = load_tokenizer(toy_model)
    return [
        render_prompt(tokenizer, [{"role": "user", "content": TEXTS[i % 5] * (1 + i % 2)}]) for i in range(21)
    ]


def by_transformers(policy: Any, row: list[int], new: int, stop: int) -> list[int]:
    ids = policy.generate(
        torch.tensor([row], device=policy.device),
        max_new_tokens=new,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=0,
    )[0, len(row) :].tolist()
    return ids[: ids.index(stop) + 1] if stop in ids else ids


def a_stop(policy: Any, prompts: list[list[int]]) -> int:
    """A token that some greedy completions hold early, others late or never: rows end apart."""
    greedy = [by_transformers(policy, row, 40, -1) for row in prompts]
    places = {
        token: sorted(ids.index(token) if token in ids else 99 for ids in greedy)
        for token in {token for ids in greedy for token in ids}
    }
    return max(
        places, key=lambda token: sum(place < 10 for place in places[token]) * (places[token][-1] == 99)
    )


def test_greedy_is_what_transformers_gives_while_rows_are_retired(
    policy: Any, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "CHECK", 4)
    monkeypatch.setattr(graph, "LEAST", 2)
    stop = a_stop(policy, prompts)
    engine, sizes = GraphEngine(policy), set()
    step = graph._Batch.step
    monkeypatch.setattr(graph._Batch, "step", lambda self, size: (sizes.add(size), step(self, size)))
    for rows in (prompts, prompts[:3], prompts[5:12]):  # caches are used again, with what the last batch left
        found = engine.decode(rows, 40, [stop], pad_id=0, temperature=0.0)
        assert [got.token_ids for got in found] == [by_transformers(policy, row, 40, stop) for row in rows]
    assert len(sizes) > 2, sizes  # batches were halved


def test_log_probabilities_are_those_of_a_fresh_forward(policy: Any, prompts: list[list[int]]) -> None:
    torch.manual_seed(3)
    for temperature in (1.0, 0.7):
        for row, got in zip(
            prompts, GraphEngine(policy).decode(prompts, 12, [2], 0, temperature), strict=True
        ):
            ids = torch.tensor([[*row, *got.token_ids]])
            with torch.no_grad():
                logps = (policy(ids).logits[0, len(row) - 1 : -1] / temperature).log_softmax(-1)
            wanted = logps.gather(1, torch.tensor(got.token_ids)[:, None]).squeeze(1)
            torch.testing.assert_close(torch.tensor(got.logps), wanted, atol=1e-4, rtol=0)


def test_samples_come_from_the_models_own_distribution(policy: Any, prompts: list[list[int]]) -> None:
    torch.manual_seed(0)
    found = GraphEngine(policy).decode([prompts[0]] * 4096, 1, [2], 0)
    counts = torch.bincount(
        torch.tensor([got.token_ids[0] for got in found]), minlength=policy.config.vocab_size
    )
    with torch.no_grad():
        wanted = policy(torch.tensor([prompts[0]])).logits[0, -1].softmax(-1)
    chi_square = ((counts - 4096 * wanted) ** 2 / (4096 * wanted)).sum().item()
    assert chi_square < len(wanted) + 5 * (2 * len(wanted)) ** 0.5


def test_weights_that_change_in_place_are_seen(toy_model: str, prompts: list[list[int]]) -> None:
    model = load_policy(ModelSection(path=toy_model), trainable=False, device="cpu")
    engine = GraphEngine(model)
    before = engine.decode(prompts[:4], 8, [2], 0, 0.0)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight.roll(7, 0))
    after = engine.decode(prompts[:4], 8, [2], 0, 0.0)
    assert after != before
    assert [got.token_ids for got in after] == [by_transformers(model, row, 8, 2) for row in prompts[:4]]


def test_another_models_forward_meanwhile_is_not_taken_for_the_engines(
    policy: Any, toy_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a server whose threads score with one model and sample from another."""
    other, ids = load_policy(ModelSection(path=toy_model), trainable=False, device="cpu"), torch.tensor([[5]])

    def busy(*given: Any) -> None:
        other(ids)
        states(other.base_model, ids[0], torch.tensor([1]))

    handle = policy.model.layers[0].register_forward_pre_hook(busy)
    layers = GraphEngine(policy).layers
    handle.remove()
    assert [module for module, _, _ in layers] == [layer.self_attn for layer in policy.model.layers]


def test_a_cache_is_freed_before_the_next_is_made_and_with_the_engine(
    policy: Any, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, made = GraphEngine(policy), graph._Batch.__init__
    batches: list[Any] = []

    def held_by_the_model() -> list[str]:
        return [
            name
            for module in policy.modules()
            for name, value in vars(module).items()
            if name.startswith("cached_") and value is not None
        ]

    def making(self: Any, *given: Any) -> None:
        assert not held_by_the_model()
        assert not any(batch() is not None for batch in batches)
        made(self, *given)
        batches.append(weakref.ref(self))

    monkeypatch.setattr(graph._Batch, "__init__", making)
    for new_tokens in (4, 200):
        engine.decode(prompts[:3], new_tokens, [2], 0)
    assert len(batches) == 2
    del engine
    assert not held_by_the_model()
    assert not any(batch() is not None for batch in batches)


@pytest.mark.parametrize(("rows", "bucket"), [(1, 16), (16, 16), (17, 24), (25, 32), (384, 384), (512, 512)])
def test_buckets(rows: int, bucket: int) -> None:
    assert graph._bucket(rows) == bucket


def test_what_it_cannot_do_is_said_and_done_by_transformers(
    policy: Any, toy_model: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment.backend import chat

    assert "graphs are CUDA's" in str(why_not(policy, 1.0, 1.0, 0))
    monkeypatch.setattr(graph, "why_not_packed", lambda model: None)
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"), config=policy.config)
    assert why_not(on_gpu, 1.0, 1.0, 0) is None
    assert why_not(on_gpu, 1.0, 0.9, 0) == "top_p and top_k are left to transformers"

    chat._SAID.clear()
    tokenizer, messages = load_tokenizer(toy_model), [[{"role": "user", "content": "the cat"}]]
    asked = GenerationSection(max_new_tokens=5, engine="graph")
    plain = GenerationSection(max_new_tokens=5)
    assert generate(policy, tokenizer, messages, asked) == generate(policy, tokenizer, messages, plain)
    assert "generation.engine graph is not used: the model is on cpu" in caplog.text


def test_a_step_that_fails_to_be_captured_runs_in_the_open(
    policy: Any, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from contextlib import nullcontext

    from alignment.backend import chat

    def fails(*given: Any, **options: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    wanted = GraphEngine(policy).decode(prompts, 9, [2], 0, 0.0)
    stream = SimpleNamespace(wait_stream=lambda other: None)
    here: dict[str, Any] = {
        "graph_pool_handle": lambda: "pool",
        "get_rng_state": lambda device: torch.get_rng_state(),
        "set_rng_state": lambda state, device: torch.set_rng_state(state),
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda given: nullcontext(),
        "CUDAGraph": lambda: None,
        "graph": fails,
    }
    for name, value in here.items():
        monkeypatch.setattr(torch.cuda, name, value)
    chat._SAID.clear()
    engine = GraphEngine(policy)
    init = graph._Batch.__init__

    def as_on_a_gpu(self: Any, *given: Any) -> None:
        init(self, *given)
        self.pool = "pool"

    monkeypatch.setattr(graph._Batch, "__init__", as_on_a_gpu)
    assert engine.decode(prompts, 9, [2], 0, 0.0) == wanted
    assert "without a CUDA graph, which it fails: operation not permitted" in caplog.text


@pytest.mark.gpu
def test_on_a_gpu_the_captured_step_gives_the_same_tokens(toy_model: str, prompts: list[list[int]]) -> None:
    model = load_policy(ModelSection(path=toy_model, dtype="float32"), trainable=False, device="cuda")
    engine = GraphEngine(model)
    wanted = [by_transformers(model, torch.tensor(row).tolist(), 40, 2) for row in prompts]
    for _ in range(2):  # captured, then replayed
        found = engine.decode(prompts, 40, [2], 0, 0.0)
        assert [got.token_ids for got in found] == wanted
    torch.manual_seed(1)
    first = engine.decode(prompts, 40, [2], 0)
    torch.manual_seed(1)
    assert GraphEngine(model).decode(prompts, 40, [2], 0) == first, "a capture draws no random numbers"


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu_a_copy_in_bfloat16_follows_the_weights(
    toy_model: str, prompts: list[list[int]], compiled: bool
) -> None:
    model = load_policy(ModelSection(path=toy_model, dtype="float32"), trainable=False, device="cuda")
    engine = GraphEngine(model, torch.bfloat16, compiled)
    torch.manual_seed(0)
    for _ in range(2):
        for row, got in zip(prompts, engine.decode(prompts, 40, [2], 0), strict=True):
            ids = torch.tensor([[*row, *got.token_ids]], device="cuda")
            with torch.no_grad():
                logps = model(ids).logits[0, len(row) - 1 : -1].log_softmax(-1)
            wanted = logps.gather(1, torch.tensor(got.token_ids, device="cuda")[:, None]).squeeze(1)
            assert (torch.tensor(got.logps) - wanted.cpu()).abs().mean() < 0.05
        with torch.no_grad():
            model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight.roll(7, 0))
