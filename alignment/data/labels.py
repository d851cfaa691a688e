"""How the labels of a dataset were made: each judge's pace, ties, biases and agreement with the others."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import msgspec

from alignment.data.pairs import judgment_votes
from alignment.data.quality import Share
from alignment.data.records import Judgment, Record

ANONYMOUS = "(anonymous)"
MOST = 1_000  # different sources, tags or ratings that are told apart; further ones count as OTHER
OTHER = "(other)"
Verdicts = dict[tuple[int, int], int]  # completions a < b: 1 a is better, -1 b is, 0 a tie


@dataclass
class Judge:
    """What one judge did. The shares are of the judge's decided pairs; gold of all pairs that gold orders."""

    judgments: int = 0
    pairs: int = 0
    ties: int = 0
    all_bad: int = 0
    longer_wins: Share = field(default_factory=Share)
    first_shown_wins: Share = field(default_factory=Share)
    agreement: Share = field(default_factory=Share)
    gold: Share = field(default_factory=Share)
    seconds: array[float] = field(default_factory=lambda: array("f"))

    def as_dict(self) -> dict[str, Any]:
        """Plain values; `seconds` as its median."""
        shares = ("longer_wins", "first_shown_wins", "agreement", "gold")
        return {
            "judgments": self.judgments,
            "pairs": self.pairs,
            "ties": self.ties,
            "all_bad": self.all_bad,
            **{name: getattr(self, name).as_dict() for name in shares},
            "seconds": _median(self.seconds),
        }


@dataclass
class LabelStatistics:
    """Fed record by record with `add`. Memory: 4 bytes a judgment with a time, some KB a judge.

    patterns: how often a pair of completions got so many votes for the one, for the other and ties, the
        votes for either sorted; agreement among all judges (`alpha`) follows from it.
    Gold is what a record's `meta.gold` holds, {"ranks": […]} or {"all_bad": true}, as in the labeling app.
    """

    judges: dict[str, Judge] = field(default_factory=dict)
    per_row: Counter[int] = field(default_factory=Counter)
    patterns: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    ratings: dict[str, Counter[float]] = field(default_factory=dict)
    gold_rows: int = 0

    def add(self, record: Record) -> None:
        """Count one record."""
        self.per_row[len(record.judgments)] += 1
        for completion in record.completions:
            source = completion.source
            _tally(self.sources, (source.name or source.kind) if source else "(not said)")
        tags = record.meta.get("tags")
        for tag in tags if isinstance(tags, list) else [] if tags is None else [tags]:
            _tally(self.tags, str(tag))
        if "split" in record.meta:
            _tally(self.splits, str(record.meta["split"]))
        lengths = [sum(len(turn.content) for turn in completion.turns()) for completion in record.completions]
        given = [(judgment, self._count(judgment, lengths)) for judgment in record.judgments]
        if len(given) > 1:
            self._compare(given)
        gold = gold_verdicts(record)
        if gold is not None:
            self._check(given, *gold)

    def _count(self, judgment: Judgment, lengths: list[int]) -> Verdicts:
        judge = self._judge(judgment)
        judge.judgments += 1
        judge.all_bad += bool(judgment.all_bad)
        if judgment.seconds is not None:
            judge.seconds.append(judgment.seconds)
        for label in judgment.labels or ():
            if label is not None:
                self.labels["good" if label else "bad"] += 1
        for scale, values in (judgment.ratings or {}).items():
            if scale in self.ratings or len(self.ratings) < MOST:
                counts = self.ratings.setdefault(scale, Counter())
                counts.update(float(value) for value in values if value is not None)
        shown = {index: place for place, index in enumerate(judgment.presented or ())}
        verdicts = {} if judgment.all_bad else verdicts_of(judgment)
        for (a, b), better in verdicts.items():
            if not better:
                judge.ties += 1
                continue
            judge.pairs += 1
            winner, loser = (a, b) if better > 0 else (b, a)
            if lengths[winner] != lengths[loser]:
                judge.longer_wins.add(lengths[winner] > lengths[loser])
            if winner in shown and loser in shown:
                judge.first_shown_wins.add(shown[winner] < shown[loser])
        return verdicts

    def _compare(self, given: list[tuple[Judgment, Verdicts]]) -> None:
        votes: dict[tuple[int, int], list[int]] = {}
        for _, verdicts in given:
            for pair, better in verdicts.items():
                votes.setdefault(pair, []).append(better)
        for cast in votes.values():
            if len(cast) > 1:
                low, high = sorted((cast.count(1), cast.count(-1)))
                self.patterns[low, high, cast.count(0)] += 1
        for (first, own), (second, other) in combinations(given, 2):
            if first.by is not None and first.by == second.by:
                continue  # the same judge again is no second opinion
            for pair in own.keys() & other.keys():
                self._judge(first).agreement.add(own[pair] == other[pair])
                self._judge(second).agreement.add(own[pair] == other[pair])

    def _check(self, given: list[tuple[Judgment, Verdicts]], gold: Verdicts, all_bad: bool) -> None:
        self.gold_rows += 1
        for judgment, verdicts in given:
            judge = self._judge(judgment)
            if all_bad:
                judge.gold.add(bool(judgment.all_bad))
            for pair in gold.keys() & verdicts.keys():
                judge.gold.add(gold[pair] == verdicts[pair])

    def _judge(self, judgment: Judgment) -> Judge:
        return self.judges.setdefault(ANONYMOUS if judgment.by is None else judgment.by, Judge())

    @property
    def alpha(self) -> float | None:
        """Krippendorff's alpha over pairs (better, worse, tie); None if no two judges saw the same pair.

        Which completion of a pair is called the first says nothing, so each pair counts both ways round.
        """
        from alignment.stats.krippendorff import krippendorff_alpha

        units: Counter[tuple[int, ...]] = Counter()
        for (low, high, ties), count in self.patterns.items():
            units[low, high, ties] += count
            units[high, low, ties] += count
        return krippendorff_alpha(units)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; judges with the most judgments first."""
        judges = sorted(self.judges.items(), key=lambda item: -item[1].judgments)
        return {
            "judges": {name: judge.as_dict() for name, judge in judges},
            "judgments_per_row": {str(count): rows for count, rows in sorted(self.per_row.items())},
            "alpha": self.alpha,
            "gold_rows": self.gold_rows,
            **{
                name: dict(getattr(self, name).most_common())
                for name in ("labels", "sources", "tags", "splits")
            },
            "ratings": {
                scale: {f"{value:g}": count for value, count in sorted(counts.items())}
                for scale, counts in self.ratings.items()
            },
        }


def verdicts_of(judgment: Judgment) -> Verdicts:
    """What the judge said of each pair of completions: 1, -1 or 0."""
    return {(a, b): (p > 0.5) - (p < 0.5) for a, b, p, _ in judgment_votes(judgment)}


def gold_verdicts(record: Record) -> tuple[Verdicts, bool] | None:
    """The known answer in `meta.gold`, (verdicts, all bad); None where there is none that fits the record."""
    gold = record.meta.get("gold")
    if not isinstance(gold, dict):
        return None
    if gold.get("all_bad") is True:
        return {}, True
    try:
        ranks = msgspec.convert(gold.get("ranks"), list[int | None])
    except msgspec.ValidationError:
        return None
    if len(ranks) != len(record.completions):
        return None
    return verdicts_of(Judgment(ranks=ranks)), False


def _tally(counts: Counter[str], name: str) -> None:
    counts[name if name in counts or len(counts) < MOST else OTHER] += 1


def _median(values: array[float]) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
