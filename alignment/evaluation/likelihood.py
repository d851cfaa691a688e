"""How likely a model finds answers: the summed log-probability of their tokens after the prompt."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from alignment.backend.chat import encode, render_text
from alignment.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Before a continuation: plain text, or the turns of a chat whose next one the continuation is.
Context = str | Sequence[Mapping[str, Any]]

# Logits of one batch: at most so many numbers, so that a vocabulary of 128,000 fits too.
MOST_LOGITS = 1 << 27


def asked_with(text: str, choices: Sequence[str], chat: bool) -> tuple[Context, Sequence[str]]:
    """A question with its choices as `choice_logps` takes them: a user's turn, or plain text, after which a
    choice begins with a blank."""
    if chat:
        return [{"role": "user", "content": text}], choices
    blank = "" if text[-1:].isspace() else " "
    return text, [blank + choice for choice in choices]


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


def choice_logps(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[tuple[Context, Sequence[str]]],
    progress: Any = None,
) -> list[list[LogProb]]:
    """For each (context, choices) one `LogProb` a choice: log p(choice | context), in nats, without an EOS.

    A context is plain text, to which a choice is joined as it is (begin it with a blank where words are set
    apart), or messages, whose next turn the choice begins. An empty context "" gives the probability of the
    choice as a whole text. `progress` gets the number of choices of each batch.
    Raises UserError, before anything is computed, for an item longer than the model's context.
    """
    rows = [continuation_ids(tokenizer, context, text) for context, texts in items for text in texts]
    numbers = [i for i, (_, texts) in enumerate(items) for _ in texts]
    room = context_size(model)
    for i, (prompt, completion) in zip(numbers, rows, strict=True):
        size = len(prompt) + len(completion)
        if size > room:
            raise UserError(
                f"{tokenizer.name_or_path}: item {i + 1} has {size:,} tokens with its answer, and the model "
                f"reads {room:,}; leave it out"
            )
    found: list[list[LogProb]] = [[] for _ in items]
    for i, log_prob in zip(numbers, completion_log_probs(model, rows, progress=progress), strict=True):
        found[i].append(log_prob)
    return found


def continuation_ids(
    tokenizer: PreTrainedTokenizerBase, context: Context, text: str
) -> tuple[list[int], list[int]]:
    """(ids of the context, ids that `text` adds); a token that spans the two is counted to the text.

    Plain text begins as the tokenizer begins one (with BOS, if it writes that); a chat as its template does.
    A context without a token becomes BOS, or EOS where there is none: a model needs one to begin from.
    """
    if isinstance(context, str):
        before, start = context, start_ids(tokenizer)
    else:
        before, start = render_text(tokenizer, context, open_turn=True), []
    alone, whole = encode(tokenizer, before), encode(tokenizer, before + text)
    shared = next((i for i, (a, b) in enumerate(zip(alone, whole, strict=False)) if a != b), len(alone))
    prompt = start + whole[:shared]
    return prompt or [any_start(tokenizer)], whole[shared:]


def context_size(model: Any) -> int:
    """The most tokens that a model reads at once; as good as endless where its config names no limit."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize


def start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer writes before a text: [BOS], or nothing."""
    first = tokenizer("a")["input_ids"][:1]
    return list(first) if first == [tokenizer.bos_token_id] else []


def any_start(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that stands before a text which has nothing before it: BOS, else EOS."""
    token = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if token is None:
        raise UserError(f"the tokenizer of {tokenizer.name_or_path} has no BOS and no EOS: set eos_token")
    return int(token)


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
