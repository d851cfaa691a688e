"""Writes docs/benchmarks.md from the JSON that the benchmark scripts wrote to benchmarks/results/.

    python benchmarks/tables.py

Each section of the page is a function of one result, in the folder sections/. Nothing in that page is typed
by hand but the words around the tables; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path

from sections import datasets, evaluation, labeling, path, ppo, training

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
# the results' file names, in the order of the page
PARTS = {
    "data": datasets.data,
    "smollm2_path": path.smollm2_path,
    "memory": training.memory,
    "reward_speed": training.reward_speed,
    "hh_reward": training.hh_reward,
    "rollouts": ppo.rollouts,
    "ppo_speed": ppo.ppo_speed,
    "annotate_50": labeling.annotate,
    "labeling": labeling.labeling,
    "coverage": evaluation.coverage,
    "verdicts": evaluation.verdicts,
}


def page() -> str:
    """The whole page, from the results that are there."""
    parts = ["# Measured", "Tables on this page are generated from benchmarks/results/ by `make bench`."]
    for name, render in PARTS.items():
        result = RESULTS / f"{name}.json"
        if result.exists():
            parts.append(render(json.loads(result.read_text())))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
