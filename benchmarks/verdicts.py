"""Statistics of 100,000 stored verdicts: `python benchmarks/verdicts.py [OUT.json]`.

Makes finished evaluations of two shapes from a seed (one comparison of 100,000 prompts; ten comparisons of
five models on 2,000 prompts with five answers each) and runs the commands on them, each a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from alignment.data.files import atomic_output

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "verdicts.json"
SHAPES = {"1 comparison": (2, 100_000, 1), "10 comparisons": (5, 2_000, 5)}  # models, prompts, answers


def make(folder: Path, models: int, prompts: int, samples: int) -> int:
    """A finished evaluation of every pair of models; return the number of its verdicts."""
    rng = np.random.default_rng(0)
    names = [f"model-{i}" for i in range(models)]
    text = " ".join(["word"] * 400)
    folder.mkdir()
    config = {"models": {n: f"models/{n}" for n in names}}
    (folder / "report.json").write_text(json.dumps({"judge": {"name": "simulated"}, "config": config}))
    words = rng.integers(20, 400, (prompts, models, samples))
    with (folder / "completions.jsonl").open("w") as out:
        for i in range(prompts):
            answers = [
                {"content": text[: 5 * int(words[i, m, k])], "source": {"kind": "model", "name": names[m]}}
                for m in range(models)
                for k in range(samples)
            ]
            prompt = [{"role": "user", "content": f"Request number {i}"}]
            out.write(json.dumps({"id": f"p{i}", "prompt": prompt, "completions": answers}) + "\n")
    count = 0
    with (folder / "verdicts.jsonl").open("w") as out:
        for a, b in combinations(range(models), 2):
            drawn = rng.choice(
                [0.0, 0.5, 1.0],
                p=[0.4 - 0.05 * (b - a), 0.15, 0.45 + 0.05 * (b - a)],
                size=(prompts, samples),
            )
            for i in range(prompts):
                for k in range(samples):
                    row = {"a": names[a], "b": names[b], "prompt": f"p{i}", "sample": k, "on": f"p{i}"}
                    row |= {"outcome": float(drawn[i, k]), "score_a": None, "score_b": None, "control": None}
                    out.write(json.dumps(row) + "\n")
                    count += 1
    return count


def measured(words: list[str]) -> dict[str, Any]:
    """Seconds and peak resident bytes of one command."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "alignment.cli", *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    watched, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    if process.wait():
        raise SystemExit(f"{' '.join(words)} failed")
    return {"seconds": time.perf_counter() - start, "peak_bytes": peak}


def main(out: Path) -> None:
    cases = []
    with tempfile.TemporaryDirectory() as temporary:
        for shape, (models, prompts, samples) in SHAPES.items():
            folder = Path(temporary) / shape.replace(" ", "-")
            count = make(folder, models, prompts, samples)
            for command in (["verdicts"], ["leaderboard"], ["compare", str(folder)]):
                figures = measured(["evaluate", *command, str(folder)])
                cases.append(
                    {"shape": shape, "command": command[0], "verdicts": count, "prompts": prompts, **figures}
                )
                print(cases[-1], file=sys.stderr)
    result = {
        "device": f"{os.cpu_count()} CPU cores",
        "commit": subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.strip(),
        "cases": cases,
    }
    with atomic_output(out, overwrite=True) as place:
        place.write_text(json.dumps(result, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
