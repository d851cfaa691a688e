"""From judged answers to rates, tests and sentences: hand numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.errors import UserError
from alignment.evaluation import metrics
from alignment.evaluation.answers import Answer, Prompt, prompt_key
from alignment.evaluation.judges import ScoreJudge, program_judge
from alignment.evaluation.likelihood import LogProb
from alignment.evaluation.verdict import (
    Judged,
    claim,
    claim_over_seeds,
    compare,
    rate_of,
    shuffled,
    sign_tests,
    signs_of,
)
from alignment.stats import Interval, WinRate


def prompts(n: int) -> list[Prompt]:
    rows = [[{"role": "user", "content": f"say {i}"}] for i in range(n)]
    return [Prompt(f"p{i}", row, prompt_key(row)) for i, row in enumerate(rows)]


def length_judge(calls: list[int] | None = None) -> ScoreJudge:
    def score(asked: list, texts: list[str], finished: list[bool]) -> list[float]:
        if calls is not None:
            calls.append(len(texts))
        return [float(len(t)) for t in texts]

    return ScoreJudge("length", "Longer is better.", score)


ANSWERS = {
    "a": [[Answer("xx"), Answer("x")], [Answer("xxx"), Answer("x")], [Answer("x"), Answer("")]],
    "b": [[Answer("x"), Answer("x")], [Answer("x"), Answer("x")], [Answer("xx"), Answer("x")]],
}


def test_compare_pairs_the_same_sample_of_the_same_prompt() -> None:
    judged = compare(length_judge(), prompts(3), ("a", "b"), ANSWERS)
    assert [(j.prompt, j.sample, j.outcome) for j in judged] == [
        (0, 0, 1), (0, 1, 0.5), (1, 0, 1), (1, 1, 0.5), (2, 0, 0), (2, 1, 0),
    ]  # fmt: skip
    rate = rate_of(judged)
    assert (rate.rate, rate.n, rate.ties) == (0.5, 6, 2)
    assert signs_of(judged) == (2, 1)


def test_no_text_is_scored_twice() -> None:
    calls: list[int] = []
    judge = length_judge(calls)
    compare(judge, prompts(3), ("a", "b"), ANSWERS)
    compare(judge, prompts(3), ("b", "a"), ANSWERS)
    judge.scores(prompts(3)[:1], [ANSWERS["a"][0][0]])
    # 12 answers; (prompt, text) differs in 5 of a's and in 4 of b's, and two of those are the same text
    assert sum(calls) == len(
        {(i, a.text) for rows in ANSWERS.values() for i, r in enumerate(rows) for a in r}
    )


def test_a_score_that_is_no_number_is_refused() -> None:
    judge = ScoreJudge("broken", "", lambda p, t, f: [math.nan] * len(t))
    with pytest.raises(UserError, match="broken gave nan for an answer to prompt p0"):
        judge.scores(prompts(1), [Answer("x")])


def test_the_judge_is_told_what_was_cut_off() -> None:
    seen: list[bool] = []
    judge = ScoreJudge("spy", "", lambda p, t, f: seen.extend(f) or [0.0] * len(t))  # type: ignore[func-returns-value]
    judge.scores(prompts(3), [Answer("a", False), Answer("b", True), Answer("c")])
    assert seen == [False, True, True]


def test_the_program_judge_reads_the_prompt() -> None:
    ask = [{"role": "user", "content": "Write one sentence about a fox."}]
    prompt = Prompt("p", ask, prompt_key(ask))
    fox, dog = Answer("The quick red fox ran over the hill to its warm den."), Answer("A dog slept.")
    assert program_judge()([prompt], [fox], [dog])[0].outcome == 1.0


@given(st.integers(2, 200), st.integers(0, 5))
def test_shuffled_prompts_leave_none_in_place(size: int, seed: int) -> None:
    order = shuffled(size, seed)
    assert sorted(order) == list(range(size))
    assert all(i != o for i, o in enumerate(order))
    assert order == shuffled(size, seed)


def test_shuffled_control_judges_against_the_other_prompt() -> None:
    seen: list[str] = []

    def score(asked: list, texts: list[str], finished: list[bool]) -> list[float]:
        seen.extend(row[0]["content"] for row in asked)
        return [0.0] * len(texts)

    judged = compare(ScoreJudge("spy", "", score), prompts(3), ("a", "b"), ANSWERS, on=[1, 2, 0])
    assert [(j.prompt, j.on) for j in judged][::2] == [(0, 1), (1, 2), (2, 0)]
    assert seen[:2] == ["say 1", "say 1"]


def test_holm_over_several_comparisons() -> None:
    judged = compare(length_judge(), prompts(3), ("a", "b"), ANSWERS)
    tests = sign_tests({"a_vs_b": judged, "again": judged})
    assert tests["a_vs_b"]["p"] == 1.0
    assert tests["again"]["p_holm"] == 1.0


@pytest.mark.parametrize(
    ("rate", "tone", "words"),
    [
        (WinRate(0.7, 0.64, 0.75, 200, 12), "good", "dpo is better than sft: the judge prefers it in 70%"),
        (WinRate(0.3, 0.24, 0.36, 200, 0), "bad", "dpo is worse than sft: the judge prefers it in only 30%"),
        (WinRate(0.52, 0.45, 0.59, 200, 1), "unsure", "cannot be told"),
        (WinRate(0.55, 0.5, 0.6, 200, 1), "unsure", "holds one half"),
    ],
)
def test_claims_in_words(rate: WinRate, tone: str, words: str) -> None:
    said = claim("dpo", "sft", rate, 0.01, 200, 3)
    assert said.tone == tone
    assert words in said.text
    assert "95%" in said.text


def test_detail_says_ties_and_correction() -> None:
    said = claim("a", "b", WinRate(0.7, 0.6, 0.8, 400, 12), 1e-9, 200, 3)
    assert said.detail == (
        "How sure: two equally good models would differ so much or more by chance in fewer than 1 of 10,000 "
        "evaluations (exact sign test, corrected for 3 comparisons). "
        "The 200 prompts (400 comparisons, 12 ties, counted as half) were enough to tell."
    )


def test_equal_halves_are_no_surprise_in_any_evaluation() -> None:
    assert "in 100 of 100 evaluations" in claim("a", "b", WinRate(0.5, 0.4, 0.6, 100, 0), 1.0, 100, 1).detail


def test_a_win_that_the_correction_takes_away_is_not_sure() -> None:
    said = claim("a", "b", WinRate(0.6, 0.51, 0.69, 100, 0), 0.12, 100, 3)
    assert said.tone == "unsure"
    assert said.text.startswith("a looks better than b, but that may be chance")
    assert "12 of 100 evaluations" in said.detail
    assert "The 100 prompts (no ties) were not enough to be sure" in said.detail
    assert "looks worse" in claim("a", "b", WinRate(0.4, 0.31, 0.49, 100, 0), 0.12, 100, 3).text


def test_a_win_rate_that_the_sign_test_contradicts_is_no_verdict() -> None:
    """36 prompts won by three answers to none, 64 lost by one to two: the rate leads up, the signs down."""
    rows = [(i, o) for i in range(36) for o in (1.0, 1.0, 1.0)]
    rows += [(i, o) for i in range(36, 100) for o in (1.0, 0.0, 0.0)]
    judged = [Judged("a", "b", i, k % 3, i, o, None, None) for k, (i, o) in enumerate(rows)]
    rate, test = rate_of(judged), sign_tests({"a_vs_b": judged})["a_vs_b"]
    assert rate.low > 0.5
    assert test["p_holm"] < 0.01
    said = claim("a", "b", rate, test["p_holm"], 100, 1, signs=(test["wins"], test["losses"]))
    assert said.tone == "unsure"
    assert "depends on how one counts" in said.text
    assert "it won 36 prompts and lost 64" in said.text
    assert claim("a", "b", rate, 0.001, 100, 1, signs=(64, 36)).tone == "good"


def test_several_seeds_of_a_recipe_speak_together() -> None:
    over = Interval(0.62, 0.53, 0.7, 3)
    said = claim_over_seeds("dpo", "sft", over, [0.58, 0.61, 0.67], 200, 0.046, 1)
    assert said.text.startswith("dpo is better than sft: over 3 training seeds the judge prefers it in 62%")
    assert "Seed by seed: 58%, 61%, 67%; 200 prompts. t test of the seeds: p = 0.046." in said.detail
    assert "too narrow" in said.detail
    for low, tone in ((0.5, "unsure"), (0.51, "good")):
        many = claim_over_seeds("a", "b", Interval(0.6, low, 0.7, 12), [0.6] * 12, 9, 0.0, 1)
        assert "too narrow" not in many.detail
        assert many.tone == tone


def test_seeds_that_may_differ_by_chance_call_no_recipe_better() -> None:
    said = claim_over_seeds("dpo", "sft", Interval(0.62, 0.53, 0.7, 3), [0.58, 0.61, 0.67], 200, 0.092, 2)
    assert said.tone == "unsure"
    assert said.text.startswith("dpo looks better than sft, but the next seed may not be: over 3 training")
    assert "p = 0.092, corrected for 2 comparisons" in said.detail


def test_kl_is_the_mean_of_summed_log_ratios() -> None:
    own = [LogProb(-1.0, 2), LogProb(-2.0, 3), LogProb(-3.0, 1)]
    parent = [LogProb(-2.0, 2), LogProb(-2.5, 3), LogProb(-6.0, 1)]
    kl = metrics.kl(own, parent, [0, 1, 2])
    assert kl.value == pytest.approx((1 + 0.5 + 3) / 3)
    assert kl.low < kl.value < kl.high
    assert metrics.kl(own, own, [0, 1, 2])[:3] == (0, 0, 0)
    assert metrics.per_token([LogProb(-3.0, 2), LogProb(0.0, 0)]) == [-1.5, 0.0]


def test_lengths_and_endings() -> None:
    rows = [[Answer("one two", True, [1, 2, 3])], [Answer("", False, [])]]
    assert metrics.words(rows) == [2, 0]
    assert metrics.tokens(rows) == [3, 0]
    assert metrics.eos_rate(rows) == 0.5
    assert metrics.empty_rate(rows) == 0.5
    unknown = [[Answer("one")]]
    assert (metrics.tokens(unknown), metrics.eos_rate(unknown)) == (None, None)


def test_change_in_length_and_how_often_the_longer_won() -> None:
    answers = {
        "a": [[Answer("x x x")], [Answer("x")], [Answer("x x")]],
        "b": [[Answer("x")], [Answer("x x")], [Answer("x x")]],
    }
    judged = compare(length_judge(), prompts(3), ("a", "b"), answers)
    change = metrics.length_change(judged, answers)
    assert change["value"] == pytest.approx(1 / 3)
    assert change["longer_won"] == 1.0


def test_no_side_is_called_better_where_the_exact_interval_or_equal_length_doubts_it() -> None:
    from alignment.evaluation.statistics import doubted, undecided

    rate = WinRate(0.38, 0.27, 0.49, 60, 0)
    exact = {"low": 0.26, "high": 0.51}
    narrow = {"low": 0.26, "high": 0.49}
    for figures in (
        {"exact": exact, "length_controlled": None},
        {"exact": narrow, "length_controlled": {"explains_the_result": True}},
    ):
        said = claim("a", "b", rate, 0.03, 60, 1, doubt=doubted(figures))
        assert said.tone == "unsure"
        assert "looks worse than b, but that may be chance" in said.text
        assert "includes one half" in said.detail
    assert doubted({"exact": narrow, "length_controlled": {"explains_the_result": False}}) is None
    assert claim("a", "b", rate, 0.03, 60, 1).tone == "bad"

    power = {"prompts": 100, "ties": 1.0, "smallest_rate_exactly": None, "needed": None}
    tied = {"win_rate": {"rate": 0.5, "low": 0.5, "high": 0.5}, "power": power}
    assert "tied on every prompt" in (undecided("a", "b", tied) or "")
