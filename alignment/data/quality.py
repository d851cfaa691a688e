"""What a dataset holds: counts, lengths, biases, agreement between judges."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from alignment.data.pairs import Vote, judgment_votes
from alignment.data.records import Judgment, Record, record_id
from alignment.data.splits import prompt_key


@dataclass
class Share:
    """`hits` of `n`, with Wilson's 95% interval."""

    hits: float = 0.0
    n: int = 0

    def add(self, hit: float) -> None:
        self.hits += hit
        self.n += 1

    def as_dict(self) -> dict[str, Any] | None:
        """{"value", "low", "high", "n"}, or None if there was nothing to count."""
        if not self.n:
            return None
        from alignment.stats.intervals import binomial_interval

        return binomial_interval(self.hits, self.n)._asdict()


@dataclass
class Statistics:
    """What one pass over a dataset found. Lengths are in characters; a share has an interval and its n.

    longer_wins: of the pairs with unequal lengths, how often the longer completion was preferred.
    first_shown_wins: of the pairs whose order of presentation is recorded, how often the one shown first won.
    first_stored_wins: the same for the order in the file; an importer that puts chosen first gives 1.
    agreement: two judges on the same two completions say the same (three ways, a tie agrees with a tie);
        agreement_without_ties leaves out comparisons that either called a tie.
    """

    rows: int = 0
    prompts: int = 0
    repeated_ids: int = 0
    completions: int = 0
    empty_completions: int = 0
    completions_per_row: Counter[int] = field(default_factory=Counter)
    demonstrations: int = 0
    judgments: int = 0
    all_bad: int = 0
    judges: Counter[str] = field(default_factory=Counter)
    pairs: int = 0
    ties: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    prompt_lengths: array[int] = field(default_factory=lambda: array("L"))
    completion_lengths: array[int] = field(default_factory=lambda: array("L"))
    longer_wins: Share = field(default_factory=Share)
    first_shown_wins: Share = field(default_factory=Share)
    first_stored_wins: Share = field(default_factory=Share)
    agreement: Share = field(default_factory=Share)
    agreement_without_ties: Share = field(default_factory=Share)
    _prompts: set[bytes] = field(default_factory=set)
    _ids: set[int] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Count one record; memory grows by about 200 bytes a row."""
        self.rows += 1
        self._prompts.add(prompt_key(record))
        self._ids.add(hash(record_id(record)))
        self.prompts = len(self._prompts)
        self.repeated_ids = self.rows - len(self._ids)
        self.prompt_lengths.append(sum(len(message.content) for message in record.prompt))
        lengths = [sum(len(turn.content) for turn in completion.turns()) for completion in record.completions]
        self.completion_lengths.extend(lengths)
        self.completions += len(lengths)
        self.empty_completions += lengths.count(0)
        self.completions_per_row[len(lengths)] += 1
        self.demonstrations += len(record.demonstrations or ())
        votes = [_judge(self, judgment, lengths) for judgment in record.judgments]
        if len(votes) > 1:
            _compare_judges(self, votes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; lengths as mean, median, 95th percentile and maximum."""
        plain: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name.startswith("_"):
                continue
            if isinstance(value, Share):
                plain[name] = value.as_dict()
            elif isinstance(value, array):
                plain[name] = _length_summary(value)
            else:
                plain[name] = (
                    {str(k): n for k, n in value.most_common()} if isinstance(value, Counter) else value
                )
        return plain


def _length_summary(lengths: array[int]) -> dict[str, float] | None:
    if not lengths:
        return None
    import numpy as np

    values = np.frombuffer(lengths, dtype=np.dtype(lengths.typecode))
    median, high = np.percentile(values, [50, 95])
    return {
        "mean": float(values.mean()),
        "median": float(median),
        "p95": float(high),
        "max": int(values.max()),
    }


def statistics(records: Iterable[Record]) -> Statistics:
    """What one pass over the records finds."""
    found = Statistics()
    for record in records:
        found.add(record)
    return found


def _judge(found: Statistics, judgment: Judgment, lengths: list[int]) -> list[Vote]:
    """Count one judgment; return its votes."""
    found.judgments += 1
    found.judges["(anonymous)" if judgment.by is None else judgment.by] += 1
    found.all_bad += bool(judgment.all_bad)
    for label in judgment.labels or ():
        if label is not None:
            found.labels["good" if label else "bad"] += 1
    votes = [] if judgment.all_bad else judgment_votes(judgment)
    shown = {index: place for place, index in enumerate(judgment.presented or ())}
    for a, b, p, _ in votes:
        if p == 0.5:
            found.ties += 1
            continue
        found.pairs += 1
        winner, loser = (a, b) if p > 0.5 else (b, a)
        if lengths[winner] != lengths[loser]:
            found.longer_wins.add(lengths[winner] > lengths[loser])
        if winner in shown and loser in shown:
            found.first_shown_wins.add(shown[winner] < shown[loser])
        found.first_stored_wins.add(winner < loser)
    return votes


def _compare_judges(found: Statistics, votes: list[list[Vote]]) -> None:
    verdicts = [{(a, b): (p > 0.5) - (p < 0.5) for a, b, p, _ in own} for own in votes]
    for k, first in enumerate(verdicts):
        for second in verdicts[k + 1 :]:
            for pair in first.keys() & second.keys():
                found.agreement.add(first[pair] == second[pair])
                if first[pair] and second[pair]:
                    found.agreement_without_ties.add(first[pair] == second[pair])
