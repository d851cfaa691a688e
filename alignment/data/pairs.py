"""From several judges' orders to pairs: votes, majority, or a Bradley-Terry model over the judges."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal, NamedTuple

from alignment.data.records import Judgment, Record
from alignment.errors import UserError

Counts = Counter[str] | None
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


def pair_votes(record: Record, counts: Counts = None) -> list[Vote]:
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
    votes: list[Vote], how: Literal["each", "majority", "model"] | str = "each", counts: Counts = None
) -> list[Pair]:
    """Pairs from votes. See `views.pairs_view` for the meaning of `how` and of the weight."""
    if how not in HOW:
        raise UserError(f"how = {how!r}: choose one of {', '.join(HOW)}")
    # For each judged pair a < b: votes for a and for b, sum of P(a better), margins of either side's votes.
    tallies: dict[tuple[int, int], list[float]] = {}
    for a, b, p, margin in votes:
        tally = tallies.setdefault((a, b), [0, 0, 0.0, 0.0, 0.0])
        side = 0 if p > 0.5 else 1
        tally[side] += 1
        tally[2] += p
        tally[3 + side] += margin
    chances = modelled_chances(votes) if how == "model" else {}
    pairs = []
    for (a, b), (for_a, for_b, total, margin_a, margin_b) in tallies.items():
        p = chances[a, b] if how == "model" else total / (for_a + for_b)
        if how == "each":
            a_wins, b_wins = for_a > 0, for_b > 0
        elif how == "majority":
            a_wins, b_wins = for_a > for_b, for_b > for_a
        else:  # can be a direction that nobody voted for, when the other pairs imply it
            a_wins, b_wins = p > 0.5 + 1e-9, p < 0.5 - 1e-9
        if a_wins:
            pairs.append(Pair(a, b, p, int(for_a), margin_a / max(for_a, 1)))
        if b_wins:
            pairs.append(Pair(b, a, 1 - p, int(for_b), margin_b / max(for_b, 1)))
        if not a_wins and not b_wins and counts is not None:
            counts["judges split evenly"] += 1
    return pairs


def modelled_chances(votes: list[Vote]) -> dict[tuple[int, int], float]:
    """P(a is better than b) by Bradley-Terry over all judges' votes, for every pair (a, b) that was judged.

    Half a vote each way on every judged pair keeps an unbeaten completion finite. Completions that no
    chain of judged pairs connects are fitted apart.
    """
    from alignment.stats.bradley_terry import bradley_terry, win_matrix

    group: dict[int, set[int]] = {}
    for vote in votes:
        joined = group.get(vote.a, {vote.a}) | group.get(vote.b, {vote.b})
        group.update(dict.fromkeys(joined, joined))
    strength: dict[int, float] = {}
    for members in {min(joined): sorted(joined) for joined in group.values()}.values():
        place = {completion: k for k, completion in enumerate(members)}
        own = [vote for vote in votes if vote.a in place]
        first, second = [place[vote.a] for vote in own], [place[vote.b] for vote in own]
        wins = win_matrix(first, second, [vote.p for vote in own], len(members))
        strength.update(zip(members, bradley_terry(wins, prior=1.0).tolist(), strict=True))
    return {(vote.a, vote.b): 1.0 / (1.0 + math.exp(strength[vote.b] - strength[vote.a])) for vote in votes}


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
