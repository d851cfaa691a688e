"""Mixtures of datasets by weight, and samples: which rows are drawn is told by a seed and the rows' ids."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

from alignment.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Row = TypeVar("Row")


def quotas(
    names: Sequence[str],
    sizes: Sequence[int],
    weights: Sequence[float],
    total: int | None = None,
    repeat: Sequence[bool] = (),
) -> list[int]:
    """How many rows to draw from each source, so that their shares of all rows are as the weights.

    sizes: the rows that each source has. total: rows in all; None: as many as there can be until the first
    source that may not repeat runs out. repeat: which sources may give a row more than once; none by default.
    Rounded so that they add up (largest remainders). Raises UserError where a source has too few rows, naming
    it and the total that would do, and where nothing says how many rows there should be.
    """
    exact = [Fraction(str(weight)) for weight in weights]
    shares = [weight / sum(exact) for weight in exact]
    again = list(repeat) or [False] * len(sizes)
    for name, size in zip(names, sizes, strict=True):
        if not size:
            raise UserError(f"{name}: the mixture has a share for it, but it has no row to give")
    limits = [size / share for size, share, more in zip(sizes, shares, again, strict=True) if not more]
    if total is None and not limits:
        raise UserError("every source of the mixture may repeat: say how many rows there should be")
    most = int(min(limits)) if limits else 0
    rows = most if total is None else total
    ideal = [share * rows for share in shares]
    counts = [int(part) for part in ideal]
    behind = sorted(range(len(ideal)), key=lambda k: counts[k] - ideal[k])
    for k in behind[: rows - sum(counts)]:
        counts[k] += 1
    for name, size, count, more in zip(names, sizes, counts, again, strict=True):
        if count > size and not more:
            raise UserError(
                f"{name} has {size:,} rows, and its share of {rows:,} is {count:,}: take at most {most:,} "
                "rows in all, give it a smaller weight, or let it repeat"
            )
    return counts


def draws(order: NDArray[np.uint64], count: int) -> NDArray[np.int64]:
    """How often each row is drawn, adding up to `count`; order: (rows,) the rows' `priorities`.

    Every row as often as all fit in, and once more those that come first. So a smaller count draws rows that
    a larger one draws too.
    """
    import numpy as np

    rounds, rest = divmod(count, max(len(order), 1))
    times = np.full(len(order), rounds, dtype=np.int64)
    times[np.argsort(order, kind="stable")[:rest]] += 1
    return times


def priorities(ids: Iterable[str], seed: int) -> NDArray[np.uint64]:
    """A number for each row, uniform over 64 bits, 8 bytes of memory: the lowest are drawn first.

    It is a hash of the seed, the row's id and its place among neighbours of the same id (the pairs of one
    record): the order of the rows, their file and the machine do not matter.
    """
    import numpy as np

    salt = seed.to_bytes(16, "little")

    def each() -> Iterator[int]:
        before: str | None = None
        place = 0
        for name in ids:
            place = place + 1 if name == before else 0
            before = name
            text = f"{place} {name}".encode()
            yield int.from_bytes(hashlib.blake2b(text, digest_size=8, salt=salt).digest(), "big")

    return np.fromiter(each(), dtype=np.uint64)


def drawn(read: Callable[[], Iterable[Row]], times: NDArray[np.int64]) -> Iterator[Row]:
    """The drawn rows in their order, once through for every round that `draws` has."""
    for done in range(int(times.max(initial=0))):
        for row, often in zip(read(), times.tolist(), strict=True):
            if often > done:
                yield row


def interleaved(streams: Sequence[Iterable[Row]], counts: Sequence[int]) -> Iterator[Row]:
    """The rows of all streams in turn, so that every stretch of them has the shares of the whole.

    counts: how many rows each stream has. The order within a stream stays.
    """
    rows = [iter(stream) for stream in streams]
    # The next row of stream k is due at (taken + 1/2) / count of the way.
    due = [(0.5 / count, k, 0) for k, count in enumerate(counts) if count]
    heapq.heapify(due)
    while due:
        _, k, taken = due[0]
        yield next(rows[k])
        if taken + 1 < counts[k]:
            heapq.heapreplace(due, ((taken + 1.5) / counts[k], k, taken + 1))
        else:
            heapq.heappop(due)
