"""Log-probabilities of completions against a plain loop over tokens."""

from __future__ import annotations

import random

import pytest

from alignment.errors import UserError
from alignment.evaluation.likelihood import choice_logps, completion_log_probs, continuation_ids


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


@pytest.fixture(scope="module")
def tokenizer(toy_model: str):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(toy_model)


def test_choices_after_plain_text_equal_a_loop(model, tokenizer) -> None:
    items = [("the cat sat on", [" a mat", " the red hen ."]), ("", ["the dog ran"]), ("the dog", [" ran"])]
    seen: list[int] = []
    found = choice_logps(model, tokenizer, items, progress=seen.append)
    assert [len(row) for row in found] == [2, 1, 1]
    assert sum(seen) == 4
    for (context, texts), row in zip(items, found, strict=True):
        for text, log_prob in zip(texts, row, strict=True):
            before = tokenizer(context)["input_ids"] or [tokenizer.eos_token_id]
            after = tokenizer(context + text)["input_ids"][len(tokenizer(context)["input_ids"]) :]
            assert log_prob.tokens == len(after)
            assert log_prob.total == pytest.approx(plain(model, before, after), abs=1e-4)


def test_choices_after_a_chat_begin_the_next_turn(model, tokenizer) -> None:
    turns = [{"role": "user", "content": "the cat"}]
    (row,) = choice_logps(model, tokenizer, [(turns, ["sat"])])
    before = tokenizer("<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    assert row[0].total == pytest.approx(plain(model, before, tokenizer("sat")["input_ids"]), abs=1e-4)


def test_a_token_across_the_border_counts_to_the_text(tokenizer) -> None:
    prompt, added = continuation_ids(tokenizer, "the c", "at")
    assert tokenizer.decode(prompt + added) == "the cat"
    whole = tokenizer("the cat")["input_ids"]
    assert prompt + added == whole
    assert prompt == tokenizer("the")["input_ids"]  # "at" joins " c" to one token, " cat"


def test_an_item_longer_than_the_context_is_named(model, tokenizer) -> None:
    with pytest.raises(UserError, match=r"item 2 has [\d,]+ tokens"):
        choice_logps(model, tokenizer, [("the", [" cat"]), ("the cat " * 600, [" sat"])])
