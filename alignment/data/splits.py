"""Splits by prompt: which side a record is on is told by a hash of its prompt, on every machine alike."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from alignment.data.records import Message, Record, nearest
from alignment.errors import UserError


def normalised(prompt: list[Message]) -> str:
    """A prompt's text without what makes it no other prompt: case, white space, width of characters."""
    text = "\n".join(f"{message.role}: {' '.join(message.content.split())}" for message in prompt)
    return text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def prompt_key(record: Record) -> bytes:
    """8 bytes, the same for records with the same normalised prompt (or texts, where there is no prompt)."""
    text = normalised(record.prompt) if record.prompt else "\n".join(c.text for c in record.completions)
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def in_validation(record: Record, fraction: float, seed: int = 0) -> bool:
    """Whether a record belongs to the validation side: told by its prompt alone, on every machine alike.

    A larger fraction keeps what a smaller one chose. The side does not depend on the other records.
    """
    return _place(prompt_key(record), seed) < fraction * 2**64


def _place(key: bytes, seed: int) -> int:
    """Where a prompt lies on the line from 0 to 2^64 that the parts of a split share out."""
    digest = hashlib.blake2b(key, digest_size=8, salt=seed.to_bytes(16, "little")).digest()
    return int.from_bytes(digest, "big")


def split(records: Iterable[Record], fraction: float, seed: int = 0) -> tuple[list[Record], list[Record]]:
    """(train, validation): about `fraction` of the prompts on the validation side, no prompt on both.

    Raises UserError unless 0 < fraction < 1, and where either side would be empty.
    """
    check_fraction(fraction, seed)
    sides: tuple[list[Record], list[Record]] = ([], [])
    for record in records:
        sides[in_validation(record, fraction, seed)].append(record)
    if not sides[0] or not sides[1]:
        side = "validation" if sides[0] else "training"
        raise UserError(
            f"a validation fraction of {fraction} leaves no record for {side}; change it or the seed"
        )
    return sides


def check_fraction(fraction: float, seed: int) -> None:
    """Raise UserError unless 0 < fraction < 1 and seed >= 0."""
    if not 0 < fraction < 1:
        raise UserError(f"the validation fraction is {fraction}; it must be between 0 and 1")
    if seed < 0:
        raise UserError(f"the seed is {seed}; it cannot be negative")


class Splitter:
    """Tells each record the part it belongs to; a prompt is in one part only.

    shares: of the prompts, one for each part, adding up to 1; the last parts lie first on the hash line, so
        that [0.9, 0.1] is `in_validation` with 0.1.
    stratify: a path such as "meta.source" whose values are each split by the same shares. Without it a part
        is told by the prompt alone: adding, removing or reordering records moves none. With it the hash tells
        the part too, except where this would put more than one prompt over its share of the stratum so far:
        that prompt goes to the part that lags most. So every stratum is split to within one prompt a part at
        every point of the file, and records that are added at the end move none that were there before; but
        another order of the records can move some. Memory then grows by about 150 bytes a prompt.
    Raises UserError for shares that do not add up, a negative seed, or a path that no record can have.
    """

    def __init__(self, shares: Sequence[float], seed: int = 0, stratify: str | None = None) -> None:
        if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            given = ", ".join(f"{share:g}" for share in shares)
            raise UserError(f"the shares are {given}; they must be above 0 and add up to 1")
        if seed < 0:
            raise UserError(f"the seed is {seed}; it cannot be negative")
        if stratify is not None and stratify.split(".")[0] not in Record.__struct_fields__:
            key = stratify.split(".")[0]
            raise UserError(f'stratify: a record has no "{key}"{nearest(key, set(Record.__struct_fields__))}')
        self.shares, self.seed, self.path = list(shares), seed, stratify
        self.strata: dict[str, list[int]] = {}  # prompts in each part, by value; only with stratify
        self._parts: dict[bytes, int] = {}

    def part(self, record: Record) -> int:
        """The index of the record's part."""
        key = prompt_key(record)
        hashed = self._hashed(_place(key, self.seed))
        if self.path is None:
            return hashed
        if key not in self._parts:  # else the prompt stays where it is, whatever this record's stratum
            counts = self.strata.setdefault(stratum(record, self.path), [0] * len(self.shares))
            self._parts[key] = part = self._balanced(hashed, counts)
            counts[part] += 1
        return self._parts[key]

    def _hashed(self, place: int) -> int:
        end = 0.0
        for part in range(len(self.shares) - 1, 0, -1):
            end += self.shares[part]
            if place < end * 2**64:
                return part
        return 0

    def _balanced(self, hashed: int, counts: list[int]) -> int:
        total = sum(counts) + 1
        lag = [share * total - count for share, count in zip(self.shares, counts, strict=True)]
        return hashed if lag[hashed] >= 0 else lag.index(max(lag))


def stratum(record: Record, path: str) -> str:
    """The value at a dotted path as text, a list in sorted order; "(none)" where there is none."""
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
    if value in (None, [], {}):
        return "(none)"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(sorted(value))
    return msgspec.json.encode(value, order="deterministic").decode()
