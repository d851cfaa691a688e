"""Scores for texts: any reward model, ours or foreign, as a callable that gives one number a completion.

A text has the same score alone and in a batch. The conversation is rendered with the scorer's own template
and tokenized with its own tokenizer, whatever the policy's are. Any callable with the shape of `Scorer` can
stand in for a reward model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from alignment.backend.chat import Messages, fingerprint, render_conversation, say_once
from alignment.backend.models import load_reward_model, load_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Scorer(Protocol):
    """What gives rewards: prompts, completions and whether each ended by itself -> one float each."""

    name: str

    def score(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[str],
        finished: Sequence[bool] | None = None,
    ) -> list[float]: ...


class RewardScorer:
    """A sequence-score model with its tokenizer. Build it with `load_scorer`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        max_length: int,
        token_budget: int = 16_384,
    ) -> None:
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self.max_length, self.token_budget = max_length, token_budget
        self.truncated = 0  # texts that were longer than max_length, since the start

    def score(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[str],
        finished: Sequence[bool] | None = None,
    ) -> list[float]:
        """One score for each prompt and completion, in order.

        `finished[i]` False: the completion was cut off and is read without a closing EOS. Texts longer than
        `max_length` lose their first tokens (counted in `truncated`, said once).
        """
        finished = [True] * len(completions) if finished is None else finished
        rows = zip(prompts, completions, finished, strict=True)
        return self.score_ids([render_conversation(self.tokenizer, p, c, f) for p, c, f in rows])

    __call__ = score

    def score_ids(self, ids: Sequence[Sequence[int]]) -> list[float]:
        """Scores of conversations given as token ids of this scorer's tokenizer, in order."""
        kept = [tuple(row[-self.max_length :]) for row in ids]
        cut = sum(len(row) > self.max_length for row in ids)
        if cut:
            self.truncated += cut
            say_once(f"{self.name}: texts over {self.max_length} tokens are scored without their beginning")
        from alignment.backend.batching import batches_by_length

        known: dict[tuple[int, ...], float] = {}
        for batch in batches_by_length(list(dict.fromkeys(kept)), self.token_budget):
            known.update(zip(batch, self._forward(batch), strict=True))
        return [known[row] for row in kept]

    def _forward(self, batch: Sequence[tuple[int, ...]]) -> list[float]:
        import torch

        from alignment.backend.batching import pad_right

        ids, mask = pad_right(batch, self.tokenizer.pad_token_id or 0, self.model.device)
        with torch.no_grad():
            return self.model(input_ids=ids, attention_mask=mask).logits.squeeze(-1).float().tolist()

    def tell_if_foreign(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        """True, and said once, when the policy's tokenizer or template is not this scorer's."""
        own = self.tokenizer
        same = own.get_vocab() == tokenizer.get_vocab() and fingerprint(own.chat_template) == fingerprint(
            tokenizer.chat_template
        )
        if not same:
            say_once(f"{self.name} has a tokenizer or template of its own: texts are re-rendered for it")
        return not same


def load_scorer(
    path: str,
    *,
    max_length: int | None = None,
    token_budget: int = 16_384,
    device: str | torch.device | None = None,
) -> RewardScorer:
    """The reward model at `path` (run directory, plain folder, adapter or hub id), ready to score.

    UserError when the path holds no reward model or its tokenizer no chat template.
    """
    from alignment.backend.chat import require_template
    from alignment.backend.config import ModelSection

    tokenizer = load_tokenizer(path)
    require_template(tokenizer)
    model = load_reward_model(ModelSection(path=path), trainable=False, device=device)
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 4096
    return RewardScorer(model, tokenizer, path, min(max_length or longest, longest), token_budget)
