"""What PPO learns, beside a peer."""

from __future__ import annotations

from typing import Any

import numpy as np

from alignment.report import plots
from sections.common import origin, setting, table

PPO_LEARNS_WORDS = """\
`python benchmarks/ppo_learns.py`: one reward model, which pays both sides through the same scorer, the same
prompts, learning rate, KL coefficient, clips, epochs and schedule, several seeds. What a run's own samples
score, smoothed, is read where runs are as far from the first policy. Intervals are Welch's over seeds; bands
in the plots go from the least seed to the largest."""


def ppo_learns(result: dict[str, Any]) -> str:
    """PPO's reward at equal KL beside TRL's."""
    rows = []
    for name, run in result["runs"].items():
        ends = {key: values[-10:] for key, values in run["curve"].items()}
        rows.append(
            [
                name,
                str(len(run["curve"]["kl"])),
                *(f"{np.mean(run['curve'][key][:3]):.2f}" for key in ("score",)),
                *(f"{np.mean(ends[key]):.2f}" for key in ("score", "kl")),
            ]
        )
    parts = [
        "## PPO learns, beside TRL",
        f"{PPO_LEARNS_WORDS}\n{result['model']}; {setting(result['settings'])}. {origin(result)}",
    ]
    comparison = result.get("comparison")
    if comparison:
        differences = [
            [where, f"{d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]", f"{d['n']} a side"]
            for where, d in comparison["difference"].items()
        ]
        parts += [
            table(["alignkit less TRL 1.12, score", "difference", "seeds"], differences),
            *(f"![{alt}](figures/{name})" for name, alt in LEARNS_FIGURES.items()),
        ]
    head = ["run", "updates", "score of the first 3", "score of the last 10", "KL of the last 10"]
    return "\n\n".join([*parts, table(head, rows)])


LEARNS_FIGURES = {
    "ppo_learns_kl.svg": "Score over KL, alignkit and TRL 1.12",
    "ppo_learns_updates.svg": "Score over updates, alignkit and TRL 1.12",
}


def ppo_learns_plots(result: dict[str, Any]) -> dict[str, str]:
    """Score over KL and over updates, by file name."""
    comparison = result.get("comparison")
    if not comparison:
        return {}
    found = {}
    over = (
        ("KL from the first policy, nats", comparison["kl"], comparison["at_equal_kl"]),
        ("updates", None, comparison["over_updates"]),
    )
    for (name, alt), (label, xs, sides) in zip(LEARNS_FIGURES.items(), over, strict=True):
        series = {which: band(xs, values) for which, values in sides.items()}
        found[name] = plots.curves(series, x_label=label, y_label="score", title=alt)
    return found


def band(xs: list[float] | None, seeds: list[list[float]]) -> plots.Curve:
    """seeds: values (seeds, points). The mean over them, from the least to the largest."""
    values = np.array(seeds)
    at = list(range(values.shape[1])) if xs is None else xs
    return plots.Curve([], (at, values.mean(0).tolist(), values.min(0).tolist(), values.max(0).tolist()))
