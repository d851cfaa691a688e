"""How often the intervals hold the truth, by simulation: `python benchmarks/coverage.py [OUT.json]`.

Every cell simulates whole evaluations of independent prompts with a known win rate and share of ties, and
counts the intervals that hold the rate; without ties the same is counted out at every rate. Besides:
intervals over training seeds, length control, the sequential test looked at after every prompt, and the
over-optimisation flag. Ten minutes on one core; seeded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import bdtr, expit
from scipy.stats import binom

from alignment.data.files import atomic_output
from alignment.stats import (
    exact_win_rate,
    length_controlled,
    looks,
    mean_over_seeds,
    over_optimised,
    win_rate,
)
from alignment.stats.sequential import log_stakes

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "coverage.json"
SIZES, RATES, TIES = (50, 200, 500, 1_000), (0.5, 0.6, 0.75, 0.9), (0.0, 0.2, 0.5)
RUNS = 4_000
BANDS = ((0.5, 0.9), (0.9, 0.95), (0.95, 0.99))  # true win rates, from above the first to the second
LEAST = 0.935


@cache
def intervals(wins: int, ties: int, n: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bootstrap and exact interval; both depend on the counts alone."""
    outcomes = [1.0] * wins + [0.5] * ties + [0.0] * (n - wins - ties)
    boot, exact = win_rate(outcomes), exact_win_rate(outcomes)
    return (boot.low, boot.high), (exact.low, exact.high)


def one_cell(n: int, rate: float, tie: float, rng: np.random.Generator) -> dict[str, Any]:
    """Shares of `RUNS` evaluations whose interval holds `rate`, and the intervals' mean widths."""
    drawn = rng.multinomial(n, [rate - tie / 2, tie, 1 - rate - tie / 2], size=RUNS)
    found = np.array([intervals(int(w), int(t), n) for w, t, _ in drawn])  # (runs, 2 kinds, 2 ends)
    # An end that falls on the rate itself holds it, whatever the last digit of a float says.
    held = (found[..., 0] <= rate + 1e-9) & (rate - 1e-9 <= found[..., 1])
    width = (found[..., 1] - found[..., 0]).mean(0)
    return {
        "n": n,
        "rate": rate,
        "ties": tie,
        "bootstrap": float(held[:, 0].mean()),
        "exact": float(held[:, 1].mean()),
        "bootstrap_width": float(width[0]),
        "exact_width": float(width[1]),
    }


def without_ties(n: int) -> list[dict[str, Any]]:
    """Coverage at every true rate in steps of 0.0005, counted out over the binomial, by band of rates.

    below: the share of a band's rates at which the bootstrap holds the truth less often than LEAST.
    """
    wins = np.arange(n + 1)
    found = np.array([intervals(int(w), 0, n) for w in wins])  # (n + 1, 2 kinds, 2 ends)
    bands = []
    for low, high in BANDS:
        rates = np.arange(low + 0.0005, high + 1e-9, 0.0005)[:, None, None]
        held = (found[..., 0] <= rates + 1e-9) & (rates - 1e-9 <= found[..., 1])  # (rates, n + 1, 2)
        coverage = np.einsum("rw,rwk->kr", binom.pmf(wins, n, rates[:, 0]), held)
        bands.append(
            {
                "n": n,
                "above": low,
                "to": high,
                "below": float((coverage[0] < LEAST).mean()),
                "bootstrap": float(coverage[0].min()),
                "exact": float(coverage[1].min()),
            }
        )
    return bands


def over_seeds(seeds: int, sd: float, rng: np.random.Generator) -> dict[str, Any]:
    """Interval over seeds and prompts, against one over the prompts of the mean alone; 500 evaluations."""
    prompts, runs, both, alone = 300, 500, 0, 0
    for i in range(runs):
        effect = 0.6 + sd * rng.normal(size=(seeds, 1))
        hard = 0.15 * rng.normal(size=prompts)
        table = (rng.random((seeds, prompts)) < np.clip(effect + hard, 0, 1)).astype(float)
        found = mean_over_seeds(table, resamples=2_000, seed=i)
        plain = win_rate(table.ravel(), np.tile(np.arange(prompts), seeds), resamples=2_000, seed=i)
        both += found.low <= 0.6 <= found.high
        alone += plain.low <= 0.6 <= plain.high
    return {
        "seeds": seeds,
        "sd": sd,
        "prompts": prompts,
        "both": both / runs,
        "prompts_only": alone / runs,
        "runs": runs,
    }


