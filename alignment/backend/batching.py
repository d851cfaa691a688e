"""Batches that waste little on padding: rows of like length together, in an order that can be repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

SKIPPED = 1 / 4  # of the longest row of a batch: what a row counts at least where padding is skipped


def batches_by_length(rows: Sequence[Any], token_budget: int, padded: bool = True) -> list[list[Any]]:
    """Rows (sequences), longest first, in batches of at most `token_budget` tokens (or one row).

    padded: a shorter row counts as long as the longest of its batch; else, where a model skips padding, as
    long as it is, but at least SKIPPED of the longest: ids and hidden states are padded all the same.
    """
    batches: list[list[Any]] = []
    room = 0
    for row in sorted(rows, key=len, reverse=True):
        longest = len(batches[-1][0]) if batches else 0
        length = longest if padded else unpadded_tokens(len(row), longest)
        if batches and length <= room:
            batches[-1].append(row)
            room -= length
        else:
            batches.append([row])
            room = token_budget - len(row)
    return batches


def unpadded_tokens(length: int, longest: int) -> int:
    """What a row counts in a batch whose padding a model skips; longest: of the batch."""
    return max(length, int(SKIPPED * longest))


def pad_right(
    rows: Sequence[Sequence[int]], pad_id: int, device: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (B, T) padded on the right and their attention mask (B, T), both int64."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids.to(device), mask.to(device)


class LengthGroupedSampler(torch.utils.data.Sampler[int]):
    """Indices in a random order, such that each run of `batch` of them has rows of like length.

    The order of an epoch depends on the seed and the epoch's number alone, so a resumed run goes on in the
    order of the unbroken one (the sampler of transformers draws from the global random state instead).
    Rows are shuffled, sorted by length within chunks of fifty batches, and the batches shuffled.
    """

    CHUNK = 50

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed = list(lengths), batch, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer at the start of an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        dice = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=dice).tolist()
        size = self.batch * self.CHUNK
        batches: list[list[int]] = []
        for start in range(0, len(order), size):
            chunk = sorted(order[start : start + size], key=lambda row: self.lengths[row])
            batches += [chunk[i : i + self.batch] for i in range(0, len(chunk), self.batch)]
        # a batch that is not full must stay last, or every batch after it would be cut across
        full = [batch for batch in batches if len(batch) == self.batch]
        rest = [batch for batch in batches if len(batch) < self.batch]
        shuffled = [full[i] for i in torch.randperm(len(full), generator=dice).tolist()]
        yield from (row for batch in shuffled + rest for row in batch)
