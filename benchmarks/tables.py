"""Writes docs/benchmarks.md from the JSON that the benchmark scripts wrote to benchmarks/results/.

    python benchmarks/tables.py

Each section of the page is a function of one result, in the folder sections/; plots are written beside it, to
docs/figures. Nothing in that page is typed
by hand but the words around the tables; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path

from sections import datasets, evaluation, labeling, learning, overoptimisation, path, ppo, speed, training

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "docs" / "figures"
# the results' file names, in the order of the page
PARTS = {
    "data": datasets.data,
    "smollm2_path": path.smollm2_path,
    "memory": training.memory,
    "reward_speed": speed.reward_speed,
    "dpo_speed": speed.dpo_speed,
    "hh_reward": training.hh_reward,
    "rollouts": ppo.rollouts,
    "ppo_speed": ppo.ppo_speed,
    "ppo_learns": learning.ppo_learns,
    "overoptimisation": overoptimisation.overoptimisation,
    "annotate_50": labeling.annotate,
    "labeling": labeling.labeling,
    "coverage": evaluation.coverage,
    "forgetting": evaluation.forgetting,
    "verdicts": evaluation.verdicts,
    "drift": evaluation.drift,
    "safety": evaluation.safety,
}
# file names, in docs/figures, of the plots that sections show
PLOTS = {
    "ppo_learns": learning.ppo_learns_plots,
    "overoptimisation": overoptimisation.overoptimisation_plots,
}


def plots() -> dict[str, str]:
    """SVG by file name, of the results that are there."""
    found: dict[str, str] = {}
    for name, draw in PLOTS.items():
        result = RESULTS / f"{name}.json"
        if result.exists():
            found |= draw(json.loads(result.read_text()))
    return found


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
    for name, svg in plots().items():
        FIGURES.mkdir(exist_ok=True)
        (FIGURES / name).write_text(svg + "\n")
    print(PAGE)
