"""The whole evaluation on toy models: report, resume, files in place of models, mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignment.backend.config import load_config
from alignment.data.files import read_records, write_records
from alignment.data.records import Completion, Message, Record
from alignment.errors import UserError
from alignment.evaluation import stage
from alignment.evaluation.statistics import stored_figures
from alignment.evaluation.stored import read_stored
from alignment.stats import win_rate

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, toy_model: str) -> dict[str, str]:
    from toy import make_toy_model

    folder = tmp_path_factory.mktemp("candidates")
    return {
        "base": toy_model,
        "sft": make_toy_model(folder / "sft", 1),
        "dpo": make_toy_model(folder / "dpo", 2),
    }


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    texts = [f"Write one sentence about cat {i}. {EVIL if i == 0 else ''}" for i in range(12)]
    write_records(path, [Record([Message("user", t)]) for t in [*texts, texts[3]]])
    return str(path)


def config(models: dict[str, str], prompts: str, folder: Path, **changes: Any) -> stage.Config:
    values: dict[str, Any] = {
        "models": models,
        "prompts": [prompts],
        "comparisons": [["sft", "base"], ["dpo", "sft"]],
        "parents": {"sft": "base", "dpo": "sft"},
        "base": "base",
        "judge": {"kind": "program"},
        "generation": {"max_new_tokens": 8},
        "run": {"dir": str(folder)},
    }
    return stage.Config.model_validate(values | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, models: dict[str, str], prompts: str) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "run"
    stage.run(config(models, prompts, folder, samples_per_prompt=2, report=str(folder.parent / "copy")))
    return folder


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_report_holds_what_it_promises(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert set(report["win_rate"]) == {"sft_vs_base", "dpo_vs_sft"}
    for rate in report["win_rate"].values():
        assert set(rate) == {"rate", "low", "high", "n", "ties"}
        assert 0 <= rate["low"] <= rate["rate"] <= rate["high"] <= 1
        assert rate["n"] == 24
    assert report["prompts"] == {"n": 12, "repeated": 1, "files": report["config"]["prompts"]}
    assert report["stages"]["base"]["kl"] is None
    for name in ("sft", "dpo"):
        interval = report["stages"][name]["kl_interval"]
        assert interval["low"] <= report["stages"][name]["kl"] <= interval["high"]
    assert set(report["controls"]["shuffled_prompts"]) == set(report["win_rate"])
    assert set(report["controls"]["log_likelihood"]) == {"sft", "dpo"}
    assert report["stages"]["evaluate"]["seconds"] > 0
    assert "stated rule" in report["judge"]["statement"]
    assert (finished.parent / "copy" / "report.json").read_text() == (finished / "report.json").read_text()
    assert not (finished / "parts").exists()
    assert json.loads((finished / "run.json").read_text())["status"] == "complete"


def test_every_figure_can_be_computed_again(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    verdicts = rows(finished / "verdicts.jsonl")
    for name, rate in report["win_rate"].items():
        a, b = name.split("_vs_")
        mine = [v for v in verdicts if (v["a"], v["b"], v["control"]) == (a, b, None)]
        again = win_rate([v["outcome"] for v in mine], [v["prompt"] for v in mine])
        assert (again.rate, again.n, again.ties) == (rate["rate"], rate["n"], rate["ties"])
    stored = stored_figures(read_stored(finished))["comparisons"]
    for name, figures in report["statistics"].items():
        assert {key: stored[name][key] for key in figures} == figures
        assert stored[name]["p_holm"] == report["sign_test"][name]["p_holm"]
    totals = {"sft": 0.0, "base": 0.0}
    for row in rows(finished / "likelihoods.jsonl"):
        if row["model"] == "sft":
            totals[row["under"]] += row["log_prob"]
    assert report["stages"]["sft"]["kl"] == pytest.approx((totals["sft"] - totals["base"]) / 24)
    records = list(read_records(finished / "completions.jsonl"))
    assert [len(r.completions) for r in records] == [6] * 12
    assert {c.source.name for c in records[0].completions if c.source} == {"base", "sft", "dpo"}


def test_page_is_self_contained_and_escaped(finished: Path) -> None:
    html = (finished / "report.html").read_text()
    assert html.index("sft against base") > html.index('class="verdict')  # the verdict comes first
    assert EVIL not in html
    assert "http-equiv" in html
    assert "src=" not in html
    assert html.count("<section") == 12
    assert html.index('<details class="more"><summary>2 more') > 0
    assert html.count("alert(1)") == html.count("&lt;script&gt;alert(1)") >= 1


def test_answers_from_files_need_no_model(finished: Path, tmp_path: Path, prompts: str) -> None:
    """completions.jsonl of an evaluation stands in for all its models, and gives the same win rates."""
    stored = str(finished / "completions.jsonl")
    files = config(
        dict.fromkeys(("base", "sft", "dpo"), stored), prompts, tmp_path / "again", parents={}, base=None,
        samples_per_prompt=2,
    )  # fmt: skip
    result = stage.run(files)
    before = json.loads((finished / "report.json").read_text())
    assert result["metrics"]["win_rate"] == before["win_rate"]
    assert result["metrics"]["stages"]["sft"]["kl"] is None
    assert result["metrics"]["stages"]["sft"]["eos_rate"] == before["stages"]["sft"]["eos_rate"]
    assert result["metrics"]["cost"] == before["cost"]  # what lies beside the answers tells their cost


def test_what_answers_cost_is_measured_and_kept(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert list(report["cost"]) == ["base", "sft", "dpo"]
    for name, cost in report["cost"].items():
        assert cost["source"] == "here"
        assert cost["answers"] == 24
        assert cost["tokens"] == round(24 * report["stages"][name]["tokens"]["value"])
        assert cost["tokens_per_second"] == pytest.approx(cost["tokens"] / cost["seconds"])
        latency = cost["latency"]
        assert (latency["n"], latency["at_a_time"]) == (8, 1)
        assert 0 < latency["least"] <= latency["p50"] <= latency["p95"] <= latency["most"]
    kept = json.loads((finished / "costs.json").read_text())
    assert len(kept["sft"]["single"]) == 8
    html = (finished / "report.html").read_text()
    assert "What it cost" in html


def test_an_evaluation_goes_on_where_it_stopped(
    models: dict[str, str], prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path
) -> None:
    import alignment.backend.generation as generation
    from alignment.evaluation import sampled

    monkeypatch.setattr(sampled, "PART", 5)
    made: list[int] = []
    real = generation.generate

    def dying(model: Any, tokenizer: Any, asked: list, *rest: Any, **more: Any) -> Any:
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(len(asked))
        return real(model, tokenizer, asked, *rest, **more)

    monkeypatch.setattr(generation, "generate", dying)
    broken = config(models, prompts, tmp_path / "run", latency_prompts=0)
    with pytest.raises(KeyboardInterrupt):
        stage.run(broken)
    assert made == [5, 5, 2, 5]
    kept = sorted(p.name for p in (tmp_path / "run").rglob("part-*.jsonl"))
    assert len(kept) == 4
    made.append(0)  # from here on nothing dies
    stage.run(broken)
    assert made[5:] == [5, 2, 5, 5, 2]
    whole = stage.run(config(models, prompts, tmp_path / "whole"))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    for key in ("win_rate", "controls", "sign_test"):
        assert report[key] == whole["metrics"][key]
    with pytest.raises(UserError, match="finished run"):
        stage.run(broken)


def test_warped_answers_get_samples_of_their_own_for_the_kl(
    models: dict[str, str], prompts: str, tmp_path: Path
) -> None:
    greedy = config(
        {k: models[k] for k in ("base", "sft")}, prompts, tmp_path / "run", comparisons=[["sft", "base"]],
        parents={"sft": "base"}, generation={"max_new_tokens": 4, "temperature": 0.0}, max_prompts=3,
    )  # fmt: skip
    result = stage.run(greedy)
    assert result["metrics"]["stages"]["sft"]["kl"] is not None
    kinds = {(r["model"], r["under"], r["of"]) for r in rows(tmp_path / "run" / "likelihoods.jsonl")}
    assert kinds == {
        ("sft", "sft", "kl_samples"), ("sft", "base", "kl_samples"),
        ("sft", "base", "answers"), ("base", "base", "answers"),
    }  # fmt: skip
    assert any("Only 3 prompts" in w for w in result["metrics"]["warnings"])


def test_the_same_weights_have_a_kl_of_zero(models: dict[str, str], prompts: str, tmp_path: Path) -> None:
    twins = {"base": models["base"], "sft": models["base"]}
    result = stage.run(
        config(twins, prompts, tmp_path / "run", comparisons=[["sft", "base"]], parents={"sft": "base"})
    )
    assert result["metrics"]["stages"]["sft"]["kl"] == 0.0
    rate = result["metrics"]["win_rate"]["sft_vs_base"]
    assert (rate["rate"], rate["ties"]) == (0.5, 12)


def test_reward_accuracy_and_control_are_quoted(models: dict[str, str], prompts: str, tmp_path: Path) -> None:
    def reward_run(name: str, low: float, high: float) -> str:
        folder = tmp_path / name
        folder.mkdir()
        accuracy = {"value": (low + high) / 2, "low": low, "high": high, "n": 90}
        state = {"stage": "reward", "status": "complete", "seconds": 3.5, "data": {}, "parents": {}}
        (folder / "run.json").write_text(json.dumps({**state, "metrics": {"accuracy": accuracy}}))
        steps = [{"step": i, "loss": 1 / (i + 1)} for i in range(3)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(s) + "\n" for s in steps))
        return str(folder)

    good, odd, near = (
        reward_run("reward", 0.75, 0.85),
        reward_run("control", 0.65, 0.75),
        reward_run("near", 0.55, 0.6),
    )
    result = stage.run(
        config(models, prompts, tmp_path / "run", reward_run=good, reward_control=odd, max_prompts=4)
    )
    report = result["metrics"]
    assert report["reward_model"]["accuracy"] == {"value": 0.8, "low": 0.75, "high": 0.85, "n": 90}
    assert report["stages"]["reward"]["seconds"] == 3.5
    assert any("shuffled labels" in w for w in report["warnings"])
    assert "reward: loss" in (tmp_path / "run" / "report.html").read_text()
    again = config(models, prompts, tmp_path / "again", reward_run=good, reward_control=near, max_prompts=4)
    told = stage.run(again)["metrics"]["warnings"]
    assert not any("shuffled labels" in w for w in told), "one shuffle strays a little by chance"


def test_a_large_fall_in_likelihood_is_flagged(models: dict[str, str], prompts: str, tmp_path: Path) -> None:
    result = stage.run(config(models, prompts, tmp_path / "run", likelihood_fall=1e-6, max_prompts=6))
    falls = result["metrics"]["controls"]["log_likelihood"]
    flagged = [name for name, fall in falls.items() if fall["value"] < -1e-6]
    assert [name for name, fall in falls.items() if fall["flagged"]] == flagged
    assert sum("less likely under base" in w for w in result["metrics"]["warnings"]) == len(flagged) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"comparisons": [["sft", "bose"]]}, "'bose' is not under models"),
        ({"comparisons": [["sft", "sft"]]}, "two different names"),
        ({"parents": {"sft": "dpo", "dpo": "sft"}}, "circle"),
        ({"parents": {"base": "sft"}}, "cannot have a parent"),
        ({"judge": {"kind": "reward"}}, "it names the reward model"),
        ({"judge": {"kind": "program", "path": "x"}}, "kind program reads none"),
        ({"models": {"base": "x", "sft": "y.jsonl", "dpo": "z"}}, "file of completions"),
        ({"models": {"base": "x", "s/ft": "y"}}, "a name is letters"),
        ({"models": {"base": "x", "reward": "y"}}, "taken"),
        ({"commparisons": []}, "commparisons"),
    ],
)
def test_config_mistakes(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    source = tmp_path / "evaluate.yaml"
    values = config({"base": "x", "sft": "y", "dpo": "z"}, "p.jsonl", tmp_path / "run").model_dump() | changes
    source.write_text(json.dumps(values))
    with pytest.raises(UserError, match=message):
        load_config(stage.Config, source)


def test_mistakes_leave_no_folder(models: dict[str, str], prompts: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    few = tmp_path / "few.jsonl"
    first = next(iter(read_records(prompts)))
    write_records(few, [Record(first.prompt, completions=[Completion(content="Yes.")])])
    mute = tmp_path / "mute.jsonl"
    write_records(mute, [Record([Message("system", "Be brief.")])])
    for changes, message in [
        ({"prompts": str(tmp_path / "none.jsonl")}, "no such file"),
        ({"prompts": str(mute)}, "no user message"),
        ({"models": {**models, "dpo": str(few)}, "parents": {}}, "no answer to 11 of 12 prompts"),
        ({"models": {**models, "dpo": str(tmp_path / "nothing")}}, "no model at"),
        ({"reward_run": models["sft"]}, "not a run directory"),
    ]:
        with pytest.raises(UserError, match=message):
            stage.run(config(**{"models": models, "prompts": prompts, "folder": folder} | changes))
        assert not folder.exists()


def test_reward_model_as_judge(models: dict[str, str], prompts: str, tmp_path: Path, toy_model: str) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    reward = AutoModelForSequenceClassification.from_pretrained(toy_model, num_labels=1)
    reward.config.pad_token_id = 0
    reward.save_pretrained(tmp_path / "reward")
    AutoTokenizer.from_pretrained(toy_model).save_pretrained(tmp_path / "reward")
    judge = {"kind": "reward", "path": str(tmp_path / "reward")}
    result = stage.run(config(models, prompts, tmp_path / "run", judge=judge, max_prompts=4))
    assert result["metrics"]["win_rate"]["sft_vs_base"]["n"] == 4
    assert "reward model" in result["metrics"]["judge"]["statement"]


def test_an_injected_judge_decides(models: dict[str, str], prompts: str, tmp_path: Path) -> None:
    from alignment.evaluation.judges import Verdict

    class First:
        name, statement = "first", "The first is always better."

        def __call__(self, asked: list, a: list, b: list) -> list[Verdict]:
            return [Verdict(1.0)] * len(asked)

    result = stage.run(config(models, prompts, tmp_path / "run", max_prompts=4), judge=First())
    assert result["metrics"]["win_rate"]["dpo_vs_sft"]["rate"] == 1.0
    assert result["metrics"]["stages"]["sft"]["score"] is None


@pytest.mark.parametrize("name", ["smollm2-135m/evaluate.yaml", "llama-8b/evaluate.yaml"])
def test_shipped_configs_load(name: str) -> None:
    assert load_config(stage.Config, name).comparisons


def test_command(
    models: dict[str, str], prompts: str, tmp_path: Path, toy_records: Callable[..., Any]
) -> None:
    from typer.testing import CliRunner

    from alignment.cli.evaluate import app

    source = tmp_path / "evaluate.yaml"
    values = config(models, prompts, tmp_path / "run", max_prompts=3).model_dump()
    source.write_text(json.dumps(values))
    for words in (["--help"], [str(source), "generation.max_new_tokens=4", "--overwrite"]):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["run"] == str(tmp_path / "run")
    assert "sft against base" in result.stderr
