"""The quickstart: what the judge makes of the shipped data, sets that share nothing, and the whole path."""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from alignment import pipeline
from alignment.backend.config import load_config
from alignment.cli import quickstart
from alignment.data.files import ASSETS, read_records, write_records
from alignment.data.records import Record, message_dict
from alignment.data.views import pairs_view
from alignment.errors import UserError
from alignment.evaluation.program import judge, parts, request

SETS = {
    "demonstrations.jsonl.gz": 1400,
    "rankings.jsonl.gz": 1300,
    "rankings_held_out.jsonl.gz": 120,
    "ppo_prompts.jsonl": 1500,
    "held_out_prompts.jsonl": 300,
}
COMPARISONS = ("sft_vs_base", "dpo_vs_sft", "ppo_vs_sft")


def records(name: str) -> list[Record]:
    return list(read_records(f"quickstart/{name}"))


def asked(record: Record) -> list[dict[str, Any]]:
    return [message_dict(turn) for turn in record.prompt]


@pytest.fixture(scope="module")
def demonstrations() -> list[tuple[list[dict[str, Any]], str]]:
    return [(asked(r), r.completions[0].text) for r in records("demonstrations.jsonl.gz")]


def test_shortcuts_score_below_the_mean_demonstration(
    demonstrations: list[tuple[list[dict[str, Any]], str]],
) -> None:
    shown = mean(judge(prompt, text) for prompt, text in demonstrations)
    assert shown > 0.8
    assert mean(judge(prompt, prompt[-1]["content"]) for prompt, _ in demonstrations) < 0.1
    assert mean(judge(prompt, "") for prompt, _ in demonstrations) == 0.0
    some, others = demonstrations[:400], demonstrations[400:480]
    constants = sorted(some, key=lambda pair: -judge(*pair))[:100]
    best = max(mean(judge(prompt, text) for prompt, _ in others) for _, text in constants)
    assert best < shown - 0.3


def test_a_list_of_the_facts_scores_below_the_mean_demonstration(
    demonstrations: list[tuple[list[dict[str, Any]], str]],
) -> None:
    shown = mean(judge(prompt, text) for prompt, text in demonstrations)
    shapes = (
        lambda facts, n: ", ".join(facts) + ".",
        lambda facts, n: " ".join([" ".join(facts) + "."] * n),
        lambda facts, n: " ".join(f"There is {fact}." for fact in facts),
        lambda facts, n: " ".join([f"It is the {' and the '.join(facts)}."] * n),
        lambda facts, n: " ".join(facts * 4) + ".",
    )
    for shape in shapes:
        listed = [
            judge(prompt, shape(request(prompt)[0], request(prompt)[1] or 1)) for prompt, _ in demonstrations
        ]
        assert mean(listed) < shown - 0.15


def test_no_prompt_is_in_two_sets_or_twice_in_one() -> None:
    seen: dict[frozenset[str], str] = {}
    for name, count in SETS.items():
        rows = records(name)
        assert len(rows) >= count, name
        for record in rows:
            words = frozenset(record.prompt[-1].content.lower().replace(".", "").replace(",", "").split())
            assert words not in seen, (name, seen.get(words), record.prompt[-1].content)
            seen[words] = name


def test_the_shipped_data_is_small_valid_licensed_and_sourced() -> None:
    files = sorted((ASSETS / "quickstart").iterdir())
    assert [file.name for file in files] == sorted(SETS)
    assert sum(file.stat().st_size for file in files) < 1e6
    for file in files:
        for record in read_records(file):  # checks each record
            for completion in record.completions:
                assert completion.license == "Apache-2.0"
                assert completion.source is not None
                assert completion.source.kind == "model"


def test_rankings_follow_the_judge_and_every_record_has_a_pair() -> None:
    rows = records("rankings_held_out.jsonl.gz") + records("rankings.jsonl.gz")
    assert {judgment.by for record in rows for judgment in record.judgments} == {"program-judge"}
    for record in rows:
        scores = [judge(asked(record), completion.text) for completion in record.completions]
        ranks = record.judgments[0].ranks or []
        assert scores[ranks.index(1)] > scores[ranks.index(max(ranks))]
    assert len({row["id"] for row in pairs_view(rows)}) == len(rows)


