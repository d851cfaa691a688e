"""Models of the judges over a whole dataset: which of two completions is better, and how surely."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from alignment.data.pairs import MODELS, Counts, Pair, agreed_pairs, named_votes, pair_votes
from alignment.data.records import Record, encode_record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Verdicts that a judge is given beforehand: two that are right, and half a one for each way of being wrong.
_RIGHT, _WRONG = 2.0, 0.5


class Verdicts(NamedTuple):
    """What a model says of every judged pair: P(a better than b), its log-odds, and the votes for either."""

    chance: NDArray[np.float64]
    log_odds: NDArray[np.float64]
    for_a: NDArray[np.int64]
    for_b: NDArray[np.int64]


class Ballot:
    """The votes of a dataset as arrays: 12 bytes a vote and 8 a judged pair, whatever the texts are.

    Pairs are those of completions a < b of one record; record n has the pairs starts[n] to starts[n + 1].
    """

    def __init__(self) -> None:
        self.judges: dict[str | None, int] = {}  # all anonymous judges count as one
        self.starts = array("q", [0])
        self.a, self.b = array("i"), array("i")
        self.pair, self.judge, self.p = array("i"), array("i"), array("f")

    def add(self, record: Record, counts: Counts = None) -> None:
        """Take the votes of the next record; ties are votes too, and are counted."""
        pairs: dict[tuple[int, int], int] = {}
        for by, vote in named_votes(record, counts):
            self.pair.append(pairs.setdefault((vote.a, vote.b), self.starts[-1] + len(pairs)))
            self.judge.append(self.judges.setdefault(by, len(self.judges)))
            self.p.append(vote.p)
        self.a.extend(a for a, _ in pairs)
        self.b.extend(b for _, b in pairs)
        self.starts.append(self.starts[-1] + len(pairs))

    def verdicts(self, how: str) -> Verdicts:
        """What the judges say together: "model" is Bradley-Terry with a reliability for each judge, over the
        completions of each record; "dawid-skene" a confusion matrix for each judge, over verdicts on pairs.
        """
        import numpy as np

        count = self.starts[-1]
        pair, judge, p = np.asarray(self.pair), np.asarray(self.judge), np.asarray(self.p, dtype=np.float64)
        for_a, for_b = (np.bincount(pair[side], minlength=count) for side in (p > 0.5, p < 0.5))
        if not count:
            return Verdicts(np.zeros(0), np.zeros(0), for_a, for_b)
        odds = (self._strengths if how == "model" else self._classes)(pair, judge, p)
        return Verdicts(1.0 / (1.0 + np.exp(-odds)), odds, for_a, for_b)

    def _strengths(
        self, pair: NDArray[np.int64], judge: NDArray[np.int64], p: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        import numpy as np

        from alignment.stats.bradley_terry import crowd_bradley_terry

        # Completions get numbers of their own: those of a record follow those of the record before.
        local = np.stack([np.asarray(self.a, dtype=np.int64), np.asarray(self.b, dtype=np.int64)])
        record = np.repeat(np.arange(len(self.starts) - 1), np.diff(np.asarray(self.starts)))
        sizes = np.zeros(len(self.starts) - 1, dtype=np.int64)
        np.maximum.at(sizes, record, local[1] + 1)
        first, second = local + (np.cumsum(sizes) - sizes)[record]
        fit = crowd_bradley_terry(first, second, pair, judge, p, trust=(_RIGHT, _WRONG))
        return fit.strengths[first] - fit.strengths[second]

    def _classes(
        self, pair: NDArray[np.int64], judge: NDArray[np.int64], p: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        import numpy as np

        from alignment.stats.dawid_skene import dawid_skene

        said = np.where(p > 0.5, 0, np.where(p < 0.5, 1, 2))
        prior = np.full((3, 3), _WRONG) + (_RIGHT - _WRONG) * np.eye(3)
        # Which completion is stored first must tell nothing: many files put the chosen one there.
        truth = dawid_skene(pair, judge, said, 3, prior=prior, mirror=[1, 0, 2]).truth
        sides = np.log(np.maximum(truth[:, :2] + 0.5 * truth[:, 2:], np.finfo(np.float64).tiny))
        return np.where(truth.argmax(1) == 2, 0.0, sides[:, 0] - sides[:, 1])


def record_pairs(
    records: Iterable[Record], how: str = "each", counts: Counts = None
) -> Iterator[tuple[Record, list[Pair]]]:
    """Each record with the pairs that its judges make together; see `views.pairs_view` for `how`.

    "each" and "majority" look at one record at a time. The others are fitted over all records first: these
    wait in a temporary file on disk meanwhile, and memory holds the votes alone. Raises UserError for
    another `how`.
    """
    if how not in MODELS:
        for record in records:
            yield record, agreed_pairs(pair_votes(record, counts), how, counts)
        return
    ballot = Ballot()
    decode = msgspec.json.Decoder(Record).decode
    with tempfile.TemporaryFile() as waiting:
        for record in records:
            ballot.add(record, counts)
            waiting.write(encode_record(record) + b"\n")
        verdicts = ballot.verdicts(how)
        waiting.seek(0)
        for number, line in enumerate(waiting):
            pairs = range(ballot.starts[number], ballot.starts[number + 1])
            found = (_pair(ballot, verdicts, index, counts) for index in pairs)
            yield decode(line), [pair for pair in found if pair is not None]


def _pair(ballot: Ballot, verdicts: Verdicts, index: int, counts: Counts) -> Pair | None:
    """The pair in the direction that is more probable, which can be one that nobody voted for."""
    for_a, for_b = int(verdicts.for_a[index]), int(verdicts.for_b[index])
    if not for_a and not for_b:
        return None  # all its votes are ties, which were counted as such
    a, b, odds = ballot.a[index], ballot.b[index], float(verdicts.log_odds[index])
    chance = float(verdicts.chance[index])
    if abs(odds) < 1e-3:  # the fits stop at a precision of 1e-5
        if counts is not None:
            counts["judges split evenly"] += 1
        return None
    return Pair(a, b, chance, for_a, odds) if odds > 0 else Pair(b, a, 1.0 - chance, for_b, -odds)
