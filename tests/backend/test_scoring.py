"""A text alone has the same score as in a batch; cut-off texts get no EOS; foreign tokenizers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alignment.backend.batching import batches_by_length, pad_right
from alignment.backend.chat import render_conversation
from alignment.backend.config import ModelSection
from alignment.backend.models import load_reward_model, load_tokenizer
from alignment.backend.scoring import RewardScorer, load_scorer

TEXTS = ["ran .", "the cat sat on a mat and the dog ran to the red hen", "", "a hen", "the mat"]
PROMPTS = [[{"role": "user", "content": "the cat " * (i + 1)}] for i in range(len(TEXTS))]


@pytest.fixture(scope="module")
def reward_model(toy_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reward")
    load_reward_model(ModelSection(path=toy_model)).save_pretrained(folder)
    load_tokenizer(toy_model).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_alone_as_in_a_batch_padded_either_side(reward_model: str, pad_is_eos: bool) -> None:
    """design/training.md 5, with a pad that is EOS too."""
    scorer = load_scorer(reward_model, device="cpu")
    pad = scorer.tokenizer.eos_token_id if pad_is_eos else scorer.tokenizer.pad_token_id
    rows = [render_conversation(scorer.tokenizer, p, t) for p, t in zip(PROMPTS, TEXTS, strict=True)]
    rows += [row[:-1] for row in rows]  # as templates have it that end in EOS
    assert rows[-1][-1] == scorer.tokenizer.eos_token_id
    ids, mask = pad_right(rows, pad)
    left_ids, left_mask = torch.full_like(ids, pad), torch.zeros_like(mask)
    for i, row in enumerate(rows):
        left_ids[i, -len(row) :], left_mask[i, -len(row) :] = torch.tensor(row), 1
    scorer.model.config.pad_token_id = pad
    with torch.no_grad():
        alone = torch.cat([scorer.model(torch.tensor([row])).logits for row in rows])
        by_hand = [scorer.model.model(torch.tensor([row])).last_hidden_state[:, -1] for row in rows]
        assert torch.allclose(alone, scorer.model.score(torch.cat(by_hand)), atol=1e-6)
        right = scorer.model(input_ids=ids, attention_mask=mask).logits
        left = scorer.model(input_ids=left_ids, attention_mask=left_mask).logits
    assert torch.allclose(alone, right, atol=1e-6)
    assert torch.allclose(alone, left, atol=1e-6)
    assert alone.std() > 1e-3


def test_scores_keep_order_whatever_the_budget(reward_model: str) -> None:
    scorer = load_scorer(reward_model, device="cpu")
    together = scorer.score(PROMPTS, TEXTS)
    scorer.token_budget = 1
    assert scorer.score(PROMPTS, TEXTS) == pytest.approx(together, abs=1e-6)
    assert scorer(PROMPTS[::-1], TEXTS[::-1]) == pytest.approx(together[::-1], abs=1e-6)


def test_cut_off_completion_gets_no_closing_token(reward_model: str) -> None:
    """design/training.md 6."""
    scorer = load_scorer(reward_model, device="cpu")
    eos = scorer.tokenizer.eos_token_id
    whole = render_conversation(scorer.tokenizer, PROMPTS[0], "the cat sat")
    cut = render_conversation(scorer.tokenizer, PROMPTS[0], "the cat sat", finished=False)
    assert whole[: len(cut)] == cut
    assert whole.count(eos) == cut.count(eos) + 1
    assert scorer.tokenizer.decode(cut).endswith("the cat sat")
    finished, unfinished = scorer.score(PROMPTS[:1] * 2, ["the cat sat"] * 2, [True, False])
    assert finished != unfinished


def test_foreign_tokenizer_is_rendered_again(
    reward_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """design/training.md 6: another vocabulary and template; the score is of the scorer's own rendering."""
    from toy import make_toy_model

    other = load_tokenizer(make_toy_model(tmp_path / "other"))
    other.chat_template = other.chat_template.replace("<|im_start|>", "## ")
    scorer = load_scorer(reward_model, device="cpu")
    assert scorer.tell_if_foreign(other)
    assert scorer.tell_if_foreign(other)
    assert caplog.text.count("re-rendered") == 1
    assert not scorer.tell_if_foreign(load_tokenizer(reward_model))
    ids = render_conversation(scorer.tokenizer, PROMPTS[1], TEXTS[1])
    assert scorer.score(PROMPTS[1:2], TEXTS[1:2]) == pytest.approx(scorer.score_ids([ids]), abs=1e-7)


def test_long_texts_keep_their_end_and_are_counted(reward_model: str) -> None:
    loaded = load_scorer(reward_model, device="cpu")
    scorer = RewardScorer(loaded.model, loaded.tokenizer, "short", max_length=8)
    assert scorer.score_ids([list(range(5, 30))]) == scorer.score_ids([list(range(22, 30))])
    assert scorer.truncated == 1


def test_batches_by_length() -> None:
    batches = batches_by_length([[1], [1, 2, 3], [1, 2], [1, 2, 3]], token_budget=6)
    assert [[len(row) for row in batch] for batch in batches] == [[3, 3], [2, 1]]


def test_batches_without_padding_hold_no_row_that_is_mostly_padding() -> None:
    rows = [[1] * 100, *([[1]] * 200)]
    batches = batches_by_length(rows, token_budget=200, padded=False)
    assert sorted(len(row) for batch in batches for row in batch) == [1] * 200 + [100]
    assert all(len(batch) * len(batch[0]) <= 4 * 200 for batch in batches)
    assert max(len(batch) for batch in batches) > 100


def test_the_head_is_float32_on_half_precision_weights(toy_model: str) -> None:
    model = load_reward_model(ModelSection(path=toy_model, dtype="bfloat16"))
    assert model.model.embed_tokens.weight.dtype == torch.bfloat16
    ids = torch.randint(5, 200, (64, 12))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert scores.dtype == torch.float32
    assert (scores != scores.bfloat16().float()).any()