def test_every_held_out_prompt_states_facts_and_a_number() -> None:
    for record in records("held_out_prompts.jsonl"):
        facts, sentences = request(asked(record))
        assert 3 <= len(facts) <= 4
        assert sentences in (2, 3)
        assert parts(asked(record), "It was good.")["facts"] == 0.0


def test_a_finished_quickstart_is_not_run_again(tmp_path: Path) -> None:
    quickstart.check_new(tmp_path, overwrite=False)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UserError, match="finished quickstart"):
        quickstart.check_new(tmp_path, overwrite=False)
    quickstart.check_new(tmp_path, overwrite=True)
    assert not (tmp_path / "report.json").exists()


def short(folder: Path) -> pipeline.Config:
    """The quickstart's pipeline with a step or two of everything."""
    config = load_config(pipeline.Config, "quickstart/pipeline.yaml", [f"run.dir={json.dumps(str(folder))}"])
    few = folder.parent / "few.jsonl"
    write_records(few, records("rankings_held_out.jsonl.gz")[:4])
    trainer = {"trainer.max_steps": 2, "trainer.per_device_train_batch_size": 2}
    pairs = {**trainer, "data.max_rows": 4}
    changes: dict[str, dict[str, Any]] = {
        "sft": {**trainer, "data.max_rows": 4},
        "reward": {**pairs, "data.validation": [str(few)]},
        "reward_control": {**pairs, "data.validation": [str(few)]},
        "dpo": pairs,
        "ppo": {
            "trainer.total_episodes": 4,
            "trainer.critic_warmup_steps": 1,
            "trainer.per_device_train_batch_size": 2,
            "trainer.max_completion_length": 6,
        },
        "evaluate": {"max_prompts": 3, "generation.max_new_tokens": 6},
    }
    for step in config.steps:
        step.set |= changes[step.title]
    return config


def test_the_path_in_small_ends_in_a_report_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    results = pipeline.run(short(out))
    report = json.loads((out / "report.json").read_text())
    assert report["reward_model"]["accuracy"].keys() == {"value", "low", "high", "n"}
    assert report["controls"]["reward_on_shuffled_labels"].keys() == {"value", "low", "high", "n"}
    for name in COMPARISONS:
        assert report["win_rate"][name].keys() >= {"rate", "low", "high", "n", "ties"}
        assert report["controls"]["shuffled_prompts"][name]["n"] >= 3
        assert "value" in report["controls"]["length"][name]
    for name in ("sft", "reward", "dpo", "ppo", "evaluate"):
        assert report["stages"][name]["seconds"] > 0
    for name in ("sft", "dpo", "ppo"):
        assert isinstance(report["stages"][name]["kl"], float)
        assert name in report["controls"]["log_likelihood"]
    assert report["judge"]["kind"] == "program"
    assert (out / "report.html").read_text().startswith("<!")
    quickstart.closing(results, out)
    told = capsys.readouterr().out
    assert str(out / "report.html") in told
    assert f" label import {out}/evaluate/completions.jsonl" in told
    again = time.monotonic()
    assert pipeline.run(load_same(out))["steps"].keys() == results["steps"].keys()
    assert time.monotonic() - again < 10


def load_same(out: Path) -> pipeline.Config:
    (out.parent / "few.jsonl").unlink()
    return short(out)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_whole_path_wins(tmp_path: Path, seed: int) -> None:
    out = tmp_path / "run"
    given = [f"run.dir={json.dumps(str(out))}", f"run.seed={seed}"]
    pipeline.run(load_config(pipeline.Config, "quickstart/pipeline.yaml", given))
    report = json.loads((out / "report.json").read_text())
    assert report["reward_model"]["accuracy"]["low"] > 0.5
    control = report["controls"]["reward_on_shuffled_labels"]
    assert control["low"] < 0.6
    for name in COMPARISONS:
        assert report["win_rate"][name]["low"] > 0.5, name


def test_the_closing_lines_name_a_command_that_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alignment.cli.quickstart import _next

    monkeypatch.setattr("sys.argv", ["/some/venv/bin/alignkit"])
    for found, command in (
        ("/usr/bin/alignkit", "  alignkit chat"),
        (None, "  /some/venv/bin/alignkit chat"),
    ):
        monkeypatch.setattr("shutil.which", lambda _, found=found: found)
        assert command in _next(tmp_path)
