"""The drift gate's errors, and a log of 100,000 rows: `python benchmarks/drift.py [OUT.json]`.

Errors: two evaluations of one recipe, where nothing or a stated number of points was lost, are drawn again
and again; counted is how often `alignkit evaluate drift` would say worse, no worse or undecided. Speed: the
command on a log made from a seed, as a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from verdicts import ROOT, make, measured

from alignment.data.files import atomic_output
from alignment.evaluation.drift import Paired, decided

OUT = ROOT / "benchmarks" / "results" / "drift.json"
RUNS = 400
# prompts, figures that decide, win rate, points lost, margin in points
GATES = [
    (n, figures, rate, lost, margin)
    for n in (50, 200, 1_000)
    for figures in (1, 5)
    for rate, lost, margin in ((0.5, 0, 0), (0.9, 0, 0), (0.5, 5, 5), (0.5, 10, 0), (0.5, 0, 5))
]
WORDS = 20_000  # of the log's language


def gate(n: int, figures: int, rate: float, lost: float, margin: float) -> dict[str, Any]:
    """How often each verdict falls; prompts differ in difficulty, and both runs draw their outcomes anew."""
    rng = np.random.default_rng([n, figures, round(100 * rate), lost, margin])
    counts: Counter[str] = Counter()
    for run in range(RUNS):
        pairs = []
        for _ in range(figures):
            chance = np.clip(rng.normal(rate, 0.2, n), 0, 1)
            chance += rate - chance.mean()
            before, after = rng.random(n) < chance, rng.random(n) < chance - lost / 100
            sides = [{str(i): float(won) for i, won in enumerate(side)} for side in (before, after)]
            pairs.append(Paired("simulated", "win_rate", None, *sides))
        states = [figure["state"] for figure in decided(pairs, margin / 100, seed=run)]
        counts[next(s for s in ("worse", "undecided", "no worse") if s in states)] += 1
    return {
        "prompts": n,
        "figures": figures,
        "rate": rate,
        "lost": lost,
        "margin": margin,
        **{state.replace(" ", "_"): counts[state] / RUNS for state in ("worse", "undecided", "no worse")},
    }


def write_log(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("w") as out:
        for _ in range(rows):
            prompt, answer = (" ".join(f"w{k}" for k in rng.zipf(1.3, size) % WORDS) for size in (20, 150))
            row = {"prompt": prompt, "completion": answer, "score": float(rng.normal())}
            out.write(json.dumps(row) + "\n")


def main(out: Path) -> None:
    gates = []
    for case in GATES:
        gates.append(gate(*case))
        print(gates[-1], file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        folder, log = Path(temporary) / "run", Path(temporary) / "log.jsonl"
        make(folder, 2, 500, 1)
        write_log(log, 100_000)
        megabytes = log.stat().st_size / 1e6
        speed = measured(["evaluate", "drift-log", str(folder), str(log)])
    result = {
        "device": f"{os.cpu_count()} CPU cores",
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.strip(),
        "runs": RUNS,
        "gates": gates,
        "log": {"rows": 100_000, "megabytes": megabytes, **speed},
    }
    with atomic_output(out, overwrite=True) as place:
        place.write_text(json.dumps(result, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
