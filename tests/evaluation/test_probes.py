"""Probes on toy models: what is measured, that it goes on, is computed again, and what is said of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment.data.files import write_records
from alignment.data.records import Completion, Message, Record
from alignment.errors import UserError
from alignment.evaluation import probes, stage
from alignment.evaluation.probe_figures import probe_report, warnings_of
from alignment.evaluation.probe_rows import Measured, read_measured
from alignment.evaluation.probes import windows
from alignment.evaluation.statistics import stored_figures
from alignment.evaluation.stored import read_stored

SENTENCES = ["the cat sat on a mat .", "the dog ran to the red hen .", "a hen and the cat ran ."]


def write_lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, toy_model: str) -> Callable[..., stage.Config]:
    from toy import make_toy_model

    folder = tmp_path_factory.mktemp("probes")
    documents = [{"text": " ".join(SENTENCES[: 1 + i % 3] * (1 + i))} for i in range(8)]
    choices = [
        {"question": f"{i} cat", "choices": ["sat", "ran to the hen"], "answer": i % 2} for i in range(10)
    ]
    asked = [{"question": f"{i} plus one?", "answer": f"#### {i + 1}"} for i in range(4)]
    prompts = folder / "prompts.jsonl"
    answer = [Completion(id="c0", content="the cat sat .")]
    records = [
        Record([Message("user", f"Write of cat {i}.")], completions=answer, demonstrations=[0])
        for i in range(3)
    ]
    write_records(prompts, records)
    make_toy_model(folder / "sft" / "model", 1)
    seen = folder / "seen.jsonl"  # what sft was trained on: one of the questions
    write_records(seen, [Record([Message("user", "0 plus one?")], completions=answer, demonstrations=[0])])
    run = {"stage": "sft", "status": "complete", "seconds": 1.0, "data": {str(seen): "f"}, "parents": {}}
    (folder / "sft" / "run.json").write_text(json.dumps(run))
    values: dict[str, Any] = {
        "models": {"base": toy_model, "sft": str(folder / "sft")},
        "prompts": [str(prompts)],
        "comparisons": [["sft", "base"]],
        "base": "base",
        "judge": {"kind": "program"},
        "generation": {"max_new_tokens": 4},
        "probes": {
            "held_out": {
                "kind": "perplexity", "files": [write_lines(folder / "text.jsonl", documents)], "window": 64,
            },
            "cats": {"kind": "choices", "files": [write_lines(folder / "choices.jsonl", choices)]},
            "cats_in_chat": {"kind": "choices", "files": [str(folder / "choices.jsonl")], "chat": True},
            "sums": {
                "kind": "exact_match", "files": [write_lines(folder / "asked.jsonl", asked)],
                "match": "number", "max_new_tokens": 6,
            },
        },
    }  # fmt: skip

    def make(run: Path, **changes: Any) -> stage.Config:
        return stage.Config.model_validate(values | {"run": {"dir": str(run)}} | changes)

    return make


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, config: Callable[..., stage.Config]) -> Path:
    run = tmp_path_factory.mktemp("probed") / "run"
    stage.run(config(run))
    return run


def test_a_probe_measures_what_a_plain_reading_gives(finished: Path, toy_model: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(toy_model)

    def log_prob(before: str, after: str) -> float:
        ids = tokenizer(before + after)["input_ids"]
        first = len(tokenizer(before)["input_ids"])
        ids, first = ([tokenizer.eos_token_id, *ids], 1) if first == 0 else (ids, first)
        with torch.no_grad():
            every = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
        return sum(float(every[t - 1, ids[t]]) for t in range(first, len(ids)))

    measured = read_measured(finished)
    assert set(measured) == {"held_out", "cats", "cats_in_chat", "sums"}
    text = SENTENCES[0]
    row = measured["held_out"].rows["base"][0]
    assert row["log_prob"] == pytest.approx(log_prob("", text), abs=1e-3)
    assert (row["tokens"], row["bytes"]) == (len(tokenizer(text)["input_ids"]), len(text))
    assert [r["windows"] > 1 for r in measured["held_out"].rows["base"]][-1]
    row = measured["cats"].rows["base"][0]
    before = "Question: 0 cat\nAnswer:"
    expected = [log_prob(before, " sat"), log_prob(before, " ran to the hen")]
    assert row["log_probs"] == pytest.approx(expected, abs=1e-3)
    before = "<|im_start|>user\n0 cat<|im_end|>\n<|im_start|>assistant\n"
    row = measured["cats_in_chat"].rows["base"][0]
    assert row["log_probs"][0] == pytest.approx(log_prob(before, "sat"), abs=1e-3)


def test_the_report_holds_both_models_and_their_change(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert set(report["probes"]) == {"held_out", "cats", "cats_in_chat", "sums"}
    for probe in report["probes"].values():
        assert set(probe["models"]) == {"base", "sft"}
        change = probe["pairs"]["sft_vs_base"]
        values = [probe["models"][name]["value"] for name in ("sft", "base")]
        assert change["value"] == pytest.approx(values[0] - values[1])
        assert change["low"] <= change["value"] <= change["high"]
        assert change["p_holm"] >= change["p"]
    held_out = report["probes"]["held_out"]["models"]["base"]
    assert held_out["perplexity"] == pytest.approx(np.exp(held_out["value"]))
    assert held_out["in_windows"] > 0
    assert any("held_out has only 8 items" in warning for warning in report["warnings"])
    assert report["probe_contamination"]["sums"]["sft"]["prompts"] == 1
    assert any("Of the items of sums, 1 is in the data that sft" in warning for warning in report["warnings"])
    page = (finished / "report.html").read_text()
    assert "What was kept, and what was forgotten" in page
    assert page.count("cats_in_chat") > 2
    assert set(report["diversity"]) == {"base", "sft"}
    assert report["text_metrics"]["prompts"] == 3
    assert "Beside the references" in page
    assert "How diverse the answers are" in page


def test_all_figures_are_computed_again_from_what_is_stored(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    again = probe_report(read_measured(finished), [("sft", "base")], seed=0)
    assert json.loads(json.dumps(again)) == report["probes"]
    stored = stored_figures(read_stored(finished))  # what `alignkit evaluate verdicts` prints
    assert json.loads(json.dumps(stored["probes"])) == report["probes"]


def test_stored_completions_bring_their_probes_along(
    finished: Path, tmp_path: Path, config: Callable[..., stage.Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "completion_log_probs", None)  # nothing may be measured
    stored = str(finished / "completions.jsonl")
    files = {"models": dict.fromkeys(("base", "sft"), stored), "base": None}
    result = stage.run(config(tmp_path / "again", **files))
    before = json.loads((finished / "report.json").read_text())
    again = json.loads(json.dumps(result["metrics"]))
    for key in ("probes", "diversity", "text_metrics", "win_rate"):
        assert again[key] == before[key]
    other = config(tmp_path / "other", **files).model_dump()
    other["probes"]["cats"]["by_length"] = False  # other settings: the earlier rows do not answer this
    result = stage.run(stage.Config.model_validate(other))
    assert result["metrics"]["probes"]["cats"]["models"] == {}
    changed = config(tmp_path / "changed", **files).model_dump()
    rows = [{"question": f"{i} hen", "choices": ["sat", "ran"], "answer": 0} for i in range(10)]  # as many
    changed["probes"]["cats"]["files"] = [write_lines(tmp_path / "changed.jsonl", rows)]
    result = stage.run(stage.Config.model_validate(changed))
    assert result["metrics"]["probes"]["cats"]["models"] == {}


def test_an_evaluation_goes_on_behind_the_last_finished_probe(
    tmp_path: Path, config: Callable[..., stage.Config], monkeypatch: pytest.MonkeyPatch, finished: Path
) -> None:
    monkeypatch.setattr(probes, "PART", 4)
    done: list[str] = []
    real = probes._choose

    def dying(model: Any, tokenizer: Any, probe: Any, count: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(probe.name)
        return real(model, tokenizer, probe, count)

    monkeypatch.setattr(probes, "_choose", dying)
    mine = config(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        stage.run(mine)
    monkeypatch.setattr(probes, "_choose", lambda *args: done.append(args[2].name) or real(*args))
    result = stage.run(mine)
    # Ten items are three parts: once each for each of two models.
    assert sorted(done) == ["cats"] * 6 + ["cats_in_chat"] * 6
    before = json.loads((finished / "report.json").read_text())
    assert json.loads(json.dumps(result["metrics"]["probes"])) == before["probes"]


def test_other_items_than_before_are_refused(
    tmp_path: Path, finished: Path, config: Callable[..., stage.Config]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (probe, *_) = probes.read_probes({"cats": config(tmp_path).probes["cats"]})
    file = tmp_path / "run" / "probes" / "cats" / "base.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(UserError, match="other items"):
        probes.probe_model([probe], "base", None, None, config(tmp_path), tmp_path / "run")


def test_a_window_longer_than_the_context_is_named(
    tmp_path: Path, config: Callable[..., stage.Config]
) -> None:
    changed = config(tmp_path / "run").model_dump()
    changed["probes"] = {"held_out": changed["probes"]["held_out"] | {"window": 4096}}
    with pytest.raises(UserError, match=r"probes\.held_out: its window is 4,096"):
        stage.run(stage.Config.model_validate(changed))


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ({"cats": {"kind": "choices", "files": ["x"], "template": "no place"}}, "holds no {question}"),
        ({"../cats": {"kind": "choices", "files": ["x"]}}, "a name is letters"),
        ({"lm_eval.arc": {"kind": "choices", "files": ["x"]}}, "are taken"),
    ],
)
def test_mistakes_in_the_config(config: Callable[..., stage.Config], probe: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(Path("run"), probes=probe)


@given(size=st.integers(0, 300), window=st.integers(2, 40))
def test_windows_score_every_token_once_behind_enough_context(size: int, window: int) -> None:
    ids = list(range(size))
    rows = windows(ids, -1, window)
    assert [token for _, new in rows for token in new] == ids
    for before, new in rows:
        assert len(before) >= 1
        assert len(before) + len(new) <= window
        assert (before + new)[1:] == ids[(before + new)[0] + 1 :][: len(before + new) - 1]
    for before, _ in rows[1:]:
        assert len(before) >= window - window // 2


def asked(model: str, right: list[int]) -> list[dict[str, Any]]:
    return [
        {"item": str(i), "question": "?", "answers": ["yes"], "text": "yes" if r else model, "finished": True}
        for i, r in enumerate(right)
    ]


def measured(**models: list[int]) -> dict[str, Measured]:
    settings = {"kind": "exact_match", "match": "text", "files": ["f"], "items": 0, "repeated": 0}
    return {"quiz": Measured(settings, {name: asked(name, right) for name, right in models.items()})}


def test_a_loss_is_called_forgotten_with_mcnemars_p() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    old = [1] * 80 + [0] * 20
    new = [0] * 15 + [1] * 65 + [1] * 3 + [0] * 17
    report = probe_report(measured(new=new, old=old), [("new", "old")])
    change = report["quiz"]["pairs"]["new_vs_old"]
    assert change["value"] == pytest.approx(-0.12)
    assert (change["wins"], change["losses"]) == (3, 15)
    assert change["p"] == pytest.approx(mcnemar([[65, 15], [3, 17]], exact=True).pvalue)
    assert change["forgotten"]
    assert change["text"].startswith(
        "new has forgotten what old knows: its exact match on quiz is 12.0 points lower (95% interval "
    )
    assert change["text"].endswith(f"100 items, sign test p = {change['p']:.2g}).")
    assert warnings_of(report) == [change["text"]]
    turned = probe_report(measured(new=new, old=old), [("old", "new")])["quiz"]["pairs"]["old_vs_new"]
    assert not turned["forgotten"]
    assert "old is better than new" in turned["text"]


def test_nothing_seen_is_not_nothing_there_and_few_losses_are_not_forgetting() -> None:
    none = [0] * 60
    probe = probe_report(measured(new=none, old=none), [("new", "old")])["quiz"]
    assert (probe["models"]["new"]["low"], probe["models"]["new"]["high"]) == pytest.approx(
        (0.0, 0.0596), abs=1e-4
    )
    assert "95% interval −6.0 to +6.0" in probe["pairs"]["new_vs_old"]["text"]
    four = probe_report(measured(new=[0] * 4 + [1] * 56, old=[1] * 60), [("new", "old")])["quiz"]
    assert four["pairs"]["new_vs_old"]["p"] == pytest.approx(0.125)
    assert not four["pairs"]["new_vs_old"]["forgotten"]
    six = probe_report(measured(new=[0] * 6 + [1] * 54, old=[1] * 60), [("new", "old")])["quiz"]
    assert six["pairs"]["new_vs_old"]["forgotten"]  # as the exact test says


def test_a_loss_that_the_correction_leaves_to_chance_is_said_so_first() -> None:
    old, new = [1] * 60, [0] * 6 + [1] * 54
    names = {f"m{i}": old for i in range(4)}
    report = probe_report(
        measured(new=new, **names), [("new", "m0"), ("m1", "m0"), ("m2", "m0"), ("m3", "m0")]
    )
    change = report["quiz"]["pairs"]["new_vs_m0"]
    assert change["p_holm"] == pytest.approx(4 * 2 / 64)
    assert change["text"].startswith("new may have forgotten what m0 knows, but that may be chance: ")


def test_without_a_change_the_smallest_loss_that_would_have_shown_is_told() -> None:
    same = [1] * 40 + [0] * 40
    report = probe_report(measured(new=same, old=same), [("new", "old")])
    change = report["quiz"]["pairs"]["new_vs_old"]
    assert not change["forgotten"]
    assert "No change of new against old is seen: exact match on quiz +0.0 points" in change["text"]
    assert f"a loss of {100 * change['smallest_loss']:.1f} points would have been seen" in change["text"]
    floor = probe_report(measured(new=[0] * 29 + [1], old=[0] * 30), [("new", "old")])
    change = floor["quiz"]["pairs"]["new_vs_old"]
    assert change["text"].endswith("; no loss can show here: old got none right.")
    assert change["smallest_loss"] is None
    assert change["low"] < 0.0 < change["high"]
    few = probe_report(measured(new=[1, 0], old=[1, 0]), [("new", "old")])
    assert "so few items show no loss at all" in few["quiz"]["pairs"]["new_vs_old"]["text"]


def documents(nats: list[float], tokens: list[int], windows: int = 1) -> list[dict[str, Any]]:
    return [
        {"item": str(i), "log_prob": -n * t, "tokens": t, "bytes": 40, "windows": windows}
        for i, (n, t) in enumerate(zip(nats, tokens, strict=True))
    ]


def test_perplexity_rises_with_forgetting_and_is_by_bytes_for_other_tokens() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 30, 100).tolist()
    nats = rng.normal(2.0, 0.2, 100)
    worse = nats + rng.normal(0.1, 0.05, 100)
    settings = {"kind": "perplexity", "files": ["f"]}
    rows = {"old": documents(nats.tolist(), tokens), "new": documents(worse.tolist(), tokens)}
    report = probe_report({"text": Measured(settings, rows)}, [("new", "old")])
    change, models = report["text"]["pairs"]["new_vs_old"], report["text"]["models"]
    assert change["unit"] == "nats a token"
    assert change["value"] == pytest.approx(np.average(worse - nats, weights=tokens))
    assert models["old"]["bits_per_byte"] == pytest.approx((nats * tokens).sum() / np.log(2) / 4_000)
    assert change["forgotten"]
    assert "perplexity" in change["text"]
    rows["new"] = documents((worse / 2).tolist(), [2 * t for t in tokens])
    change = probe_report({"text": Measured(settings, rows)}, [("new", "old")])["text"]["pairs"]["new_vs_old"]
    assert change["unit"] == "nats a byte"
    assert change["value"] == pytest.approx(((worse - nats) * tokens).sum() / 4_000)


def test_choices_by_length_and_by_sum_and_what_guessing_gives() -> None:
    row = {"choices": ["ab", "abcdefgh"], "correct": 1, "log_probs": [-4.0, -8.0], "tokens": [1, 4]}
    rows = [row | {"item": str(i)} for i in range(3)]
    settings = {"kind": "choices", "by_length": True, "files": ["f"]}
    figures = probe_report({"c": Measured(settings, {"m": rows})}, [])["c"]["models"]["m"]
    assert (figures["accuracy_by_length"], figures["accuracy_of_sum"], figures["chance"]) == (1.0, 0.0, 0.5)
    assert figures["value"] == 1.0


def test_of_many_comparisons_the_page_tells_the_losses_and_counts_the_rest() -> None:
    from alignment.evaluation.page_capability import _told

    old, new = [1] * 90 + [0] * 10, [0] * 30 + [1] * 60 + [0] * 10
    models = {f"m{i}": old for i in range(7)} | {"new": new}
    report = probe_report(measured(**models), [("new", "m0"), *((f"m{i}", "m0") for i in range(1, 7))])
    changes = list(report["quiz"]["pairs"].values())
    told = _told(changes)
    assert len(told) == 2
    assert told[0].startswith("new has forgotten")
    assert told[1].startswith("6 of 7 comparisons show no change")
    assert len(_told(changes[:3])) == 3
