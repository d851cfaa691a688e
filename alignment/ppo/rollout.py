"""A rollout: B prompts with completions as CPU tensors in a dict, and how it is cut for forward passes.

    input_ids (B, L)      prompt and completion without a gap, padded on the right
    prompt_lengths (B,)   lengths (B,) of the completions, EOS included
    finished (B,), scores (B,)
    old_logps, ref_logps, old_values, entropy, rewards, advantages, returns (B, T): one a completion token
    order (S, b)          rows of the micro-batches of the current epoch
    tokens (S/A,)         completion tokens of each optimiser batch, all ranks

T is the longest completion, S the micro-batches of b rows, A those of an optimiser batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from alignment.ppo.losses import completion_mask

Rollout = dict[str, Tensor]
MEASURED = 32_768  # tokens in a pass without gradients; a layer's widest tensor is what it takes of memory


def pack(prompt_ids: Sequence[list[int]], completion_ids: Sequence[list[int]], pad_id: int) -> Rollout:
    """Token ids of prompts and of their completions, each at least one token -> ids and lengths."""
    rows = [torch.tensor([*head, *tail]) for head, tail in zip(prompt_ids, completion_ids, strict=True)]
    return {
        "input_ids": pad_sequence(rows, batch_first=True, padding_value=pad_id),
        "prompt_lengths": torch.tensor([len(ids) for ids in prompt_ids]),
        "lengths": torch.tensor([len(ids) for ids in completion_ids]),
    }


def forward_arguments(rollout: Rollout, rows: Tensor) -> Rollout:
    """What `actor_critic_forward` takes for these rows (b,): their tokens end to end."""
    starts, lengths = rollout["prompt_lengths"][rows], rollout["lengths"][rows]
    totals = starts + lengths
    ids = rollout["input_ids"][rows][completion_mask(totals, rollout["input_ids"].shape[1])]
    which, step = completion_mask(lengths, int(lengths.max())).nonzero(as_tuple=True)
    targets = (totals.cumsum(0) - totals + starts)[which] + step  # where completion tokens are
    return {"input_ids": ids, "lengths": totals, "places": targets - 1, "targets": ids[targets]}


def token_values(rollout: Rollout, rows: Tensor, names: Sequence[str]) -> Rollout:
    """The (B, T) tensors `names` at the N completion tokens of these rows, (N,), in the forward's order."""
    mask = completion_mask(rollout["lengths"][rows], rollout[names[0]].shape[1])
    return {name: rollout[name][rows][mask] for name in names}


def measure(rollout: Rollout, size: int | None, forward: Callable[[Rollout], Rollout]) -> Rollout:
    """What `forward` gives for `forward_arguments`, (N,) each by name, as (B, T), 0 past the last token.

    `size` rows at a time, or of MEASURED tokens: the fewer the passes, the less time goes to launching them.
    """
    lengths = rollout["lengths"]
    total = rollout["prompt_lengths"] + lengths
    order = total.argsort(stable=True)
    parts: Sequence[Tensor] = order.split(size) if size else _of_tokens(order, total[order], MEASURED)
    found: Rollout = {}
    for rows in parts:
        mask = completion_mask(lengths[rows], int(lengths.max()))
        for name, values in forward(forward_arguments(rollout, rows)).items():
            table = found.setdefault(name, torch.zeros(len(lengths), mask.shape[1]))
            table[rows] = torch.zeros(mask.shape).masked_scatter_(mask, values.float().cpu())
    return found


def _of_tokens(rows: Tensor, tokens: Tensor, most: int) -> Sequence[Tensor]:
    """`rows` in runs of at most about `most` tokens."""
    part = (tokens.cumsum(0) - 1) // most
    return rows.split(part.unique_consecutive(return_counts=True)[1].tolist())


def shuffled(rollout: Rollout, rows_per_update: int, parts: int) -> Tensor:
    """A random order of the rows, (updates, rows of an optimiser batch), each to be cut into `parts`.

    Rows are dealt to the parts by length, to and fro, so that all hold about as many tokens and none needs
    much more memory than another; the loss does not depend on how it is cut.
    """
    total = rollout["prompt_lengths"] + rollout["lengths"]
    order = torch.randperm(len(total)).view(-1, rows_per_update)
    order = order.gather(1, total[order].argsort(dim=1, descending=True, stable=True))
    dealt = order.view(len(order), -1, parts).clone()
    dealt[:, 1::2] = dealt[:, 1::2].flip(2)
    return dealt.transpose(1, 2).reshape(len(order), rows_per_update)
