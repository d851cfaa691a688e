"""Exact and near duplicates: MinHash finds candidates, the true Jaccard of the shingles decides.

    pairs = near_pairs(texts, threshold=0.8)        # rows whose shingles overlap by 0.8 or more
    clusters = near_duplicates(texts)               # the same, united into clusters

A text's shingles are all of its substrings of SHINGLE characters. Signatures come from rensa; the bands are
chosen so that a pair right at the threshold is missed in fewer than 1 of 100 cases, a nearer one less often.
"""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alignment.data.records import Record
from alignment.data.splits import normalised, prompt_key
from alignment.errors import UserError

SHINGLE = 5  # characters
HASHES = 256
MISSED = 0.01  # the chance, at most, that a pair right at the threshold is no candidate
WINDOW = 32  # rows of a bucket whose signatures a row's is held against: its neighbours
LIKELIEST = 4  # of these, whose shingles are compared
COMPARED = 40  # shingle sets that a row's is compared with in all
AT_ONCE = 2_000  # texts whose signatures are computed at a time
_SEED = 1


class NearPair(NamedTuple):
    """Rows `first` < `second` and the Jaccard similarity of their shingles."""

    first: int
    second: int
    similarity: float


def near_text(record: Record) -> str:
    """The prompt as near duplicates are sought: normalised, without roles and system turns.

    A system prompt that all rows share says nothing of their likeness. Without a prompt: the completions.
    """
    asked = [turn.content for turn in record.prompt if turn.role not in ("system", "developer")]
    return plain("\n".join(asked or [completion.text for completion in record.completions]))


def plain(text: str) -> str:
    """Text without what makes it no other text: case, runs of white space, width of characters."""
    text = " ".join(text.split())
    return text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def exact_key(record: Record, completions: bool = False) -> bytes:
    """The same for rows of the same normalised prompt; with `completions`, also the same set of replies."""
    if not completions:
        return prompt_key(record)
    replies = sorted(normalised(completion.turns()) for completion in record.completions)
    text = "\0".join([normalised(record.prompt), *replies])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def exact_duplicates(keys: Sequence[bytes]) -> list[list[int]]:
    """Rows with equal keys, two or more, as clusters in order of their first row."""
    rows: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return [cluster for cluster in rows.values() if len(cluster) > 1]


def near_duplicates(texts: Sequence[str], threshold: float = 0.8) -> list[list[int]]:
    """Clusters of rows, each joined to another of its cluster by a similarity of at least `threshold`.

    Clusters are in order of their first row. Raises UserError unless 0 < threshold <= 1.
    """
    return clusters(near_pairs(texts, threshold), len(texts))


def clusters(pairs: Sequence[NearPair], rows: int) -> list[list[int]]:
    """The rows that pairs join, directly or through others, as sorted lists of two or more."""
    parent = list(range(rows))
    for pair in pairs:
        _unite(parent, pair.first, pair.second)
    united: dict[int, list[int]] = {}
    for row in sorted({row for pair in pairs for row in (pair.first, pair.second)}):
        united.setdefault(_root(parent, row), []).append(row)
    return list(united.values())


