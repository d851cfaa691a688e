"""Duplicates: near ones against brute force, exact ones by prompt."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.data import duplicates as dup
from alignment.data.records import Completion, Message, Record
from alignment.errors import UserError

WORDS = "red green blue amber ivory coral olive lilac pearl ochre umber mauve slate khaki azure".split()


def variants(seed: int, rows: int = 120) -> list[str]:
    """Texts of 12 words, half of them an earlier one with one or two words changed."""
    dice = random.Random(seed)
    texts: list[str] = []
    for _ in range(rows):
        words = dice.choices(WORDS, k=12)
        if texts and dice.random() < 0.5:
            words = dice.choice(texts).split()
            for _ in range(dice.randint(1, 2)):
                words[dice.randrange(len(words))] = dice.choice(WORDS)
        texts.append(" ".join(words))
    return texts


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9])
def test_clusters_are_those_of_brute_force(threshold: float) -> None:
    hit = wanted = 0
    for seed in range(4):
        texts = variants(seed)
        true = {
            (a, b)
            for a, b in combinations(range(len(texts)), 2)
            if dup.jaccard(texts[a], texts[b]) >= threshold
        }
        found = dup.near_pairs(texts, threshold)
        # No pair below the threshold, ever; and what is joined is what brute force joins, but for 1 in 100.
        assert {(pair.first, pair.second) for pair in found} <= true
        for pair in found:
            assert pair.similarity == dup.jaccard(texts[pair.first], texts[pair.second])
        joined = {row: n for n, cluster in enumerate(dup.clusters(found, len(texts))) for row in cluster}
        wanted += len(true)
        hit += sum(a in joined and joined[a] == joined.get(b) for a, b in true)
    assert wanted > 20
    assert hit >= 0.99 * wanted


def test_every_row_of_a_large_bucket_is_joined() -> None:
    text = " ".join(WORDS * 8)
    texts = [f"{text} number {row}" for row in range(700)] + ["another thing altogether"]
    assert dup.near_duplicates(texts) == [list(range(700))]


@settings(max_examples=30)
@given(st.lists(st.text(max_size=30), max_size=12))
def test_any_texts_give_disjoint_sorted_clusters_with_equal_texts_together(texts: list[str]) -> None:
    clusters = dup.near_duplicates(texts)
    rows = [row for cluster in clusters for row in cluster]
    assert len(rows) == len(set(rows))
    assert all(len(cluster) > 1 and cluster == sorted(cluster) for cluster in clusters)
    place = {row: n for n, cluster in enumerate(clusters) for row in cluster}
    for a, b in combinations(range(len(texts)), 2):
        if texts[a] == texts[b]:
            assert place[a] == place[b]


@given(st.text(max_size=40))
def test_shingles_and_their_hashes_are_as_many(text: str) -> None:
    hashes = dup._shingle_hashes(text)
    assert len(set(hashes.tolist())) == len(dup.shingles(text))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_keep_a_pair_at_the_threshold(threshold: float) -> None:
    bands, width = dup.banding(threshold)
    assert bands * width <= dup.HASHES
    assert (1 - threshold**width) ** bands <= dup.MISSED


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1])
def test_an_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(UserError, match="threshold"):
        dup.near_pairs(["a", "b"], threshold)


def test_exact_duplicates_by_prompt_and_by_completions() -> None:
    def row(prompt: str, *texts: str) -> Record:
        return Record([Message("user", prompt)], completions=[Completion(content=t) for t in texts])

    rows = [row("Hi  there", "a", "b"), row("hi there", "b", "A"), row("hi there", "c"), row("Bye")]
    assert dup.exact_duplicates([dup.exact_key(r) for r in rows]) == [[0, 1, 2]]
    assert dup.exact_duplicates([dup.exact_key(r, completions=True) for r in rows]) == [[0, 1]]


def test_a_shared_system_prompt_makes_no_near_duplicates() -> None:
    system = Message("system", "You are a helpful assistant. " * 40)
    rows = [Record([system, Message("user", text)]) for text in ("How old is the sun?", "Name a good tree.")]
    assert dup.near_duplicates([dup.near_text(row) for row in rows]) == []
