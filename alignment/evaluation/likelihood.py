"""How likely a model finds answers: the summed log-probability of their tokens after the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits of one batch: at most so many numbers, so that a vocabulary of 128,000 fits too.
MOST_LOGITS = 1 << 27


class LogProb(NamedTuple):
    """log p(completion | prompt) in nats, summed over `tokens` tokens (the closing EOS included)."""

    total: float
    tokens: int


def completion_log_probs(
    model: PreTrainedModel,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    token_budget: int | None = None,
    progress: Any = None,
) -> list[LogProb]:
    """One `LogProb` for each (prompt ids, completion ids), in order. Prompts hold at least one token.

    Computed in float32 from the model's logits, at temperature 1, in batches of like length of at most
    `token_budget` padded tokens (default 16,384 on a GPU; 1,024 on a CPU, whose cache then holds what a layer
    makes, which is twice as fast). An empty completion has log-probability 0 over 0 tokens.
    """
    import torch

    default = 1_024 if model.device.type == "cpu" else 16_384
    budget = min(token_budget or default, max(1, MOST_LOGITS // model.config.get_text_config().vocab_size))
    results = [LogProb(0.0, 0)] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i][0]) - len(rows[i][1]), i))
    start = 0
    while start < len(order):
        width = sum(map(len, rows[order[start]]))
        batch = order[start : start + max(1, budget // max(1, width))]
        with torch.no_grad():
            totals = _batch_totals(model, [rows[i] for i in batch])
        for i, total in zip(batch, totals, strict=True):
            results[i] = LogProb(total, len(rows[i][1]))
        start += len(batch)
        if progress is not None:
            progress(len(batch))
    return results


def _batch_totals(model: Any, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
    """Summed log-probabilities of the completions of one batch, padded on the right: (B,)."""
    import torch

    width = max(len(p) + len(c) for p, c in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    attended = torch.zeros((len(rows), width), dtype=torch.long)
    answered = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor([*prompt, *completion])
        attended[i, :end] = 1
        answered[i, len(prompt) : end] = True
    first = min(len(p) for p, _ in rows)
    if first == width:
        return [0.0] * len(rows)
    ids, attended, answered = (t.to(model.device) for t in (ids, attended, answered))
    # Logits at position t are for token t + 1, so the completions need those from `first - 1` on.
    logits = (
        model(input_ids=ids, attention_mask=attended, logits_to_keep=width - first + 1, use_cache=False)
        .logits[:, :-1]
        .float()
    )
    targets = ids[:, first:, None]
    chosen = logits.gather(-1, targets).squeeze(-1) - torch.logsumexp(logits, dim=-1)
    return chosen.masked_fill(~answered[:, first:], 0.0).double().sum(-1).tolist()
