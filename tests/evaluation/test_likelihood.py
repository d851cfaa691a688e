"""Log-probabilities of completions against a plain loop over tokens."""

from __future__ import annotations

import random

import pytest

from alignment.evaluation.likelihood import completion_log_probs


@pytest.fixture(scope="module")
def model(toy_model: str):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(toy_model, dtype="float32").eval()


def plain(model, prompt: list[int], completion: list[int]) -> float:
    import torch

    total = 0.0
    for i, token in enumerate(completion):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion[:i]])).logits[0, -1]
        total += float(torch.log_softmax(logits, -1)[token])
    return total


def test_sums_equal_a_loop_in_any_batch(model) -> None:
    dice = random.Random(0)
    lengths = [(3, 5), (10, 1), (1, 7), (4, 4), (12, 6), (2, 0)]
    size = model.config.vocab_size
    rows = [
        ([dice.randrange(size) for _ in range(p)], [dice.randrange(size) for _ in range(c)])
        for p, c in lengths
    ]
    expected = [plain(model, *row) for row in rows]
    seen: list[int] = []
    for budget in (1, 20, 16_384):
        found = completion_log_probs(model, rows, budget, progress=seen.append)
        assert [lp.total for lp in found] == pytest.approx(expected, abs=1e-4)
        assert [lp.tokens for lp in found] == [c for _, c in lengths]
    assert sum(seen) == 3 * len(rows)


def test_only_empty_completions(model) -> None:
    assert completion_log_probs(model, [([1, 2], []), ([1], [])]) == [(0.0, 0), (0.0, 0)]