def near_pairs(texts: Sequence[str], threshold: float = 0.8) -> list[NearPair]:
    """Pairs with a Jaccard similarity of at least `threshold`: enough of them to join every cluster.

    Not every pair of a cluster is listed: rows that are already joined are not compared again. Where many
    rows are nearly near duplicates (prompts from one template), a row is compared with COMPARED others at
    most, the likeliest of each bucket, so the cost stays linear in the rows and some pairs can be missed.
    Memory: the texts, 1 KB a text for signatures, and one band's buckets. Equal texts are compared once.
    Source: Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3.
    Raises UserError unless 0 < threshold <= 1.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"the threshold is {threshold}; it must be over 0, and 1 at most")
    first_row: dict[str, int] = {}
    pairs = []
    for row, text in enumerate(texts):
        first = first_row.setdefault(text, row)
        if first != row:
            pairs.append(NearPair(first, row, 1.0))
    rows = np.fromiter(first_row.values(), dtype=np.int64, count=len(first_row))
    if len(rows) > 1:
        pairs += _similar([texts[row] for row in rows], rows, threshold)
    return pairs


def _similar(texts: list[str], rows: NDArray[np.int64], threshold: float) -> list[NearPair]:
    """Pairs among different texts; `rows` are the numbers by which they are reported."""
    signed = signatures(texts)
    bands, width = banding(threshold)
    # Three standard deviations of the estimate below the threshold: 1 true pair of 1,000 is lost to it.
    likely = threshold - 3 * (threshold * (1 - threshold) / HASHES) ** 0.5
    parent = list(range(len(texts)))
    left = [COMPARED] * len(texts)
    pairs = []
    for band in range(bands):
        for bucket in _buckets(signed, band, width):
            for place in range(1, len(bucket)):
                row = bucket[place]
                met = bucket[max(0, place - WINDOW) : place]
                equal = signed[met] == signed[row]
                counts = np.count_nonzero(equal, axis=1)
                for at in np.argsort(-counts, kind="stable")[:LIKELIEST].tolist():
                    other = int(met[at])
                    if counts[at] < likely * HASHES or not left[row]:
                        break
                    if _root(parent, other) == _root(parent, row) or _met_before(equal[at], band, width):
                        continue
                    left[row] -= 1
                    similarity = jaccard(texts[other], texts[row])
                    if similarity >= threshold:
                        first, second = sorted((int(rows[other]), int(rows[row])))
                        pairs.append(NearPair(first, second, similarity))
                        _unite(parent, other, int(row))
    return pairs


def _met_before(equal: NDArray[np.bool_], band: int, width: int) -> bool:
    """Whether two rows were already in one bucket of an earlier band."""
    return bool(equal[: band * width].reshape(band, width).all(axis=1).any())


def jaccard(first: str, second: str) -> float:
    """The share of shingles that two texts have in common: 1 for equal sets."""
    a, b = shingles(first), shingles(second)
    common = len(a & b)
    return common / (len(a) + len(b) - common)


@lru_cache(maxsize=1_024)
def shingles(text: str) -> frozenset[str]:
    """All substrings of SHINGLE characters; a shorter text is its own only shingle."""
    return frozenset(text[at : at + SHINGLE] for at in range(max(1, len(text) - SHINGLE + 1)))


def signatures(texts: Sequence[str]) -> NDArray[np.uint32]:
    """MinHash signatures, (texts, HASHES): the share of equal entries of two estimates their Jaccard."""
    from rensa import RMinHash

    signed = np.empty((len(texts), HASHES), dtype=np.uint32)
    for start in range(0, len(texts), AT_ONCE):
        hashed = [_shingle_hashes(text) for text in texts[start : start + AT_ONCE]]
        offsets = np.cumsum([0, *map(len, hashed)], dtype=np.uint64)
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(hashed), offsets, HASHES, _SEED)
        signed[start : start + AT_ONCE] = matrix.to_rows()
    return signed


def _shingle_hashes(text: str) -> NDArray[np.uint64]:
    """A 64-bit hash of every shingle: a polynomial in its code points, mixed as MurmurHash3 ends."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    size = max(1, len(points) - SHINGLE + 1)
    hashes = np.zeros(size, dtype=np.uint64)
    for offset in range(min(SHINGLE, len(points))):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + points[offset : offset + size] + np.uint64(1)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(factor)
    mixed: NDArray[np.uint64] = hashes ^ (hashes >> np.uint64(33))
    return mixed


def banding(threshold: float) -> tuple[int, int]:
    """(bands, hashes a band): the widest bands that miss a pair at the threshold with a chance <= MISSED."""
    width = HASHES
    while width > 1 and (1 - threshold**width) ** (HASHES // width) > MISSED:
        width -= 1
    return HASHES // width, width


def _buckets(signed: NDArray[np.uint32], band: int, width: int) -> Iterator[NDArray[np.int64]]:
    """Rows that are equal in a band, two or more together; within a bucket the most alike are neighbours.

    They are sorted by the columns that follow the band, so that a window over a large bucket meets them.
    """
    columns = np.arange(band * width, band * width + 2 * width) % HASHES
    sorted_by = np.ascontiguousarray(signed[:, columns])
    order = np.argsort(sorted_by.view(np.dtype((np.void, 8 * width))).ravel(), kind="stable")
    keys = sorted_by[order, :width]
    edges = np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1)) + 1
    for start, end in itertools.pairwise([0, *edges.tolist(), len(order)]):
        if end - start > 1:
            yield order[start:end]


def _root(parent: list[int], row: int) -> int:
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def _unite(parent: list[int], first: int, second: int) -> int:
    """Join two clusters; the lower row stands for both."""
    low, high = sorted((_root(parent, first), _root(parent, second)))
    parent[high] = low
    return low
