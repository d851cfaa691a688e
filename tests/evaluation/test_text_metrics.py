"""Text metrics through `evaluate`, against sacrebleu, rouge_score and hand counts; diversity too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.evaluation.answers import Answer, FollowUp, Prompt
from alignment.evaluation.diversity import distinct, diversity_report, self_bleu

PREDICTIONS = [
    "The cat sat on the mat .",
    "A quick brown fox jumps over the lazy dog.",
    "nothing alike",
    "It costs 1,234 dollars, they say.",
    "",
]
REFERENCES = [
    ["The cat is on the mat.", "A cat sat on the mat."],
    ["The quick brown fox jumped over a lazy dog."],
    ["entirely different words"],
    ["They say it costs $1,234."],
    ["an answer"],
]


def test_one_combined_module_gives_what_the_libraries_give(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu import corpus_bleu, corpus_chrf

    from alignment.evaluation.text_metrics import text_metrics

    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("nothing may be contacted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = text_metrics().compute(predictions=PREDICTIONS, references=REFERENCES)
    by_place = [[r[min(k, len(r) - 1)] for r in REFERENCES] for k in range(2)]
    assert found["bleu_bleu"] == pytest.approx(corpus_bleu(PREDICTIONS, by_place).score / 100)
    assert found["chrf_chrf"] == pytest.approx(corpus_chrf(PREDICTIONS, by_place).score / 100)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    for key in ("rouge1", "rouge2", "rougeL"):
        rows = [
            max(scorer.score(r, p)[key].fmeasure for r in refs)
            for p, refs in zip(PREDICTIONS, REFERENCES, strict=True)
        ]
        assert found[f"rouge_{key}"] == pytest.approx(np.mean(rows))
    # By hand, articles and punctuation out: "cat sat on mat" is the second reference; 6 words are shared by 7
    # and 7; none; "it costs 1234 dollars they say" shares 5 with "they say it costs 1234"; none.
    f1 = [1.0, 12 / 14, 0.0, 10 / 11, 0.0]
    assert found["words_f1"] == pytest.approx(np.mean(f1))
    assert found["words_exact_match"] == pytest.approx(1 / 5)
    assert len(found) == 7
    assert all(type(value) is float for value in found.values())  # plain numbers, for evaluate.save


def test_the_report_has_intervals_of_the_same_values_and_paired_changes() -> None:
    from alignment.evaluation.text_metrics import text_metrics, text_report

    rng = np.random.default_rng(0)
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa".split()
    references = [" ".join(rng.choice(words, 12)) for _ in range(60)]
    prompts = [Prompt(str(i), [], str(i), None if i % 3 == 2 else r) for i, r in enumerate(references)]

    def noisy(share: float) -> list[list[Answer]]:
        return [
            [Answer(" ".join(rng.choice(words) if rng.random() < share else w for w in r.split()))]
            for r in references
        ]

    answers = {"good": noisy(0.2), "bad": noisy(0.5)}
    report = text_report(prompts, answers, [("good", "bad")], seed=1)
    assert (report["prompts"], report["of"]) == (40, 40)
    assert "tok:13a" in report["signatures"]["bleu"]
    known = [i for i, prompt in enumerate(prompts) if prompt.reference is not None]
    for name, rows in answers.items():
        direct = text_metrics().compute(
            predictions=[rows[i][0].text for i in known], references=[[references[i]] for i in known]
        )
        for key, value in direct.items():
            interval = report["models"][name][key.partition("_")[2]]
            assert interval["value"] == pytest.approx(value)
            assert interval["low"] <= value <= interval["high"]
    for key, change in report["pairs"]["good_vs_bad"].items():
        each = [report["models"][name][key]["value"] for name in ("good", "bad")]
        assert change["value"] == pytest.approx(each[0] - each[1])
    change = report["pairs"]["good_vs_bad"]["f1"]
    assert change["low"] > 0
    assert report == text_report(prompts, answers, [("good", "bad")], seed=1)


def test_an_interval_of_a_mean_is_the_bootstraps() -> None:
    from alignment.evaluation.text_metrics import text_report
    from alignment.stats import bootstrap_interval

    texts = ["yes", "no", "yes no", "no", "yes"] * 30
    prompts = [Prompt(str(i), [], str(i), "yes") for i in range(len(texts))]
    report = text_report(prompts, {"m": [[Answer(text)] for text in texts]}, [])
    expected = bootstrap_interval([text == "yes" for text in texts])
    found = report["models"]["m"]["exact_match"]
    assert (found["low"], found["high"]) == (
        pytest.approx(expected.low, abs=0.02),
        pytest.approx(expected.high, abs=0.02),
    )


def test_a_follow_up_is_held_against_its_own_reference() -> None:
    from alignment.evaluation.text_metrics import text_report

    asked = (("assistant", "one"), ("user", "and now?"))
    prompts = [Prompt(str(i), [], str(i), "one", (), (FollowUp("and now?", "two"),)) for i in range(3)]
    answers = {"m": [[Answer("one"), Answer("two", before=asked)]] * 3}
    assert text_report(prompts, answers, [])["models"]["m"]["exact_match"]["value"] == 1.0


@settings(max_examples=50)
@given(*(st.lists(st.sampled_from(["a", "b", "c", "d!"]), max_size=90).map(" ".join) for _ in range(2)))
def test_rouge_l_is_rouge_scores(reference: str, text: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    from alignment.evaluation.text_metrics import _rouge_l

    expected = RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure
    assert _rouge_l(reference, text) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_self_bleu_is_sacrebleus_with_all_others_as_references(seed: int) -> None:
    from sacrebleu.metrics import BLEU

    rng = np.random.default_rng(seed)
    words = "a b c d e f g".split()
    texts = [" ".join(rng.choice(words, rng.integers(1, 15))) for _ in range(12)]
    texts += [texts[0], "z z z z"]
    plain = BLEU(tokenize="none", effective_order=True, force=True)
    expected = [
        plain.sentence_score(text, texts[:i] + texts[i + 1 :]).score / 100 for i, text in enumerate(texts)
    ]
    assert self_bleu(texts) == pytest.approx(expected)
    assert self_bleu(texts)[0] == pytest.approx(1.0)  # said twice


def test_distinct_by_hand() -> None:
    texts = ["The cat the cat", "the dog"]
    assert distinct(texts, 1) == pytest.approx(3 / 6)
    assert distinct(texts, 2) == pytest.approx(3 / 4)  # the cat, cat the, the dog; of four
    assert distinct(["one"], 2) is None


@settings(max_examples=50)
@given(st.lists(st.text("ab ", max_size=12), min_size=1, max_size=8))
def test_shares_stay_between_none_and_all(texts: list[str]) -> None:
    for n in (1, 2):
        share = distinct(texts, n)
        assert share is None or 0 < share <= 1
    assert all(0 <= value <= 1 + 1e-9 for value in self_bleu(texts))


def test_a_model_that_says_one_thing_is_seen() -> None:
    rng = np.random.default_rng(2)
    words = [f"w{i}" for i in range(200)]
    varied = [[Answer(" ".join(rng.choice(words, 50)))] * 2 for _ in range(30)]
    same = [[Answer("I am happy to help. " * 12)] * 2 for _ in range(30)]
    report = diversity_report({"varied": varied, "same": same})
    assert report["same"]["self_bleu"]["value"] == pytest.approx(1.0)
    assert report["varied"]["self_bleu"]["high"] < 0.5
    assert report["varied"]["distinct_2"] > 0.9 > report["same"]["distinct_2"]
    assert report["same"]["repetitive"]["value"] == 1.0
    assert report["varied"]["repeated"]["value"] < 0.1
    assert report["varied"]["self_bleu_within_prompts"]["value"] == pytest.approx(1.0)  # both samples are one
    assert diversity_report({"m": [[Answer("one")]]})["m"]["self_bleu"] is None
