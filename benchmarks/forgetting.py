"""How often a probe calls forgotten what was kept, and finds a loss: `python benchmarks/forgetting.py [OUT]`.

Whole probes of two models are simulated, items right or wrong, or documents with their log-likelihoods, and
go through the evaluator's own figures. Without a loss an interval should lie on the worse side in 2.5% of
them; with a true loss of just the size that the report names as the smallest that would be seen, in about
80%. Eight minutes on one core; seeded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from alignment.data.files import atomic_output
from alignment.evaluation.probe_figures import probe_report
from alignment.evaluation.probe_rows import Measured, Row
from alignment.stats import smallest_change, smallest_share_change

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "forgetting.json"
RUNS = 1_000
CHOICES = ((50, 0.1), (200, 0.1), (200, 0.3), (1_000, 0.05))  # items, and the share on which models differ
DOCUMENTS = (30, 60, 200)


def main(out: Path) -> None:
    cells = [choices(n, share) for n, share in CHOICES] + [documents(n) for n in DOCUMENTS]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    result = {
        "device": f"{os.cpu_count()} CPU cores, one of them used",
        "commit": commit.stdout.strip(),
        "runs": RUNS,
        "cells": cells,
    }
    with atomic_output(out, overwrite=True) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    for cell in cells:
        print(cell)


def choices(n: int, differ: float) -> dict[str, Any]:
    """Items that only the old or only the new model has right: a share `differ`, or all of a larger loss."""
    loss = smallest_share_change(n, differ)
    assert loss is not None
    rng = np.random.default_rng(n)

    def simulated(true: float) -> dict[str, list[Row]]:
        share = max(differ, true)
        chances = [(share - true) / 2, (share + true) / 2, (1 - share) / 2, (1 - share) / 2]
        kinds = rng.choice(4, n, p=chances)  # won, lost, both right, both wrong
        return {
            "old": [_answered(i, kind in (1, 2)) for i, kind in enumerate(kinds)],
            "new": [_answered(i, kind in (0, 2)) for i, kind in enumerate(kinds)],
        }

    settings = {"kind": "exact_match", "match": "text", "files": []}
    kept, lost = (_forgotten(settings, lambda true=true: simulated(true)) for true in (0.0, loss))
    return {
        "what": "right or wrong",
        "items": n,
        "differ": differ,
        "smallest": loss,
        "kept": kept,
        "lost": lost,
    }


def documents(n: int) -> dict[str, Any]:
    """Documents of 20 to 300 tokens whose log-likelihoods differ by noise, and by a loss the same a token."""
    rng = np.random.default_rng(n)

    def noise() -> tuple[Any, Any]:
        tokens = rng.integers(20, 300, n)
        return tokens, rng.normal(0.0, 0.3, n) * np.sqrt(tokens)

    loss = float(np.mean([smallest_change(e, t) for t, e in (noise() for _ in range(200))]))

    def simulated(true: float) -> dict[str, list[Row]]:
        tokens, error = noise()
        old = -3.0 * tokens
        new = old - error - true * tokens
        return {"old": _documents(old, tokens), "new": _documents(new, tokens)}

    settings = {"kind": "perplexity", "files": []}
    kept, lost = (_forgotten(settings, lambda true=true: simulated(true)) for true in (0.0, loss))
    return {"what": "nats a token", "items": n, "differ": None, "smallest": loss, "kept": kept, "lost": lost}


def _forgotten(settings: dict[str, Any], simulated: Any) -> float:
    """The share of RUNS simulated probes that are called forgotten."""
    found = 0
    for seed in range(RUNS):
        report = probe_report({"probe": Measured(settings, simulated())}, [("new", "old")], seed)
        found += report["probe"]["pairs"]["new_vs_old"]["forgotten"]
    return found / RUNS


def _answered(item: int, right: bool) -> Row:
    return {"item": str(item), "answers": ["yes"], "text": "yes" if right else "no", "finished": True}


def _documents(log_probs: Any, tokens: Any) -> list[Row]:
    return [
        {"item": str(i), "log_prob": float(lp), "tokens": int(t), "bytes": 4 * int(t), "windows": 1}
        for i, (lp, t) in enumerate(zip(log_probs, tokens, strict=True))
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
