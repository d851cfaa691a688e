"""From several judges' orders to pairs: every vote, or the majority's (models of judges: consensus.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from alignment.data.records import Judgment, Record
from alignment.errors import UserError

Counts = Counter[str] | None
MODELS = ("model", "dawid-skene")
HOW = ("each", "majority", *MODELS)


class Vote(NamedTuple):
    """One judge's strict preference (or tie, when p is 0.5) between completions a < b."""

    a: int
    b: int
    p: float
    margin: float


class Pair(NamedTuple):
    """A derived pair; indices of completions."""

    chosen: int
    rejected: int
    weight: float
    judges: int
    margin: float


def pair_votes(record: Record, counts: Counts = None) -> list[Vote]:
    """Every strict preference in the record's judgments; ties and all-bad judgments are counted, not voted.

    A judgment's ranks vote for every pair of ranked completions; its comparisons override the ranks for
    the pairs that they name.
    """
    return [vote for _, vote in named_votes(record, counts) if vote.p != 0.5]


def named_votes(record: Record, counts: Counts = None) -> Iterator[tuple[str | None, Vote]]:
    """Each vote, ties too, with the judge whose it is; counts as `pair_votes` does."""
    for judgment in record.judgments:
        own = [] if judgment.all_bad else judgment_votes(judgment)
        if not own and counts is not None:
            counts["all bad" if judgment.all_bad else "no order given"] += 1
        for vote in own:
            if vote.p == 0.5 and counts is not None:
                counts["tie"] += 1
            yield judgment.by, vote


def judgment_votes(judgment: Judgment) -> list[Vote]:
    """One vote for each pair that the judge ordered or tied, a < b; p is 1, 0, 0.5 or what was stated."""
    ranks = judgment.ranks or []
    if len(ranks) == 2 and not judgment.comparisons:
        first, second = ranks
        if first is None or second is None:
            return []
        p = 0.5 if first == second else float(first < second)
        return [Vote(0, 1, p, float(abs(first - second)))]
    votes: dict[tuple[int, int], Vote] = {}
    for a, first in enumerate(ranks):
        if first is None:
            continue
        for b in range(a + 1, len(ranks)):
            second = ranks[b]
            if second is not None:
                p = 0.5 if first == second else float(first < second)
                votes[a, b] = Vote(a, b, p, float(abs(first - second)))
    for comparison in judgment.comparisons or ():
        p = 1.0 if comparison.p is None else comparison.p
        margin = 1.0 if comparison.strength is None else float(comparison.strength)
        a, b = comparison.a, comparison.b
        if a > b:
            a, b, p = b, a, 1.0 - p
        votes[a, b] = Vote(a, b, p, margin)
    return list(votes.values())


def agreed_pairs(votes: list[Vote], how: str = "each", counts: Counts = None) -> list[Pair]:
    """Pairs from one record's votes, how = "each" or "majority"; see `views.pairs_view` for the weight."""
    if how not in ("each", "majority"):
        raise UserError(f"how = {how!r}: choose one of {', '.join(HOW)}")
    if len(votes) == 1:  # most often, and both ways of counting come to the same
        a, b, p, margin = votes[0]
        return [Pair(a, b, p, 1, margin) if p > 0.5 else Pair(b, a, 1 - p, 1, margin)]
    # For each judged pair a < b: votes for a and for b, sum of P(a better), margins of either side's votes.
    tallies: dict[tuple[int, int], list[float]] = {}
    for a, b, p, margin in votes:
        tally = tallies.setdefault((a, b), [0, 0, 0.0, 0.0, 0.0])
        side = 0 if p > 0.5 else 1
        tally[side] += 1
        tally[2] += p
        tally[3 + side] += margin
    pairs = []
    for (a, b), (for_a, for_b, total, margin_a, margin_b) in tallies.items():
        p = total / (for_a + for_b)
        if for_a > (0 if how == "each" else for_b):
            pairs.append(Pair(a, b, p, int(for_a), margin_a / for_a))
        if for_b > (0 if how == "each" else for_a):
            pairs.append(Pair(b, a, 1 - p, int(for_b), margin_b / for_b))
        if how == "majority" and for_a == for_b and counts is not None:
            counts["judges split evenly"] += 1
    return pairs


def best_completion(record: Record) -> int | None:
    """The index of the completion that the judges put first; of a lone unjudged one; else None.

    The most votes for it less votes against it; the first of equals. Without any order, the first that
    more judges labelled good than bad. None where half of the judges or more called all of them bad.
    """
    completions, judgments = len(record.completions), record.judgments
    if not judgments:
        return 0 if completions == 1 else None
    if 2 * sum(bool(judgment.all_bad) for judgment in judgments) >= len(judgments):
        return None
    points = dict.fromkeys(range(completions), 0.0)
    votes = [vote for judgment in judgments if not judgment.all_bad for vote in judgment_votes(judgment)]
    for vote in votes:
        points[vote.a] += 2 * vote.p - 1
        points[vote.b] -= 2 * vote.p - 1
    if votes:
        ordered = {index for vote in votes for index in (vote.a, vote.b)}
        return max(sorted(ordered), key=points.__getitem__)
    goods = {index: label_balance(judgments, index) for index in points}
    labelled = [index for index in points if goods[index] > 0]
    if labelled:
        return labelled[0]
    return 0 if completions == 1 and goods[0] == 0 else None


def label_balance(judgments: list[Judgment], index: int) -> int:
    """How many more judges labelled this completion good than bad; all-bad says bad of every completion."""
    balance = 0
    for judgment in judgments:
        label = False if judgment.all_bad else judgment.labels[index] if judgment.labels else None
        balance += 0 if label is None else 1 if label else -1
    return balance
