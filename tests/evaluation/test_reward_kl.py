"""Reward against KL: a policy that drifts away, its proxy and its gold; toy checkpoints from end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment.data.files import write_records
from alignment.data.records import Message, Record
from alignment.errors import UserError
from alignment.evaluation import reward_kl
from alignment.evaluation.reward_kl_figures import figures
from alignment.stats import gao_curve


def rows_of(gold_falls: bool, prompts: int = 200) -> list[dict[str, Any]]:
    """Checkpoints at √KL 0 to 5; the gold follows Gao's curve, or rises with the proxy."""
    rng = np.random.default_rng(0)
    rows = []
    hard = rng.normal(0, 1, prompts)
    for i, d in enumerate(np.linspace(0, 5, 6)):
        gold = gao_curve(d, 1.0, 0.7, "rl") if gold_falls else d
        rows += [
            {
                "model": "base" if i == 0 else f"step-{i}",
                "of": "checkpoint",
                "prompt": f"p{p}",
                "sample": 0,
                "proxy": float(d + hard[p] + rng.normal(0, 0.3)),
                "gold": float(gold + hard[p] + rng.normal(0, 0.3)),
                "log_ratio": float(d * d + (rng.normal(0, 1) if i else 0)),
                "words": 10,
                "finished": True,
            }
            for p in range(prompts)
        ]
    return rows


def test_over_optimisation_is_said_and_located() -> None:
    found = figures(rows_of(True))
    (verdict,) = found["verdict"]
    assert verdict["tone"] == "bad"
    assert verdict["text"].startswith("Over-optimised: from step-2 to step-5 the proxy reward rose by 3")
    best = max(found["checkpoints"], key=lambda point: point["gold"]["value"])["name"]
    assert f"highest at {best}" in verdict["detail"]
    assert found["fits"]["gold"]["alpha"]["value"] == pytest.approx(1.0, abs=0.1)
    assert found["fits"]["gold"]["beta"]["value"] == pytest.approx(0.7, abs=0.05)
    assert found["fits"]["gold"]["peak"] == pytest.approx(np.exp(1 / 0.7 - 1), rel=0.05)
    assert [p["root_kl"] for p in found["checkpoints"]] == pytest.approx(range(6), abs=0.1)
    assert json.loads(json.dumps(found)) == found


def test_a_gold_reward_that_rises_along_is_no_over_optimisation() -> None:
    (verdict,) = figures(rows_of(False))["verdict"]
    assert verdict["tone"] == "good"
    assert verdict["text"].startswith("No over-optimisation found")
    assert "step-5 the gold reward has risen by 4.9" in verdict["text"]


def test_checkpoints_that_are_the_base_have_not_moved() -> None:
    still = [row | {"proxy": 1.0, "gold": 1.0, "log_ratio": 0.0} for row in rows_of(True, 120)]
    assert figures(still)["verdict"][0]["text"].startswith("Nothing moved: ")


def test_two_checkpoints_bend_no_curve() -> None:
    found = figures([row for row in rows_of(True) if row["model"] in ("base", "step-1", "step-2")])
    assert found["fits"] == {"proxy": None, "gold": None}
    assert found["warnings"] == [
        "No curve was fitted to the checkpoints: that needs three different KLs above zero, or more."
    ]


