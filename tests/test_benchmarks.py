"""The figures in the docs are those that the benchmark scripts wrote, and the scripts run."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
Load = Callable[[str], Any]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Import a module of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


def test_the_page_of_figures_is_generated_from_the_results(script: Load) -> None:
    tables = script("tables")
    assert (ROOT / "docs" / "benchmarks.md").read_text() == tables.page(), "run `make bench`"
    for name, svg in tables.plots().items():
        assert (ROOT / "docs" / "figures" / name).read_text() == svg + "\n", "run `make bench`"
    assert any(tables.RESULTS.glob("*.json"))


def test_a_side_that_fails_or_is_stopped_keeps_what_it_told(script: Load, tmp_path: Path) -> None:
    side = script("side")
    told = 'print("noise"); print("RESULT", \'{"a": 1}\', flush=True)\n'
    (tmp_path / "fails.py").write_text(told + "raise SystemExit('no such GPU')")
    found = side.run(str(tmp_path / "fails.py"), "fails", tmp_path, [], 60)
    assert found["a"] == 1
    assert "no such GPU" in found["error"]
    (tmp_path / "hangs.py").write_text(told + "import time; time.sleep(60)")
    process = side.start(str(tmp_path / "hangs.py"), "hangs", tmp_path, [])
    while "RESULT" not in side.log_of(tmp_path, "hangs").read_text():
        assert process.poll() is None
    found = side.finish(process, "hangs", tmp_path, 0.1)
    assert found["a"] == 1
    assert found["error"] == "stopped after 0 s"
    assert process.poll() is not None


def _run(which: str, seed: int, gained: float, speed: float) -> dict[str, Any]:
    """A run whose score is 2·√KL + gained, and whose KL grows by `speed` an update."""
    kl = speed * np.arange(40) + 0.01 * seed
    return {"side": which, "curve": {"kl": kl.tolist(), "score": (2 * np.sqrt(kl) + gained).tolist()}}


def test_learning_is_compared_at_equal_kl_whatever_the_pace(script: Load) -> None:
    learns = script("ppo_learns")
    runs = {f"{seed}": _run(learns.OURS, seed, 0.5 + 0.01 * seed, 0.3) for seed in range(3)}
    runs |= {f"t{seed}": _run(learns.TRL, seed, 0.01 * seed, 0.1) for seed in range(3)}
    found = learns.compare(runs, 40)
    for difference in found["difference"].values():
        assert difference["value"] == pytest.approx(0.5, abs=0.05)
        assert difference["low"] < difference["value"] < difference["high"]
    assert found["kl"][-1] < 0.1 * 40  # no further than the slowest run came
    assert learns.compare(dict(list(runs.items())[:4]), 40) is None  # one run has no interval


def test_a_gold_reward_that_falls_while_the_proxy_rises_is_told(script: Load) -> None:
    over = script("overoptimisation")
    kl = np.linspace(0, 30, 60)
    runs = {}
    for seed in range(3):
        for kind, bend in ((over.SINGLE, 1.2), (over.ENSEMBLE, 0.1)):
            root = np.sqrt(kl)
            gold = root * (1 - bend * np.log(np.maximum(root, 1e-9))) * (1 + 0.05 * seed)
            curve = {"kl": kl.tolist(), "proxy": (root * (1 + 0.02 * seed)).tolist(), "gold": gold.tolist()}
            runs[f"{kind}-{seed}"] = {"kind": kind, "curve": curve}
    found = over.compare(runs)
    single, ensemble = found["ends"][over.SINGLE], found["ends"][over.ENSEMBLE]
    assert single["proxy"]["low"] > 0
    assert single["gold"]["high"] < 0
    assert ensemble["gold"]["low"] > 0
    assert all(value["low"] > 0 for value in found["gold, ensemble less single"].values())
    assert found["fits"][over.SINGLE]["gold"]["peak"] == pytest.approx(np.exp(1 / 1.2 - 1), rel=0.1)


TOY = {
    "rollouts": "--rows 4 --repeats 1 --large tiny",
    "ppo_speed": "--batch 4 --micros 4 --batches 3 --only 'alignkit, graph'",
    "memory": "--toy --workers 1 --stages sft ppo",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TOY)
def test_a_script_runs_at_toy_size(name: str, tmp_path: Path, shared_data: Path) -> None:
    given = ["--work", str(tmp_path), "--out", str(tmp_path / "out.json"), *shlex.split(TOY[name])]
    if name != "memory":
        given += ["--model", "tiny", "--data", str(shared_data)]
        given += ["--new-tokens", "8", "--prompt-characters", "60"]
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *given]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    result = json.loads((tmp_path / "out.json").read_text())
    parts = result.get("variants") or result.get("cases") or result["engines"]["tiny"]
    for part in parts.values() if isinstance(parts, dict) else parts:
        assert "error" not in part
