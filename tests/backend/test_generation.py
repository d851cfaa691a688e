"""Completions: order, seed, batches, endings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alignment.backend.chat import render_prompt
from alignment.backend.config import ModelSection
from alignment.backend.generation import GenerationSection, generate, graph, sampling
from alignment.backend.models import load_policy, load_tokenizer
from alignment.errors import UserError

PROMPTS = [[{"role": "user", "content": "the cat " * (1 + 3 * (i % 3))}] for i in range(5)]


@pytest.fixture(scope="module")
def policy(toy_model: str) -> tuple:
    return load_policy(ModelSection(path=toy_model), trainable=False, device="cpu"), load_tokenizer(toy_model)


def test_greedy_is_the_argmax_of_the_model_whatever_the_batching(policy: tuple) -> None:
    model, tokenizer = policy
    settings = GenerationSection(max_new_tokens=6, temperature=0.0)
    together = generate(model, tokenizer, PROMPTS, settings)
    alone = generate(model, tokenizer, PROMPTS, settings.model_copy(update={"token_budget": 1}))
    assert together == alone
    for prompt, (got,) in zip(PROMPTS, together, strict=True):
        ids = render_prompt(tokenizer, prompt)
        for token in got.token_ids:
            assert model(torch.tensor([ids])).logits[0, -1].argmax() == token
            ids.append(token)


def test_the_budget_of_a_batch_goes_by_the_engine_that_is_used(
    policy: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sampling.BUDGETS["transformers"] < sampling.BUDGETS["graph"]
    monkeypatch.setattr(sampling, "BUDGETS", {"transformers": 1, "graph": 10_000})
    sizes: list[int] = []

    def batches(**settings: Any) -> list[int]:
        sizes.clear()
        generate(*policy, PROMPTS, GenerationSection(max_new_tokens=2, **settings), progress=sizes.append)
        return list(sizes)

    assert batches() == [1] * 5
    assert batches(engine="graph") == [1] * 5  # on a CPU it is transformers that samples
    assert batches(token_budget=10_000) == [5]
    monkeypatch.setattr(graph, "why_not", lambda *settings: None)
    assert batches(engine="graph") == [5]
    assert batches(engine="graph", token_budget=1) == [1] * 5


def test_seeded_in_order_and_random_state_left_alone(policy: tuple) -> None:
    model, tokenizer = policy
    settings = GenerationSection(max_new_tokens=8, seed=4)
    state = torch.get_rng_state()
    done: list[int] = []
    first = generate(model, tokenizer, PROMPTS, settings, n=3, progress=done.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert sum(done) == 15
    torch.rand(3)
    assert generate(model, tokenizer, PROMPTS, settings, n=3) == first
    assert generate(model, tokenizer, PROMPTS, settings.model_copy(update={"seed": 5}), n=3) != first
    assert [len(row) for row in first] == [3] * 5
    assert len({got.text for got in first[0]}) > 1
    assert model.training is False


def test_finished_means_ended_with_a_stop_token(policy: tuple) -> None:
    model, tokenizer = policy
    eos = tokenizer.eos_token_id
    rows = generate(model, tokenizer, PROMPTS, GenerationSection(max_new_tokens=60, seed=1), n=8)
    completions = [got for row in rows for got in row]
    assert {got.finished for got in completions} == {True, False}
    for got in completions:
        assert got.finished == (got.token_ids[-1] == eos)
        assert got.token_ids.count(eos) == int(got.finished)
        assert "<|" not in got.text
        assert len(got.token_ids) <= 60


def test_samples_come_from_the_models_own_distribution(policy: tuple) -> None:
    """No warper by default, even if the model's generation config carries some."""
    model, tokenizer = policy
    own = model.generation_config
    model.generation_config = type(own)(top_k=1, do_sample=True, repetition_penalty=9.0)
    try:
        rows = generate(model, tokenizer, PROMPTS[:1], GenerationSection(max_new_tokens=1), n=4000)
    finally:
        model.generation_config = own
    counts = torch.bincount(torch.tensor([got.token_ids[0] for got in rows[0]]), minlength=len(tokenizer))
    with torch.no_grad():
        wanted = model(torch.tensor([render_prompt(tokenizer, PROMPTS[0])])).logits[0, -1].softmax(-1)
    chi_square = ((counts - 4000 * wanted) ** 2 / (4000 * wanted)).sum().item()
    assert chi_square < len(tokenizer) + 5 * (2 * len(tokenizer)) ** 0.5


def test_no_room(policy: tuple) -> None:
    model, tokenizer = policy
    with pytest.raises(UserError, match=r"prompt 1 has .* tokens"):
        generate(model, tokenizer, PROMPTS, GenerationSection(max_new_tokens=600))
    names = [f"row-{k}" for k in range(len(PROMPTS))]
    with pytest.raises(UserError, match=r"prompt row-0 has \d+ tokens .*all fit with \d+ or fewer"):
        generate(model, tokenizer, PROMPTS, GenerationSection(max_new_tokens=600), names=names)
