"""People as judges: what annotators said in the labeling app, blind, of the very answers that are compared.

The comparison becomes tasks with `alignkit label import --compare A B`; `alignkit label export` gives records
whose completions name their source again, with everybody's judgments. Each judgment counts once; intervals
resample prompts, so that several annotators of one prompt are not mistaken for several prompts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from math import isnan
from typing import Any

from alignment.data.files import read_records
from alignment.data.records import Judgment, Record
from alignment.errors import UserError
from alignment.evaluation.answers import Prompt, record_key
from alignment.evaluation.verdict import Judged
from alignment.stats.agreement import pairwise_agreement
from alignment.stats.reliability import alpha_of, coincidences


class PeopleJudge:
    """Judgments of a file of records. `judged` gives them for two sources; nothing is asked of anybody."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.records: dict[str, list[Record]] = defaultdict(list)
        people = set()
        for record in read_records(path):
            self.records[record_key(record)].append(record)
            people |= {judgment.by for judgment in record.judgments}
        if not people:
            raise UserError(f"judge.path: {path} holds no judgment; export it when people have ranked")
        self.name = f"{len(people)} people" if len(people) > 1 else "one person"
        self.statement = (
            f"{self.name[0].upper()}{self.name[1:]} who ranked the answers blind in the labeling app, in an "
            "order drawn for each of them. Every judgment counts; equal ranks are a tie."
        )
        self._said: list[tuple[str, Any, str, float]] = []  # comparison and prompt, who, outcome for a

    def judged(self, a: str, b: str, prompts: Sequence[Prompt]) -> list[Judged]:
        """Everybody's verdicts on the answers of source `a` against those of `b`.

        The k-th answers of both are compared. Raises UserError if nobody judged the two together.
        """
        found = []
        for number, prompt in enumerate(prompts):
            for record in self.records.get(prompt.key, ()):
                ours, theirs = _places(record, a), _places(record, b)
                for k, (i, j) in enumerate(zip(ours, theirs, strict=False)):
                    for judgment in record.judgments:
                        for outcome in _outcomes(judgment, i, j):
                            last = (k + 1) * prompt.turns - 1  # a conversation is judged as a whole
                            found.append(
                                Judged(a, b, number, last, number, outcome, None, None, prompt.turns)
                            )
                            self._said.append(
                                (f"{a}_vs_{b} {prompt.key} {k}", judgment.by, prompt.key, outcome)
                            )
        if not found:
            raise UserError(
                f"judge.path: nobody in {self.path} judged an answer of {a} beside one of {b} to any of the "
                f"{len(prompts)} prompts; its completions must name {a} and {b} as their sources"
            )
        return found

    def agreement(self, seed: int = 0) -> dict[str, Any] | None:
        """How far people agree about what several of them judged; None where nobody shared a comparison.

        {value, low, high, n, kappa}: the share of pairs of people with the same verdict, ties as a verdict of
        their own; alpha: Krippendorff's, ordinal (None where all said the same); people: how many.
        """
        by_item: dict[str, dict[Any, float]] = defaultdict(dict)
        prompt_of: dict[str, str] = {}
        for item, who, prompt, outcome in self._said:
            by_item[item][who] = outcome
            prompt_of[item] = prompt
        pairs = [
            (said[x], said[y], prompt_of[item])
            for item, said in by_item.items()
            for x, y in combinations(sorted(said, key=str), 2)
        ]
        if not pairs:
            return None
        first, second, groups = zip(*pairs, strict=True)
        names = sorted({who for said in by_item.values() for who in said}, key=str)
        units = [[int(2 * outcome) for outcome in said.values()] for said in by_item.values()]
        alpha = float(alpha_of(coincidences(units, 3), "ordinal"))
        agreement = pairwise_agreement(first, second, groups, seed=seed)
        return {**agreement._asdict(), "alpha": None if isnan(alpha) else alpha, "people": len(names)}


def _places(record: Record, source: str) -> list[int]:
    return [i for i, c in enumerate(record.completions) if c.source and c.source.name == source]


def _outcomes(judgment: Judgment, i: int, j: int) -> Iterator[float]:
    """What one judgment says of completions i and j: nothing, or 1 (i better), 0.5, 0."""
    ranks = judgment.ranks
    if ranks is not None and ranks[i] is not None and ranks[j] is not None:
        yield 0.5 + 0.5 * ((ranks[i] < ranks[j]) - (ranks[i] > ranks[j]))  # type: ignore[operator]
        return
    for comparison in judgment.comparisons or ():
        if {comparison.a, comparison.b} == {i, j}:
            p = 1.0 if comparison.p is None else comparison.p
            share = p if comparison.a == i else 1 - p
            yield 0.5 + 0.5 * ((share > 0.5) - (share < 0.5))
            return
    if judgment.all_bad:
        yield 0.5
