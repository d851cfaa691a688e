"""Writes docs/benchmarks.md from the JSON that the benchmark scripts wrote to benchmarks/results/.

    python benchmarks/tables.py

Nothing in that page is typed by hand but the words around the tables; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
PATH_WORDS = """\
`python benchmarks/smollm2_path.py --model SMOLLM2_DIR --data DATA_DIR --work DIR --out JSON`, with
configs/smollm2-135m as they are: SFT on Alpaca and instruction data, a reward model and DPO on one half (by
prompt) of AlpacaEval's judged pairs, PPO on prompts of its own against that reward model. The judge is a
reward model trained on the *other* half, that no policy has seen. Whatever the figures are, they are the
measured ones; intervals are 95% and resample prompts."""


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def interval(value: dict[str, Any], key: str = "value") -> str:
    return f"{value[key]:.3f} [{value['low']:.3f}, {value['high']:.3f}], n = {value['n']:,}"


def origin(result: dict[str, Any]) -> str:
    """Device, commit and versions in one line."""
    versions = ", ".join(f"{name} {v}" for name, v in result["versions"].items() if name != "alignkit")
    commit = (result.get("git") or {}).get("commit")
    return f"{result['device']}; {versions}" + (f"; commit {commit[:12]}" if commit else "") + "."


def smollm2_path(result: dict[str, Any]) -> str:
    """The four stages on SmolLM2-135M."""
    stages, report = result["stages"], result["report"]
    rows = [
        [name, f"{s['seconds']:.0f}", f"{s['wall_seconds']:.0f}", f"{s['peak_memory_gib']:.1f}"]
        for name, s in stages.items()
    ]
    wins = [
        [name.replace("_", " "), interval(rate, "rate"), str(rate["ties"]), interval_of_change(report, name)]
        for name, rate in report["win_rate"].items()
    ]
    models = [
        [
            name,
            "–" if model.get("kl") is None else f"{model['kl']:.2f}",
            f"{mean(model['words']):.0f}",
            f"{mean(model['eos_rate']):.2f}",
            f"{mean(model['score']):.2f}",
        ]
        for name, model in report["stages"].items()
        if "words" in model
    ]
    accuracies = [[name, interval(stages[name]["metrics"]["accuracy"])] for name in ("reward", "judge")]
    sizes = ", ".join(f"{name} {count:,}" for name, count in result["rows"].items())
    return "\n\n".join(
        [
            "## The whole path on SmolLM2-135M-Instruct and real data",
            PATH_WORDS,
            f"Rows: {sizes}. {origin(result)}",
            table(["stage", "seconds", "with start-up", "peak GPU memory, GiB"], rows),
            table(["reward model", "held-out accuracy"], accuracies),
            table(["comparison", "win rate", "ties", "change in words"], wins),
            table(["model", "KL from parent, nats", "words", "EOS rate", "judge's mean score"], models),
        ]
    )


def mean(value: Any) -> float:
    """A plain number, or an interval's value."""
    return float(value["value"] if isinstance(value, dict) else value)


def interval_of_change(report: dict[str, Any], name: str) -> str:
    change = report["controls"]["length"][name]
    return f"{change['value']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]"


PARTS = {"smollm2_path": smollm2_path}


def page() -> str:
    """The whole page, from the results that are there."""
    parts = ["# Measured", "Tables on this page are generated from benchmarks/results/ by `make bench`."]
    for name, render in PARTS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts.append(render(json.loads(path.read_text())))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