def for_length(n: int, rng: np.random.Generator) -> dict[str, Any]:
    """The controlled rate where strength is 0.3 and length effect 1.2; 1,000 evaluations."""
    runs, held, found_mean = 1_000, 0, 0.0
    for i in range(runs):
        change = rng.normal(150.0, 300.0, n)
        outcomes = rng.random(n) < expit(0.3 + 1.2 * np.tanh(change / change.std(ddof=1)))
        found = length_controlled(outcomes.astype(float), change, np.zeros(n), resamples=1_000, seed=i)
        held += found.low <= expit(0.3) <= found.high
        found_mean += found.rate / runs
    return {"n": n, "true": float(expit(0.3)), "mean": found_mean, "coverage": held / runs, "runs": runs}


def peeking(most: int) -> list[dict[str, Any]]:
    """No true difference, no ties, a look after each prompt: the chance that a test ever says there is one.

    Counted out, not simulated: the distribution of wins over paths on which no look has said so yet.
    """
    going = {"sequential": np.ones(1), "sign_test": np.ones(1)}
    ended = dict.fromkeys(going, 0.0)
    found = []
    for n in range(1, most + 1):
        wins = np.arange(n + 1)
        counts = np.stack([n - wins, wins], axis=1)
        near = np.abs(wins - n / 2) < 5 * np.sqrt(n)  # ten standard deviations; beyond, any test has ended
        says = {"sequential": ~near, "sign_test": 2 * bdtr(counts.min(1), n, 0.5) <= 0.05}
        says["sequential"][near] = log_stakes(counts[near], [0.0, 1.0], 0.5) >= np.log(20.0)
        for name, chance in going.items():
            after = np.concatenate([[0.0], chance / 2]) + np.concatenate([chance / 2, [0.0]])
            ended[name] += float(after[says[name]].sum())
            going[name] = np.where(says[name], 0.0, after)
        if n in (100, 500, 1_000, most):
            found.append({"looks": n, **ended})
    return found


def sequence(rate: float, rng: np.random.Generator) -> dict[str, Any]:
    """The share of confidence sequences that hold the rate at all looks, and when one half was refuted."""
    runs, n, held, decided = 300, 1_000, 0, []
    for _ in range(runs):
        outcomes = rng.choice([0.0, 0.5, 1.0], p=[0.9 - rate, 0.2, rate - 0.1], size=n)
        found = looks(outcomes, np.arange(10, n + 1, 10))
        held += found[-1].low <= rate <= found[-1].high
        decided.append(next((look.n for look in found if look.decided), np.inf))
    median = float(np.median(decided))
    return {
        "rate": rate,
        "ties": 0.2,
        "n": n,
        "runs": runs,
        "coverage": held / runs,
        "median_stop": median if np.isfinite(median) else None,
    }


def flags(rng: np.random.Generator) -> dict[str, Any]:
    """The proxy rises and the gold does not move: the share of evaluations with any flag."""
    runs, false = 500, 0
    for i in range(runs):
        proxy = np.arange(10.0)[:, None] + rng.normal(size=(10, 100))
        found = over_optimised(proxy, rng.normal(size=(10, 100)), resamples=1_000, seed=i)
        false += any(f.flagged for f in found)
    return {"checkpoints": 10, "prompts": 100, "runs": runs, "flagged": false / runs}


def main(out: Path) -> None:
    rng = np.random.default_rng(0)
    cells = []
    for n in SIZES:
        for rate in RATES:
            cells += [one_cell(n, rate, tie, rng) for tie in TIES if tie / 2 <= 1 - rate]
        intervals.cache_clear()
        print(f"{n} prompts: {len(cells)} cells so far", file=sys.stderr)
    result = {
        "device": f"{os.cpu_count()} CPU cores",
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.strip(),
        "runs": RUNS,
        "cells": cells,
        "without_ties": [band for n in SIZES[1:] for band in without_ties(n)],
        "seeds": [over_seeds(s, sd, rng) for sd in (0.04, 0.1) for s in (3, 5, 10)],
        "length": [for_length(n, rng) for n in (100, 300, 1_000)],
        "peeking": peeking(2_000),
        "sequence": [sequence(rate, rng) for rate in (0.5, 0.55, 0.6)],
        "flags": flags(rng),
    }
    with atomic_output(out, overwrite=True) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
