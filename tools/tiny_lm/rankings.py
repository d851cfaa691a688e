"""The quickstart's rankings: the SFT model's answers, ranked by the programmatic judge.

alignkit sft quickstart/sft.yaml run.dir=SFT data.max_rows=1400
PYTHONPATH=CHECKOUT python rankings.py SFT PROMPTS OUT

PROMPTS is ranking_prompts.jsonl of demonstrations.py. OUT, a folder, gets rankings.jsonl.gz and, of other prompts,
rankings_held_out.jsonl.gz, on which the reward model's accuracy is measured. Six answers to each prompt, at
temperature 1, by a model that saw all demonstrations (the quickstart's own sees fewer, and is somewhat behind it).
The judge's scores are rounded to STEP and equal ones tie: smaller differences are no preference worth learning.
"""

from __future__ import annotations

import sys
from pathlib import Path

from alignment.backend.config import ModelSection
from alignment.backend.generation.settings import GenerateConfig, GenerationSection
from alignment.backend.generation.stage import run
from alignment.data.files import read_records, write_records
from alignment.data.records import Judgment, Record, Source, message_dict
from alignment.evaluation.program import judge

ANSWERS = 6
STEP = 0.1
HELD_OUT = 120


def ranks(scores: list[float]) -> list[int]:
    """1 for the best; equal scores share a rank, and the next one counts on from all above it."""
    rounded = [round(score / STEP) for score in scores]
    return [1 + sum(other > own for other in rounded) for own in rounded]


def ranked(record: Record) -> Record:
    """The record with its answers judged."""
    prompt = [message_dict(turn) for turn in record.prompt]
    scores = [round(judge(prompt, answer.text), 4) for answer in record.completions]
    for answer in record.completions:
        answer.license = "Apache-2.0"
        answer.source = Source(kind="model", name="quickstart-sft", params={"temperature": 1.0})
    record.judgments = [Judgment(by="program-judge", ranks=list(ranks(scores)))]
    return record


def main(model: str, prompts: str, out: Path) -> None:
    answered = out / ".answers.jsonl"
    config = GenerateConfig(
        model=ModelSection(path=model),
        prompts=[prompts],
        n=ANSWERS,
        generation=GenerationSection(max_new_tokens=48, seed=11, token_budget=32_768),
        out=str(answered),
        overwrite=True,
    )
    run(config)
    records = [ranked(record) for record in read_records(str(answered))]
    kept = [record for record in records if len(set(record.judgments[0].ranks or [])) > 1]
    write_records(out / "rankings.jsonl.gz", kept[HELD_OUT:], overwrite=True)
    write_records(out / "rankings_held_out.jsonl.gz", kept[:HELD_OUT], overwrite=True)
    for path in out.glob(".answers.jsonl*"):
        path.unlink()
    print(f"{len(kept)} records, {len(records) - len(kept)} with nothing but ties left out")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