def test_best_of_n_is_beside_it() -> None:
    rng = np.random.default_rng(1)
    rows = rows_of(True, 50)
    for p in range(50):
        for k in range(8):
            proxy = float(rng.normal())
            rows.append({"model": "base", "of": "best_of_n", "prompt": f"p{p}", "sample": k, "proxy": proxy})
            rows[-1] |= {"gold": 0.5 * proxy, "log_ratio": 0.0, "words": 3, "finished": True}
    found = figures(rows)
    best = found["best_of_n"]
    assert "the best of 8 of the base's answers, chosen by the proxy, gains" in found["verdict"][0]["detail"]
    assert best["n"] == [1, 2, 4, 8]
    assert best["kl"] == pytest.approx([0, np.log(2) - 1 / 2, np.log(4) - 3 / 4, np.log(8) - 7 / 8])
    gains = [gain["value"] for gain in best["proxy_gain"]]
    assert gains == sorted(gains)
    assert gains[-1] == pytest.approx(1.42, abs=0.25)  # the largest of eight normal numbers
    assert best["gold_gain"][-1]["value"] == pytest.approx(gains[-1] / 2)
    assert best["fits"]["proxy"]["r_squared"] > 0.9


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_model: str) -> Path:
    """Two checkpoints of a pretended PPO run, one of them not complete, and another model by its folder."""
    from toy import make_toy_model

    folder = tmp_path_factory.mktemp("reward_kl")
    ppo = folder / "ppo"
    for step in (20, 100, 3):
        place = ppo / "checkpoints" / f"checkpoint-{step}"
        make_toy_model(place, step)
        if step != 3:
            (place / "COMPLETE").write_text("{}")
    (ppo / "run.json").write_text(json.dumps({"stage": "ppo", "seconds": 1.0, "data": {}, "parents": {}}))
    prompts = folder / "prompts.jsonl"
    write_records(
        prompts, [Record([Message("user", f"Write one sentence about cat {i}.")]) for i in range(8)]
    )
    (folder / "reward").mkdir()
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    reward = AutoModelForSequenceClassification.from_pretrained(toy_model, num_labels=1)
    reward.config.pad_token_id = 0
    reward.save_pretrained(folder / "reward")
    AutoTokenizer.from_pretrained(toy_model).save_pretrained(folder / "reward")
    (folder / "config.yaml").write_text(
        json.dumps(
            {
                "base": toy_model,
                "checkpoints": [str(ppo), make_toy_model(folder / "other", 7)],
                "prompts": [str(prompts)],
                "proxy": {"kind": "reward", "path": str(folder / "reward")},
                "gold": {"kind": "program"},
                "best_of_n": 4,
                "samples_per_prompt": 2,
                "generation": {"max_new_tokens": 6},
                "run": {"dir": str(folder / "run")},
            }
        )
    )
    return folder


def test_checkpoints_from_end_to_end(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    import alignment.backend.generation as generation
    from alignment.cli.evaluate import app

    real, calls = generation.generate, []

    def generate(*args: Any, **named: Any) -> Any:
        if len(calls) == 3:
            calls.append(0)
            raise KeyboardInterrupt
        calls.append(0)
        return real(*args, **named)

    monkeypatch.setattr(generation, "generate", generate)
    command = ["reward-kl", str(finished / "config.yaml")]
    assert CliRunner().invoke(app, command).exit_code == 130
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert len(calls) == 4 + 2, "three that were made, one that broke off, and the two that were left"
    shown = json.loads(result.stdout)
    assert [point["name"] for point in shown["checkpoints"]] == ["base", "step-20", "step-100", "other"]

    folder = finished / "run"
    report = json.loads((folder / "report.json").read_text())
    rows = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert len(rows) == 4 * 16 + 8 * 4
    again = figures(rows)
    assert {key: report[key] for key in again} == again, "every figure comes from scores.jsonl"
    ratios = [row["log_ratio"] for row in rows if row["model"] == "step-20"]
    assert report["checkpoints"][1]["kl"]["value"] == pytest.approx(np.mean(ratios))
    assert report["checkpoints"][0]["kl"]["value"] == 0.0
    assert "Only 8 prompts" in " ".join(report["warnings"])
    html = (folder / "report.html").read_text()
    assert "best of 1 to 4" in html
    assert html.index('class="verdict') < html.index("<svg")
    assert not (folder / "parts").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generation": {"temperature": 0.5}}, "samples at temperature 1"),
        ({"gold": {"kind": "llm", "path": "x"}}, "kind llm does not give"),
        ({"best_of_n": 1}, "no choice"),
        ({"checkpoints": []}, "checkpoints"),
    ],
)
def test_config_mistakes(changes: dict[str, Any], message: str) -> None:
    good = {
        "base": "tiny", "checkpoints": ["x"], "prompts": ["p"], "proxy": {"kind": "program"},
        "gold": {"kind": "program"}, "run": {"dir": "d"},
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        reward_kl.Config.model_validate(good | changes)


def test_a_run_without_checkpoints_is_said(finished: Path, tmp_path: Path) -> None:
    shutil.copy(finished / "ppo" / "run.json", tmp_path)
    with pytest.raises(UserError, match=r"holds no complete checkpoint.*save_total_limit"):
        reward_kl.checkpoints([str(tmp_path)])
    names = reward_kl.checkpoints([str(finished / "ppo"), "a/base", "b/base"])
    assert list(names) == ["step-20", "step-100", "base-2", "base-3"]
