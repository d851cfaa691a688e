"""From several judges' orders to pairs: votes, majority, or a Bradley-Terry model over the judges."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple


from alignment.data.records import Judgment, Record
from alignment.errors import UserError

HOW = ("each", "majority", "model")


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


def pair_votes(record: Record, counts: Counter[str] | None = None) -> list[Vote]:
    """Every strict preference in the record's judgments; ties and all-bad judgments are counted, not voted.

    A judgment's ranks vote for every pair of ranked completions; its comparisons override the ranks for
    the pairs that they name.
    """
    votes: list[Vote] = []
    for judgment in record.judgments:
        if judgment.all_bad:
            if counts is not None:
                counts["all bad"] += 1
            continue
        own = judgment_votes(judgment)
        if not own and counts is not None:
            counts["no order given"] += 1
        for vote in own:
            if vote.p != 0.5:
                votes.append(vote)
            elif counts is not None:
                counts["tie"] += 1
    return votes


def judgment_votes(judgment: Judgment) -> list[Vote]:
    """One vote for each pair that the judge ordered or tied, a < b; p is 1, 0, 0.5 or what was stated."""
    votes: dict[tuple[int, int], Vote] = {}
    ranks = judgment.ranks or []
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


def agreed_pairs(
    votes: list[Vote],
    completions: int,
    how: Literal["each", "majority", "model"] | str = "each",
    counts: Counter[str] | None = None,
) -> list[Pair]:
    """Pairs from votes. See `views.pairs_view` for the meaning of `how` and of the weight."""
    if how not in HOW:
        raise UserError(f"how = {how!r}: choose one of {', '.join(HOW)}")
    if not votes:
        return []
    sides: dict[tuple[int, int], list[float]] = {}
    for a, b, p, margin in votes:
        winner, loser = (a, b) if p > 0.5 else (b, a)
        side = sides.setdefault((winner, loser), [0, 0.0])
        side[0] += 1
        side[1] += margin
    if how == "model":
        return _modelled(votes, sides, completions, counts)
    pairs = []
    for (winner, loser), (n, margin) in sides.items():
        against = sides.get((loser, winner), (0, 0.0))[0]
        if how == "majority" and n <= against:
            if n == against and winner < loser and counts is not None:
                counts["judges split evenly"] += 1
            continue
        pairs.append(Pair(winner, loser, n / (n + against), int(n), margin / n))
    return pairs


def _modelled(
    votes: list[Vote], sides: dict[tuple[int, int], list[float]], completions: int, counts: Counter[str] | None
) -> list[Pair]:
    strength = bradley_terry_strengths(votes, completions)
    pairs = []
    for a, b in sorted({(vote.a, vote.b) for vote in votes}):
        p = strength[a] / (strength[a] + strength[b])
        if abs(p - 0.5) < 1e-6:
            if counts is not None:
                counts["judges split evenly"] += 1
            continue
        winner, loser = (a, b) if p > 0.5 else (b, a)
        n, margin = sides.get((winner, loser), (0, 0.0))
        pairs.append(Pair(winner, loser, max(p, 1 - p), int(n), margin / n if n else 0.0))
    return pairs


def bradley_terry_strengths(votes: list[Vote], completions: int, steps: int = 200) -> list[float]:
    """Bradley-Terry strengths of one record's completions, from the votes of its judges.

    Hunter (2004), "MM algorithms for generalized Bradley-Terry models": w_i <- W_i / sum_j n_ij / (w_i + w_j).
    Half a win each way against a reference of strength 1 keeps an unbeaten completion finite.
    """
    wins = [0.5] * completions
    met: Counter[tuple[int, int]] = Counter()
    for a, b, p, _ in votes:
        wins[a] += p
        wins[b] += 1 - p
        met[a, b] += 1
    strength = [1.0] * completions
    for _ in range(steps):
        denominator = [1.0 / (own + 1.0) for own in strength]
        for (a, b), n in met.items():
            share = n / (strength[a] + strength[b])
            denominator[a] += share
            denominator[b] += share
        new = [win / total for win, total in zip(wins, denominator, strict=True)]
        change = max(abs(x - y) for x, y in zip(new, strength, strict=True))
        strength = new
        if change < 1e-9:
            break
    return strength


def best_completion(record: Record) -> int | None:
    """The index of the completion with the best mean rank; of a lone unjudged one; None if nobody ranked.

    A completion that some judge called all-bad or labelled bad is still the best of what there is; a
    record that a judge called all bad has no best completion.
    """
    if not record.judgments:
        return 0 if len(record.completions) == 1 else None
    if any(judgment.all_bad for judgment in record.judgments):
        return None
    points = [0.0] * len(record.completions)
    voted = False
    for vote in pair_votes(record):
        voted = True
        points[vote.a] += 2 * vote.p - 1
        points[vote.b] -= 2 * vote.p - 1
    if voted:
        return max(range(len(points)), key=points.__getitem__)
    return 0 if len(record.completions) == 1 else None


