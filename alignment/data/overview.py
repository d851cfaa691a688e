"""Everything that a page about a dataset says, in one pass over its records."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from alignment.data import duplicates
from alignment.data.completions import completion_faults
from alignment.data.contamination import Evaluation, Overlap
from alignment.data.labels import LabelStatistics
from alignment.data.languages import language
from alignment.data.personal import REGION
from alignment.data.quality import Statistics
from alignment.data.records import Record, record_id
from alignment.data.redaction import Place, Redactor

SAMPLE = 2_000  # rows whose languages are told
EXAMPLES = 8
NEAR_MOST = 200_000  # rows among which near duplicates are sought


@dataclass
class Overview:
    """What was found. Memory: the prompts of the first NEAR_MOST rows, and about 200 bytes a row.

    sample: rows drawn at random with a fixed seed, of which the languages are told; examples are the first.
    near: clusters of row numbers among the first `near_rows` rows; exact: clusters of equal prompts.
    """

    statistics: Statistics = field(default_factory=Statistics)
    labels: LabelStatistics = field(default_factory=LabelStatistics)
    faults: Counter[str] = field(default_factory=Counter)
    fault_examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    personal: Counter[tuple[str, str]] = field(default_factory=Counter)
    personal_rows: int = 0
    personal_examples: list[tuple[str, Place]] = field(default_factory=list)
    overlaps: list[tuple[str, Overlap]] = field(default_factory=list)
    contaminated: int = 0
    evaluation_rows: int = 0
    exact: list[list[int]] = field(default_factory=list)
    near: list[list[int]] = field(default_factory=list)
    near_rows: int = 0
    near_examples: list[tuple[str, str, float]] = field(default_factory=list)
    sample: list[Record] = field(default_factory=list)
    prompt_languages: Counter[str] = field(default_factory=Counter)
    completion_languages: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values for JSON, without texts."""
        return {
            "statistics": self.statistics.as_dict(),
            "labels": self.labels.as_dict(),
            "faults": dict(self.faults),
            "personal": [
                {"kind": kind, "field": field, "count": count}
                for (kind, field), count in self.personal.most_common()
            ],
            "personal_rows": self.personal_rows,
            "contaminated": self.contaminated,
            "evaluation_rows": self.evaluation_rows,
            "exact_clusters": len(self.exact),
            "exact_repeats": repeats(self.exact),
            "near_clusters": len(self.near),
            "near_repeats": repeats(self.near),
            "near_rows": self.near_rows,
            "prompt_languages": dict(self.prompt_languages.most_common()),
            "completion_languages": dict(self.completion_languages.most_common()),
        }


def repeats(clusters: list[list[int]]) -> int:
    """The rows that would go if one of each cluster stayed."""
    return sum(len(cluster) - 1 for cluster in clusters)


def overview(
    records: Iterable[Record],
    evaluation: Evaluation | None = None,
    threshold: float = 0.8,
    region: str | None = REGION,
) -> Overview:
    """One pass over the records; then near duplicates and languages of what was kept of them."""
    found = Overview(evaluation_rows=evaluation.rows if evaluation else 0)
    redactor, dice = Redactor(region), random.Random(0)  # noqa: S311 - a sample, not a secret
    keys: list[bytes] = []
    texts: list[str] = []
    for row, record in enumerate(records):
        found.statistics.add(record)
        found.labels.add(record)
        keys.append(duplicates.exact_key(record))
        if row < NEAR_MOST:
            texts.append(duplicates.near_text(record))
        # Every row has the same chance of being in the sample (reservoir sampling, algorithm R).
        if row < SAMPLE:
            found.sample.append(record)
        elif (place := dice.randrange(row + 1)) < SAMPLE:
            found.sample[place] = record
        _completions(found, record)
        places = redactor.places(record)
        if places:
            found.personal_rows += 1
            found.personal.update((place.kind, place.field) for place in places)
            if len(found.personal_examples) < EXAMPLES:
                found.personal_examples.append((record_id(record), places[0]))
        overlap = evaluation.overlap(record) if evaluation else None
        if overlap:
            found.contaminated += 1
            if len(found.overlaps) < EXAMPLES:
                found.overlaps.append((record_id(record), overlap))
    found.exact = duplicates.exact_duplicates(keys)
    pairs = duplicates.near_pairs(texts, threshold)
    found.near, found.near_rows = duplicates.clusters(pairs, len(texts)), len(texts)
    apart = [pair for pair in pairs if pair.similarity < 1]
    for pair in dice.sample(apart, min(EXAMPLES, len(apart))):
        found.near_examples.append((texts[pair.first], texts[pair.second], pair.similarity))
    dice.shuffle(found.sample)
    _languages(found)
    return found


def _completions(found: Overview, record: Record) -> None:
    for completion in record.completions:
        for fault in completion_faults(record.prompt, completion):
            found.faults[fault] += 1
            examples = found.fault_examples.setdefault(fault, [])
            if len(examples) < 3:
                examples.append((record_id(record), completion.text))


def _languages(found: Overview) -> None:
    for record in found.sample:
        asked = next((turn.content for turn in reversed(record.prompt) if turn.role == "user"), "")
        if asked:
            found.prompt_languages[language(asked)] += 1
        for completion in record.completions[:2]:
            if completion.text.strip():
                found.completion_languages[language(completion.text)] += 1
