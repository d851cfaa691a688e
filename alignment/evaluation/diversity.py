"""How much a model's answers repeat each other and themselves: distinct-n, self-BLEU, repeated runs of words.

A model that was pushed hard towards a reward may say the same thing to every prompt. Words are what white
space sets apart, in lower case. Distinct-n falls and self-BLEU rises with the number of answers and with
their length, so they are compared between candidates that answered the same prompts, and read beside lengths.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from alignment.data.completions import is_repetitive, repeated_share
from alignment.evaluation.answers import Answers
from alignment.stats import bootstrap_interval

MOST = 1_000  # prompts that are looked at
ORDER = 4  # words in a row, of self-BLEU
Gram = tuple[str, ...]


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Different runs of n words over all of them, in all texts together; None if none has n words.

    Source: Li et al. 2016, A Diversity-Promoting Objective Function (distinct-1, distinct-2).
    """
    different: set[Gram] = set()
    total = 0
    for text in texts:
        runs = _runs(text.lower().split(), n)
        different.update(runs)
        total += len(runs)
    return len(different) / total if total else None


def self_bleu(texts: Sequence[str]) -> list[float]:
    """The BLEU-4 of each text with all others as its references, 0 to 1; [0] for a single one.

    As sacrebleu's sentence BLEU (exponential smoothing, effective order), at a cost that grows with the words
    alone: of each run of words the largest and the second largest count in a text are enough to know the
    largest among the others. Source: Zhu et al. 2018, Texygen.
    """
    if len(texts) < 2:
        return [0.0] * len(texts)
    words = [text.lower().split() for text in texts]
    counts = [[Counter(_runs(row, n)) for n in range(1, ORDER + 1)] for row in words]
    first: dict[Gram, tuple[int, int]] = {}  # the largest count, and whose it is
    second: dict[Gram, int] = {}
    for i, row in enumerate(counts):
        for gram, count in (pair for grams in row for pair in grams.items()):
            most, _ = first.get(gram, (0, -1))
            if count > most:
                first[gram], second[gram] = (count, i), most
            elif count > second.get(gram, 0):
                second[gram] = count
    lengths = sorted(map(len, words))
    found = []
    for i, row in enumerate(counts):
        matched = [
            sum(min(c, second[g] if first[g][1] == i else first[g][0]) for g, c in grams.items())
            for grams in row
        ]
        found.append(_bleu(matched, [grams.total() for grams in row], len(words[i]), lengths))
    return found


def diversity_report(answers: Mapping[str, Answers], seed: int = 0) -> dict[str, Any]:
    """{model: figures} for report.json, of first answers to at most MOST prompts, drawn with `seed`.

    {prompts, distinct_1, distinct_2, distinct_3, self_bleu, repeated, repetitive, self_bleu_within_prompts}.
    distinct_n have no interval: drawing answers twice makes them less distinct. self_bleu: {value, low, high,
    n}, the other answers held fixed; repeated: the share of an answer's runs of 4 words that it said before;
    repetitive: the share of answers where that is half or more, or a line comes again and again. The last one
    takes the samples of one prompt against each other, None where there is one sample.
    """
    prompts = len(next(iter(answers.values())))
    chosen = np.sort(np.random.default_rng(seed).permutation(prompts)[:MOST])
    return {name: _figures([rows[int(i)] for i in chosen], seed) for name, rows in answers.items()}


def _figures(answers: Answers, seed: int) -> dict[str, Any]:
    samples = [[answer.text for answer in row if answer.turn == 1] for row in answers]
    texts = [row[0] for row in samples]

    def interval(values: Sequence[float]) -> dict[str, Any]:
        return bootstrap_interval(values, seed=seed)._asdict()

    within = [float(np.mean(self_bleu(row))) for row in samples if len(row) > 1]
    return {
        "prompts": len(texts),
        **{f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)},
        "self_bleu": interval(self_bleu(texts)) if len(texts) > 1 else None,
        "repeated": interval([repeated_share(text) for text in texts]),
        "repetitive": interval([float(is_repetitive(text)) for text in texts]),
        "self_bleu_within_prompts": interval(within) if within else None,
    }


def _bleu(matched: Sequence[int], totals: Sequence[int], length: int, lengths: Sequence[int]) -> float:
    """Sentence BLEU; lengths: of all texts, sorted, the text's own among them once."""
    from sacrebleu.metrics import BLEU

    if not length:
        return 0.0
    at = bisect_left(lengths, length)
    others = [*lengths[max(0, at - 1) : at], *lengths[at + 1 : at + 2]]
    closest = min(others, key=lambda other: (abs(other - length), other))
    score = BLEU.compute_bleu(
        list(matched), list(totals), length, closest, smooth_method="exp", effective_order=True
    )
    return float(score.score) / 100.0


def _runs(words: Sequence[str], n: int) -> list[Gram]:
    return list(zip(*(islice(words, at, None) for at in range(n)), strict=False))
