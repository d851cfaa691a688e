"""Splits by prompt: which side a record is on is told by a hash of its prompt, on every machine alike."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

from alignment.data.records import Message, Record
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
    key = hashlib.blake2b(prompt_key(record), digest_size=8, salt=seed.to_bytes(16, "little")).digest()
    return int.from_bytes(key, "big") < fraction * 2**64


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
