"""Prompts of two turns, as MT-Bench's: each candidate goes on from its own first answer, judged on both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chat_stub import chat_stub, says

from alignment.data.files import read_records, write_records
from alignment.data.formats import mt_bench
from alignment.data.records import Completion, Judgment, Message, Record, Source
from alignment.errors import UserError
from alignment.evaluation import sampled, stage
from alignment.evaluation.answers import read_answers, read_prompts
from alignment.evaluation.statistics import stored_figures
from alignment.evaluation.stored import read_stored


@pytest.fixture
def questions(tmp_path: Path) -> str:
    """Twelve questions of MT-Bench's form, converted as a user would."""
    source = tmp_path / "question.jsonl"
    rows = [
        {
            "question_id": 81 + i,
            "category": "math" if i % 2 else "writing",
            "turns": [f"Tell of cat {i}.", f"Now of dog {i}."],
            **({"reference": [f"cat {i}", f"dog {i}"]} if i % 2 else {}),
        }
        for i in range(12)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = tmp_path / "mt_bench.jsonl"
    write_records(target, mt_bench.read(str(source)))
    return str(target)


def config(prompts: str, folder: Path, models: dict[str, str], **more: Any) -> stage.Config:
    names = list(models)
    return stage.Config.model_validate(
        {
            "models": models,
            "comparisons": [names[:2]],
            "prompts": [prompts],
            "judge": {"kind": "program"},
            "generation": {"max_new_tokens": 6},
            "run": {"dir": str(folder)},
            **more,
        }
    )


def test_questions_of_mt_bench_are_conversations(questions: str, tmp_path: Path) -> None:
    prompts, _ = read_prompts([questions], None)
    assert [prompt.turns for prompt in prompts] == [2] * 12
    assert prompts[1].tags == ("math",)
    assert prompts[1].reference == "cat 1"
    assert prompts[1].follow_ups == (("Now of dog 1.", "dog 1"),)
    assert prompts[0].follow_ups == (("Now of dog 0.", None),)
    with pytest.raises(UserError, match=r"is mt-bench.*convert it first"):
        read_prompts([str(tmp_path / "question.jsonl")], None)
    own = tmp_path / "own.jsonl"
    write_records(own, [Record([Message("user", "a")], meta={"follow_ups": ["b", "c"], "tags": "x"})])
    assert read_prompts([str(own)], None)[0][0].turns == 3
    write_records(own, [Record([Message("user", "a")], meta={"follow_ups": "b"})], overwrite=True)
    with pytest.raises(UserError, match="follow_ups is a list of texts"):
        read_prompts([str(own)], None)


def test_each_goes_on_from_its_own_answer_and_an_interrupted_one_from_where_it_was(
    questions: str, tmp_path: Path, toy_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toy import make_toy_model

    import alignment.backend.generation as generation

    models = {"sft": make_toy_model(tmp_path / "sft", 1), "base": toy_model}
    more: dict[str, Any] = {"parents": {"sft": "base"}, "base": "base", "samples_per_prompt": 2}
    more["latency_prompts"] = 0
    real, asked = generation.generate, []

    def generate(model: Any, tokenizer: Any, prompts: list, *rest: Any, **named: Any) -> Any:
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(prompts)
        return real(model, tokenizer, prompts, *rest, **named)

    monkeypatch.setattr(generation, "generate", generate)
    monkeypatch.setattr(sampled, "PART", 8)
    wanted = config(questions, tmp_path / "run", models, **more)
    with pytest.raises(KeyboardInterrupt):
        stage.run(wanted)
    assert [len(batch) for batch in asked] == [8, 16, 4, 8, 8]  # two samples, each with its own second turn
    asked.append([])
    report = stage.run(wanted)["metrics"]
    assert [len(batch) for batch in asked[6:]] == [16, 4, 8]
    second = next(batch for batch in asked if len(batch) == 16)
    assert [message["role"] for message in second[0]] == ["user", "assistant", "user"]
    assert second[0][2]["content"] == "Now of dog 0."
    assert second[0][1] != second[1][1], "two samples, two first answers"

    records = list(read_records(tmp_path / "run" / "completions.jsonl"))
    talk = records[0].completions[0].messages
    assert talk is not None
    assert [m.role for m in talk] == ["assistant", "user", "assistant"]
    assert talk[0].content == second[0][1]["content"]
    rate = report["win_rate"]["sft_vs_base"]
    assert rate["n"] == 48  # 12 prompts, 2 samples, 2 turns
    assert set(report["slices"]) == {"turn 1", "turn 2"}  # six prompts a category are too few
    assert report["slices"]["turn 2"]["sft_vs_base"]["n"] == 24
    assert report["stages"]["sft"]["kl"] > 0
    assert report["controls"]["shuffled_prompts"]["sft_vs_base"]["n"] == 24, "first answers alone"

    # The same from what was stored: conversations as files, and the statistics again.
    file = str(tmp_path / "run" / "completions.jsonl")
    again = stage.run(
        config(questions, tmp_path / "again", {"sft": file, "base": file}, samples_per_prompt=2)
    )
    assert again["metrics"]["win_rate"] == report["win_rate"]
    assert again["metrics"]["statistics"] == report["statistics"]
    figures = stored_figures(read_stored(tmp_path / "run"))["comparisons"]["sft_vs_base"]
    assert figures["length_controlled"] == report["statistics"]["sft_vs_base"]["length_controlled"]


def test_a_judge_reads_the_whole_conversation_and_the_served_candidate_its_own(
    questions: str, tmp_path: Path
) -> None:
    judged: list[str] = []

    def behave(body: dict[str, Any], number: int) -> Any:
        text = body["messages"][-1]["content"]
        if body["model"] == "judge":
            judged.append(text)
            return says("[[A]]" if text.index("good") < text.index("bad") else "[[B]]")
        if len(body["messages"]) == 3:
            assert body["messages"][1] == {"role": "assistant", "content": f"{body['model']} first"}
        return says(f"{body['model']} {'first' if len(body['messages']) == 1 else 'second'}")

    with chat_stub(behave) as (url, stub):
        models = {"ours": f"{url}#good", "theirs": f"{url}#bad"}
        judge = {"kind": "llm", "url": url, "model": "judge"}
        report = stage.run(config(questions, tmp_path / "run", models, judge=judge, max_prompts=4))["metrics"]
    assert report["win_rate"]["ours_vs_theirs"]["rate"] == 1.0
    assert len(stub.asked) == 2 * 4 * 2 + 2 * 4 * 2  # answers; verdicts in both orders
    later = [text for text in judged if "goes on" in text]
    assert len(later) == 8
    for part in ("Tell of cat", "good first", "Now of dog", "good second", "bad first", "bad second"):
        assert all(part in text for text in later)


def test_conversations_in_files_are_those_of_the_prompts(questions: str, tmp_path: Path) -> None:
    prompts, _ = read_prompts([questions], 1)

    def answers(*turns: tuple[str, str]) -> str:
        completion = Completion(
            messages=[Message(role, text) for role, text in turns],  # type: ignore[arg-type]
            source=Source("model", "m"),
        )
        path = tmp_path / "answers.jsonl"
        prompt = [Message("user", "Tell of cat 0.")]
        record = Record(prompt, completions=[completion], meta={"follow_ups": ["Now of dog 0."]})
        write_records(path, [record], overwrite=True)
        return str(path)

    good = answers(("assistant", "Cat."), ("user", "Now of dog 0."), ("assistant", "Dog."))
    ((first, second),) = read_answers(good, "m", prompts, 1)
    assert (first.text, first.before) == ("Cat.", ())
    assert (second.text, second.before[-1]) == ("Dog.", ("user", "Now of dog 0."))
    for turns in (
        [("assistant", "Cat.")],
        [("assistant", "Cat."), ("user", "Another."), ("assistant", "Dog.")],
        [("assistant", "Cat."), ("user", "Now of dog 0."), ("user", "Well?")],
    ):
        with pytest.raises(UserError, match=r"models.m: .*prompt mt-bench-81 has 2 turns"):
            read_answers(answers(*turns), "m", prompts, 1)


def test_people_judge_a_conversation_as_a_whole(tmp_path: Path) -> None:
    """What they say of it counts once, for its last turn."""
    records = []
    for i in range(12):
        completions = [
            Completion(
                messages=[
                    Message("assistant", f"{name} of a cat."),
                    Message("user", f"Now of dog {i}."),
                    Message("assistant", f"{name} of a dog."),
                ],
                source=Source("model", name),
            )
            for name in ("base", "ours")
        ]
        judgments = [Judgment(by="ann", ranks=[2, 1]), Judgment(by="ben", ranks=[1, 1])]
        meta = {"follow_ups": [f"Now of dog {i}."]}
        prompt = [Message("user", f"Tell of cat {i}.")]
        records.append(Record(prompt, completions=completions, judgments=judgments, meta=meta))
    file = str(tmp_path / "ranked.jsonl")
    write_records(file, records)
    people = {"kind": "people", "path": file}
    wanted = config(file, tmp_path / "run", {"ours": file, "base": file}, judge=people)
    report = stage.run(wanted)["metrics"]
    assert report["win_rate"]["ours_vs_base"] | {"low": 0, "high": 0} == {
        "rate": 0.75, "low": 0, "high": 0, "n": 24, "ties": 12,
    }  # fmt: skip
    assert set(report["slices"]) == {"turn 2"}
    assert report["judge"]["agreement"]["value"] == 0.0
