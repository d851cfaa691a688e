"""lm-evaluation-harness's files as it writes them: with samples paired, without them from standard errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment.data.files import write_records
from alignment.data.records import Completion, Message, Record, Source
from alignment.errors import UserError
from alignment.evaluation import stage
from alignment.evaluation.lm_eval import read_lm_eval, write_lm_eval
from alignment.evaluation.probe_figures import probe_report
from alignment.evaluation.probe_rows import read_measured

DATE = "2026-11-25T18-00-00.123456"
RIGHT = {"base": [1] * 70 + [0] * 30, "dpo": [0] * 20 + [1] * 52 + [0] * 28}


def output(folder: Path, right: list[int], samples: bool, date: str = DATE, **changes: Any) -> str:
    """What `lm_eval --tasks arc_easy,wikitext,group --log_samples --output_path folder` leaves."""
    folder = folder / "org__model"
    folder.mkdir(parents=True, exist_ok=True)
    share = float(np.mean(right))
    error = float(np.std(right, ddof=1) / np.sqrt(len(right)))
    results = {
        "results": {
            "arc_easy": {
                "alias": "arc_easy",
                "acc,none": 0.9,
                "acc_stderr,none": 0.1,
                "acc_norm,none": share,
                "acc_norm_stderr,none": error,
            },
            "wikitext": {
                "alias": "wikitext",
                "word_perplexity,none": 20.0 + share,
                "word_perplexity_stderr,none": "N/A",
            },
            "group": {"alias": "group", "acc_norm,none": share, "acc_norm_stderr,none": error},
        },
        "groups": {"group": {}},
        "group_subtasks": {"group": ["arc_easy"], "arc_easy": [], "wikitext": []},
        "n-samples": {"arc_easy": {"original": 200, "effective": len(right)}},
        "higher_is_better": {
            "arc_easy": {"acc": True, "acc_norm": True},
            "wikitext": {"word_perplexity": False},
        },
    } | changes
    (folder / f"results_{date}.json").write_text(json.dumps(results))
    if samples:
        both = {"filter": "none", "metrics": ["acc", "acc_norm"], "acc": 0.0}
        rows: list[dict[str, Any]] = [
            both | {"doc_id": i, "doc_hash": f"h{i}", "acc_norm": float(r)} for i, r in enumerate(right)
        ]
        rows += [row | {"filter": "other", "acc_norm": 0.0} for row in rows]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"samples_arc_easy_{date}.jsonl").write_text(text)
        perplexity = {"doc_id": 0, "doc_hash": "w", "filter": "none", "word_perplexity": [-100.0, 30]}
        (folder / f"samples_wikitext_{date}.jsonl").write_text(json.dumps(perplexity) + "\n")
    return str(folder.parent)


def test_with_samples_items_are_paired(tmp_path: Path) -> None:
    paths = {name: output(tmp_path / name, right, True) for name, right in RIGHT.items()}
    measured = read_lm_eval(paths)
    assert set(measured) == {"lm_eval.arc_easy", "lm_eval.wikitext"}  # a group only sums up its tasks
    write_lm_eval(measured, tmp_path / "run")
    report = probe_report(read_measured(tmp_path / "run"), [("dpo", "base")])
    change = report["lm_eval.arc_easy"]["pairs"]["dpo_vs_base"]
    assert change["paired"]
    assert (change["value"], change["wins"], change["losses"]) == (pytest.approx(-0.18), 2, 20)
    assert change["forgotten"]
    assert report["lm_eval.arc_easy"]["models"]["base"]["value"] == pytest.approx(0.7)
    unknown = report["lm_eval.wikitext"]["pairs"]["dpo_vs_base"]
    assert (unknown["low"], unknown["forgotten"], unknown["paired"]) == (None, False, False)
    assert "no errors" in unknown["text"]


def test_without_samples_the_standard_errors_make_a_wider_interval_and_it_is_said(tmp_path: Path) -> None:
    paths = {name: output(tmp_path / name, right, name == "base") for name, right in RIGHT.items()}
    report = probe_report(read_lm_eval(paths), [("dpo", "base")])
    change = report["lm_eval.arc_easy"]["pairs"]["dpo_vs_base"]
    errors = [np.std(right, ddof=1) / 10 for right in RIGHT.values()]
    assert not change["paired"]
    assert "unpaired, from standard errors" in change["text"]
    assert change["value"] == pytest.approx(-0.18)
    assert change["high"] == pytest.approx(-0.18 + 1.959964 * np.hypot(*errors))
    assert change["n"] == 100


def test_the_newest_of_several_results_counts_and_a_file_may_be_named(tmp_path: Path) -> None:
    folder = output(tmp_path, RIGHT["base"], False)
    output(tmp_path, RIGHT["dpo"], False, date="2026-11-26T09-00-00.000000")
    named = str(tmp_path / "org__model" / f"results_{DATE}.json")
    values = [read_lm_eval({"m": path})["lm_eval.arc_easy"].rows["m"][0]["value"] for path in (folder, named)]
    assert values == [pytest.approx(0.52), pytest.approx(0.7)]


def test_what_is_no_output_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lm_eval\.dpo: .* no folder with a results_"):
        read_lm_eval({"dpo": str(tmp_path)})
    (tmp_path / "results_x.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match="holds no results"):
        read_lm_eval({"dpo": str(tmp_path)})
    (tmp_path / "results_x.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        read_lm_eval({"dpo": str(tmp_path)})


def test_an_evaluation_holds_the_imported_results_beside_its_own(tmp_path: Path) -> None:
    completions = [Completion(content=f"{name} answer", source=Source("model", name)) for name in RIGHT]
    file = tmp_path / "answers.jsonl"
    write_records(file, [Record([Message("user", f"q {i}")], completions=completions) for i in range(12)])
    values = {
        "models": dict.fromkeys(RIGHT, str(file)), "comparisons": [["dpo", "base"]], "prompts": [str(file)],
        "judge": {"kind": "program"}, "run": {"dir": str(tmp_path / "run")},
        "lm_eval": {name: output(tmp_path / name, right, True) for name, right in RIGHT.items()},
    }  # fmt: skip
    report = stage.run(stage.Config.model_validate(values))["metrics"]
    change = report["probes"]["lm_eval.arc_easy"]["pairs"]["dpo_vs_base"]
    assert change["forgotten"]
    assert change["text"] in report["warnings"]
    assert report["probes"]["lm_eval.wikitext"]["models"]["base"]["low"] is None
    assert "lm_eval.arc_easy" in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(ValueError, match="'other' is not under models"):
        stage.Config.model_validate(values | {"lm_eval": {"other": "x"}})
