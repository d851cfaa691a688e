"""Dawid-Skene: against a loop over the formulas, its objective, a planted bad judge, turned items."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.stats.dawid_skene import dawid_skene

Said = list[tuple[int, int, int]]


@st.composite
def said(draw: st.DrawFn) -> Said:
    """Verdicts of up to 4 judges on up to 6 items, at least one on each."""
    items, judges = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    drawn = []
    for item in range(items):
        names = draw(st.lists(st.integers(0, judges - 1), min_size=1, max_size=4))
        drawn += [(item, judge, draw(st.integers(0, 2))) for judge in names]
    return drawn


def by_loops(verdicts: Said, prior: float, steps: int) -> tuple[list[list[float]], float]:
    """The same EM, written as the paper has it, a loop for each sum; and the objective of the last step."""
    items, judges = max(v[0] for v in verdicts) + 1, max(v[1] for v in verdicts) + 1
    truth = []
    for item in range(items):
        own = [v for i, _, v in verdicts if i == item]
        truth.append([own.count(k) / len(own) for k in range(3)])
    objective = 0.0
    for _ in range(steps):
        shares = [sum(row[k] for row in truth) / items for k in range(3)]
        confusion = [[[prior + 1e-9] * 3 for _ in range(3)] for _ in range(judges)]
        for item, judge, verdict in verdicts:
            for k in range(3):
                confusion[judge][k][verdict] += truth[item][k]
        confusion = [[[c / sum(row) for c in row] for row in matrix] for matrix in confusion]
        objective = prior * sum(math.log(c) for matrix in confusion for row in matrix for c in row)
        for item in range(items):
            joint = [max(share, 1e-300) for share in shares]
            for i, judge, verdict in verdicts:
                if i == item:
                    joint = [joint[k] * confusion[judge][k][verdict] for k in range(3)]
            objective += math.log(sum(joint))
            truth[item] = [value / sum(joint) for value in joint]
    return truth, objective


@settings(max_examples=60)
@given(said(), st.sampled_from([0.1, 1.0]), st.integers(1, 5))
def test_em_is_that_of_the_paper(verdicts: Said, prior: float, steps: int) -> None:
    fit = dawid_skene(
        *zip(*verdicts, strict=True), 3, prior=np.full((3, 3), prior), iterations=steps, tolerance=0
    )
    truth, objective = by_loops(verdicts, prior, steps)
    assert fit.truth == pytest.approx(np.array(truth), abs=1e-5)
    assert fit.objective[-1] == pytest.approx(objective, abs=1e-4)


@settings(max_examples=60)
@given(said(), st.booleans())
def test_the_objective_never_falls_and_chances_add_up_to_one(verdicts: Said, turned: bool) -> None:
    prior = np.full((3, 3), 0.5) + 1.5 * np.eye(3)
    fit = dawid_skene(
        *zip(*verdicts, strict=True), 3, prior=prior, mirror=[1, 0, 2] if turned else None, tolerance=0
    )
    assert np.diff(fit.objective).min() > -1e-6
    for chances in (fit.truth, fit.confusion, fit.shares):
        assert chances.sum(-1) == pytest.approx(np.ones(chances.shape[:-1]))


@settings(max_examples=40)
@given(said(), st.data())
def test_turning_items_around_turns_only_their_own_truth(verdicts: Said, data: st.DataObject) -> None:
    turned = {item: data.draw(st.booleans()) for item, _, _ in verdicts}
    other = [(i, j, (1, 0, 2)[v] if turned[i] else v) for i, j, v in verdicts]
    prior = np.full((3, 3), 0.5) + 1.5 * np.eye(3)
    one, two = (
        dawid_skene(*zip(*rows, strict=True), 3, prior=prior, mirror=[1, 0, 2]) for rows in (verdicts, other)
    )
    assert one.confusion == pytest.approx(two.confusion, abs=1e-6)
    for item, around in turned.items():
        assert two.truth[item] == pytest.approx(
            one.truth[item][[1, 0, 2]] if around else one.truth[item], abs=1e-6
        )


def test_a_planted_bad_judge_is_found_and_outvoted_where_the_majority_fails() -> None:
    dice = np.random.default_rng(0)
    truth = dice.integers(0, 2, 3000)
    # Two coins and one good judge: the majority is right about as often as the coins let it be.
    right = np.stack([dice.random(3000) < share for share in (0.5, 0.5, 0.9, 0.9, 0.15)], axis=1)
    verdicts = np.where(right, truth[:, None], 1 - truth[:, None])
    items = np.repeat(np.arange(3000), 5)
    fit = dawid_skene(items, np.tile(np.arange(5), 3000), verdicts.ravel(), 2)
    accuracy = fit.confusion[:, [0, 1], [0, 1]].mean(1)
    assert accuracy == pytest.approx([0.5, 0.5, 0.9, 0.9, 0.15], abs=0.03)
    majority = ((verdicts.mean(1) > 0.5) == truth).mean()
    found = (fit.truth.argmax(1) == truth).mean()
    assert found > 0.93 > majority + 0.1


def test_without_a_verdict_there_is_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match="at least one verdict"):
        dawid_skene([], [], [], 2)
