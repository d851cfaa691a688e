"""A glance at what generate.py wrote: random corpus rows, and the judge over the demonstration candidates.

PYTHONPATH=CHECKOUT python look.py DIR
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from alignment.evaluation.program import judge


def main(folder: Path) -> None:
    rng = random.Random(0)
    with gzip.open(folder / "demonstrations.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = rng.sample(rows, min(1000, len(rows)))
    every, best, ties, texts = [], [], 0, []
    for row in rows:
        prompt = [{"role": "user", "content": row["prompt"]}]
        scores = [judge(prompt, text) for text in row["completions"]]
        ties += len(scores) - len(set(scores))
        every += scores
        best.append(max(scores))
        texts.append((max(scores), row["completions"][scores.index(max(scores))], row["prompt"]))
    constants = [text for _, text, _ in sorted(texts, reverse=True)[:60]]
    sample = [[{"role": "user", "content": row["prompt"]}] for row in rows[:150]]
    constant = max((sum(judge(p, text) for p in sample) / len(sample) for text in constants), default=0.0)
    print(f"judge: mean candidate {sum(every) / len(every):.3f}, mean best of each {sum(best) / len(best):.3f}, "
          f"best of each >= 0.6: {sum(b >= 0.6 for b in best) / len(best):.2f}, >= 0.8: "
          f"{sum(b >= 0.8 for b in best) / len(best):.2f}, ties {ties} of {len(every)}, "
          f"best constant answer {constant:.3f}")  # fmt: skip
    for score, text, prompt in texts[:12]:
        print(f"--- {score:.2f} {prompt}\n{text}")
    with open(folder / "corpus.jsonl", encoding="utf-8") as file:
        lines = [line for number, line in enumerate(file) if number < 200_000]
    kinds = Counter(json.loads(line)["kind"] for line in lines)
    print("corpus:", dict(kinds))
    for line in rng.sample(lines, min(12, len(lines))):
        row = json.loads(line)
        print(f"--- [{row['kind']}] {row['question']}\n{row['text']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
