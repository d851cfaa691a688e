"""LLM judges, candidates behind an address, and people: what is read, counted, kept and resumed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from chat_stub import chat_stub, says

from alignment.data.files import write_records
from alignment.data.records import Completion, Judgment, Message, Record, Source
from alignment.errors import UserError
from alignment.evaluation import stage
from alignment.evaluation.answers import Answer, Prompt
from alignment.evaluation.llm_judge import LlmJudge, load_template
from alignment.evaluation.panel import conduct

QUESTIONS = [[{"role": "user", "content": f"q{i}"}] for i in range(6)]


def record(number: int, answers: dict[str, str], judgments: list[Judgment] | None = None) -> Record:
    completions = [Completion(content=text, source=Source("model", name)) for name, text in answers.items()]
    prompt = [Message("user", f"What is {number} and {number}?")]
    return Record(prompt, id=f"p{number}", completions=completions, judgments=judgments or [])


def evaluate(
    tmp_path: Path, records: list[Record], judge: dict[str, Any], run: str = "run", **more: Any
) -> Any:
    file = tmp_path / "answers.jsonl"
    write_records(file, records, overwrite=True)
    names = list(dict.fromkeys(c.source.name for r in records for c in r.completions if c.source))
    content = {
        "models": dict.fromkeys(names, str(file)),
        "comparisons": [names[:2]],
        "prompts": [str(file)],
        "judge": judge,
        "run": {"dir": str(tmp_path / run)},
        **more,
    }
    return stage.run(stage.Config.model_validate(content))["metrics"]


def answers_in(body: dict[str, Any]) -> tuple[str, str]:
    """The two answers that a judge was shown, in the order shown."""
    text = body["messages"][-1]["content"]
    found = re.search(
        r"\[Answer A\]\n(.*)\n\[End of answer A\]\n\n\[Answer B\]\n(.*)\n\[End", text, re.DOTALL
    )
    assert found, text
    return found[1], found[2]


# ---- the judge ----


def test_braces_in_texts_fill_nothing() -> None:
    template = load_template("pairwise")
    prompt = Prompt("p", [{"role": "user", "content": "Say {answer_a} and {prompt}"}], "k")
    text = template.question(prompt, answer_a="{answer_b} {x}", answer_b="B!")[-1]["content"]
    assert "Say {answer_a} and {prompt}" in text
    assert "{answer_b} {x}" in text
    assert text.count("B!") == 1


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("... [[A]]", 1.0),
        ("[[A]] or rather\n[[ B ]]", 0.0),
        ("[[C]]", 0.5),
        ("A is better", None),
        ("", None),
    ],
)
def test_verdicts_are_read_where_the_template_says(reply: str, read: float | None) -> None:
    assert load_template("pairwise").read(reply) == read


@pytest.mark.parametrize(
    ("reply", "read"), [("[[7]]", 7.0), ("[[7.5]]", 7.5), ("[[70]]", None), ("seven", None)]
)
def test_scores_are_read_within_the_scale(reply: str, read: float | None) -> None:
    assert load_template("score").read(reply) == read


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("kind: pairwise\nuser: x\nverdict: (A)\n", "user lacks {prompt}"),
        ("kind: both\nuser: x\nverdict: (A)\n", "kind is pairwise or score"),
        ("kind: score\nuser: '{prompt}{answer}'\nverdict: '[A'\nscale: [1, 2]\n", "no regular expression"),
        ("kind: score\nuser: '{prompt}{answer}'\nverdict: 'A'\nscale: [1, 2]\n", "one group"),
        ("kind: score\nuser: '{prompt}{answer}'\nverdict: (A)\n", "scale names"),
        ("kind: score\nusr: x\nuser: y\nverdict: (A)\n", "unknown key 'usr'"),
        ("- 1\n", "at least kind, user and verdict"),
    ],
)
def test_templates_of_ones_own_are_checked(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UserError, match=re.escape(message)):
        load_template(str(tmp_path / "mine.yaml"))
    with pytest.raises(UserError, match="no judge template 'nicest'"):
        load_template("nicest")


def test_both_orders_are_asked_and_a_verdict_that_changes_is_a_tie() -> None:
    prompts = [Prompt(f"p{i}", QUESTIONS[i], f"k{i}") for i in range(4)]
    ours, theirs = [Answer(t) for t in ("good", "bad", "same", "odd")], [Answer("other")] * 4

    def ask(questions: list[Any]) -> list[str]:
        replies = []
        for question in questions:
            first, second = answers_in({"messages": question})
            text = f"{first} {second}"
            if "good" in text:
                replies.append("[[A]]" if first == "good" else "[[B]]")
            elif "bad" in text:
                replies.append("[[A]]")  # whatever is shown first
            elif "same" in text:
                replies.append("[[C]]")
            else:
                replies.append("I would rather not say." if first == "odd" else "[[A]]")
        return replies

    judge = LlmJudge("m", load_template("pairwise"), ask)
    assert [v.outcome for v in judge(prompts, ours, theirs)] == [1.0, 0.5, 0.5, None]
    assert (judge.asked, judge.unread, judge.changed) == (8, 1, 1)


def test_a_reference_is_shown_or_missed() -> None:
    seen: list[str] = []

    def ask(questions: list[Any]) -> list[str]:
        seen.extend(q[-1]["content"] for q in questions)
        return ["[[A]]"] * len(questions)

    judge = LlmJudge("m", load_template("pairwise_reference"), ask)
    judge([Prompt("p", QUESTIONS[0], "k", reference="It is 42.")], [Answer("x")], [Answer("y")])
    assert all("It is 42." in text for text in seen)
    with pytest.raises(UserError, match="prompt p has no reference answer"):
        judge([Prompt("p", QUESTIONS[0], "k")], [Answer("x")], [Answer("y")])


def test_a_judge_that_always_says_a_is_found_out(tmp_path: Path) -> None:
    records = [record(i, {"ours": f"ours {i}", "base": f"base {i}"}) for i in range(20)]
    with chat_stub(lambda body, number: says("[[A]]")) as (url, stub):
        report = evaluate(tmp_path, records, {"kind": "llm", "url": url, "model": "lazy"})
    assert len(stub.asked) == 40
    assert report["win_rate"]["ours_vs_base"]["rate"] == 0.5
    assert report["judge"]["position"]["always"] == "first"
    assert any("always chose the answer shown first" in warning for warning in report["warnings"])


def test_an_evaluation_by_an_llm_judge_counts_what_it_could_not_read_and_resumes(tmp_path: Path) -> None:
    records = [record(i, {"ours": f"good {i}", "base": f"plain {i}"}) for i in range(12)]

    def judged(body: dict[str, Any], number: int) -> Any:
        first, _ = answers_in(body)
        if first.endswith(" 3"):
            return says("No verdict.")
        return says("Well argued. [[A]]" if first.startswith("good") else "[[B]]")

    def dying(body: dict[str, Any], number: int) -> Any:
        return judged(body, number) if number <= 9 else (403, "over quota", {}, 0.0)

    def moody(body: dict[str, Any], number: int) -> Any:
        return behaviour(body, number)

    behaviour = dying
    with chat_stub(moody) as (url, stub):
        judge = {"kind": "llm", "url": url, "model": "m", "api": {"concurrency": 1}}
        with pytest.raises(UserError, match="over quota"):
            evaluate(tmp_path, records, judge)
        assert len(stub.asked) == 10
        behaviour = judged
        report = evaluate(tmp_path, records, judge)
        assert len(stub.asked) == 10 + 24 - 9, "nothing is asked twice"
    assert report["win_rate"]["ours_vs_base"] | {"low": 0, "high": 0} == {
        "rate": 1.0,
        "low": 0,
        "high": 0,
        "n": 11,
        "ties": 0,
    }
    assert (report["judge"]["asked"], report["judge"]["unread"]) == (24, 2)
    assert any("2 of 24 replies" in warning for warning in report["warnings"])
    verdicts = [json.loads(line) for line in (tmp_path / "run/verdicts.jsonl").read_text().splitlines()]
    assert [v["prompt"] for v in verdicts if v["outcome"] is None] == ["p3"]
    assert len((tmp_path / "run/replies/judge-0.jsonl").read_text().splitlines()) == 24


def test_a_score_judge_and_a_second_judge_agree_as_far_as_they_do(tmp_path: Path) -> None:
    records = [record(i, {"ours": "a " * (i + 1), "base": "a " * 6}) for i in range(12)]

    def behave(body: dict[str, Any], number: int) -> Any:
        text = body["messages"][-1]["content"]
        if "[The answer]" in text:  # scores: the longer the better
            answer = text.split("[The answer]\n")[1].split("\n[End")[0]
            return says(f"[[{min(10, answer.count('a'))}]]")
        first, second = (len(answer) for answer in answers_in(body))
        return says("[[C]]" if abs(first - second) < 6 else "[[A]]" if first > second else "[[B]]")

    with chat_stub(behave) as (url, _):
        service = {"kind": "llm", "url": url, "model": "m"}
        report = evaluate(tmp_path, records, {**service, "template": "score"}, other_judges=[service])
    other = report["other_judges"][0]
    agreement = other["agreement_with_judge"]["ours_vs_base"]
    assert agreement["n"] == 12
    assert 0.5 < agreement["value"] < 1.0
    assert other["win_rate"]["ours_vs_base"]["ties"] > report["win_rate"]["ours_vs_base"]["ties"]


def test_a_judge_none_of_whose_replies_can_be_read_gives_no_verdict(tmp_path: Path) -> None:
    with (
        chat_stub(lambda body, number: says("Hm.")) as (url, _),
        pytest.raises(UserError, match="no reply of the judge m on ours_vs_base holds a verdict"),
    ):
        evaluate(tmp_path, [record(1, {"ours": "x", "base": "y"})], {"kind": "llm", "url": url, "model": "m"})


def test_a_local_model_judges(tmp_path: Path, toy_model: str) -> None:
    """The toy model says nothing that can be read; but it is asked, in both orders, and what it says kept."""
    judge = {"kind": "llm", "path": toy_model, "max_new_tokens": 4, "template": str(tmp_path / "any.yaml")}
    (tmp_path / "any.yaml").write_text(
        "kind: pairwise\nuser: '{prompt} {answer_a} {answer_b}'\nverdict: '^(.)'\n"
        "meaning: {x: first, y: second}\n"
    )
    records = [record(i, {"ours": "the cat", "base": "a dog"}) for i in range(2)]
    with pytest.raises(UserError, match="no reply of the judge"):
        evaluate(tmp_path, records, judge)
    assert len((tmp_path / "run/replies/judge-0.jsonl").read_text().splitlines()) == 4


# ---- candidates behind an address ----


def test_a_candidate_behind_an_address(tmp_path: Path) -> None:
    records = [record(i, {"base": "no idea"}) for i in range(5)]

    def behave(body: dict[str, Any], number: int) -> Any:
        assert body["max_tokens"] == 9
        return says(
            f"answer to {body['messages'][-1]['content']} ({body['seed']})",
            "length" if number == 1 else "stop",
        )

    with chat_stub(behave) as (url, stub):
        report = evaluate(
            tmp_path,
            records,
            {"kind": "program"},
            models={"base": str(tmp_path / "answers.jsonl"), "served": f"{url}#big-model"},
            comparisons=[["served", "base"]],
            generation={"max_new_tokens": 9},
        )
    assert len(stub.asked) == 5
    assert stub.asked[0]["model"] == "big-model"
    assert report["stages"]["served"]["eos_rate"] == pytest.approx(0.8)
    assert "answer to What is 3 and 3?" in (tmp_path / "run/completions.jsonl").read_text()
    with pytest.raises(UserError, match="names no model"):
        evaluate(
            tmp_path,
            records,
            {"kind": "program"},
            run="other",
            models={"base": str(tmp_path / "answers.jsonl"), "served": url},
            comparisons=[["served", "base"]],
        )


# ---- people ----


def ranked(who: str, ours: int | None, base: int | None, **more: Any) -> Judgment:
    return Judgment(by=who, ranks=[ours, base], **more)


def test_people_judge_what_they_ranked(tmp_path: Path) -> None:
    """Anna 1, 1, ½ for ours; Ben 1, 0, ½; a judgment of one answer alone says nothing."""
    answers = {"ours": "x", "base": "y"}
    records = [
        record(0, answers, [ranked("anna", 1, 2), ranked("ben", 1, 2)]),
        record(1, answers, [ranked("anna", 1, 2), ranked("ben", 2, 1), ranked("cem", 1, None)]),
        record(2, answers, [ranked("anna", 1, 1), Judgment(by="ben", all_bad=True)]),
    ]
    file = tmp_path / "answers.jsonl"
    report = evaluate(tmp_path, records, {"kind": "people", "path": str(file)})
    rate = report["win_rate"]["ours_vs_base"]
    assert (rate["rate"], rate["n"], rate["ties"]) == (pytest.approx(4 / 6), 6, 2)
    agreement = report["judge"]["agreement"]
    assert (agreement["value"], agreement["n"], agreement["people"]) == (pytest.approx(2 / 3), 3, 2)
    assert report["judge"]["name"] == "3 people"
    assert report["controls"]["shuffled_prompts"] == {}


def test_people_who_judged_something_else(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    with pytest.raises(UserError, match="holds no judgment"):
        evaluate(tmp_path, [record(0, {"ours": "x", "base": "y"})], {"kind": "people", "path": str(file)})
    other = tmp_path / "other.jsonl"
    write_records(other, [record(0, {"a": "x", "b": "y"}, [ranked("anna", 1, 2)])])
    with pytest.raises(UserError, match="must name ours and base as their sources"):
        evaluate(
            tmp_path,
            [record(0, {"ours": "x", "base": "y"})],
            {"kind": "people", "path": str(other)},
            run="r2",
        )


def test_what_is_told_of_a_judge_that_behaved() -> None:
    judge = LlmJudge("m", load_template("pairwise"), lambda questions: ["[[C]]"] * len(questions))
    judge([Prompt(f"p{i}", QUESTIONS[i], f"k{i}") for i in range(6)], [Answer("x")] * 6, [Answer("y")] * 6)
    told = conduct(judge, seed=0)
    assert told["position"]["always"] is None
    assert told["position"]["biased"] is False
    assert conduct(object(), 0) == {}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"kind": "llm"}, "give a path"),
        ({"kind": "llm", "path": "x", "url": "http://h", "model": "m"}, "not both"),
        ({"kind": "llm", "url": "http://h"}, "url and model go together"),
        ({"kind": "reward", "path": "x", "url": "http://h", "model": "m"}, "for kind: llm"),
        ({"kind": "people"}, "the export of the labeling app"),
        ({"kind": "program", "path": "x"}, "kind program reads none"),
    ],
)
def test_a_judge_is_described_in_one_way(section: dict[str, Any], message: str) -> None:
    from pydantic import ValidationError

    from alignment.evaluation.config import JudgeSection

    with pytest.raises(ValidationError, match=message):
        JudgeSection.model_validate(section)


def test_the_page_tells_of_the_judges(tmp_path: Path) -> None:
    records = [
        record(i, {"ours": "x", "base": "y"}, [ranked("anna", 1, 2), ranked("ben", 1, 2)]) for i in range(4)
    ]
    people = {"kind": "people", "path": str(tmp_path / "answers.jsonl")}
    with chat_stub(lambda body, number: says("[[A]]")) as (url, _):
        evaluate(tmp_path, records, people, other_judges=[{"kind": "llm", "url": url, "model": "m"}])
    page = (tmp_path / "run/report.html").read_text()
    assert "2 people: agreement" in page
    assert "m: chose the answer shown first" in page
    assert "The same verdict as 2 people" in page
