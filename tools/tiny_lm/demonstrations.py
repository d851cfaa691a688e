"""The quickstart's prompts and demonstrations, from what generate.py wrote.

PYTHONPATH=CHECKOUT python demonstrations.py DIR OUT

DIR holds demonstrations.jsonl.gz ({id, prompt, completions}, by the teacher) and held_out.jsonl ({id, prompt}).
OUT gets demonstrations.jsonl, ranking_prompts.jsonl (which rankings.py answers and ranks), ppo_prompts.jsonl and
held_out_prompts.jsonl. No prompt is in two of them.

A demonstration is drawn at random from the teacher's answers that are fit to be imitated: plain, short and
ended, the number of sentences asked for, and at least FLOOR of the judge's score. Drawn and not picked as the
best, so that there is something left to learn from rankings.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from alignment.data.files import write_records
from alignment.data.records import Completion, Message, Record, Source
from alignment.evaluation.program import parts

COUNTS = {"demonstrations": 1400, "ranking_prompts": 1500, "ppo_prompts": 1500, "held_out_prompts": 300}
FLOOR = 0.55
LONGEST = 47  # tokens, so that the end is learnt within the 48 that the quickstart samples
PLAIN = re.compile(r"[A-Za-z ,.!?'\"\n-]+")
UNWANTED = re.compile(
    r"\b(kill\w*|gun\w*|blood\w*|die[sd]?|dead|death|drunk|drinks?|beer|wine|war|hell|hate[sd]?|ugly|stupid|"
    r"sex\w*|naked|slave\w*|god|lord|jesus|african|white (?:man|woman)|black (?:man|woman))\b",
    re.IGNORECASE,
)
TEACHER = Source(kind="model", name="SmolLM2-135M-Instruct", params={"temperature": 0.65, "min_p": 0.1})


def fit(prompt: str, text: str, tokenizer: Tokenizer) -> bool:
    """Whether the answer may be imitated; names that nobody asked for and hard words are not plain."""
    if not PLAIN.fullmatch(text) or UNWANTED.search(text) or '"' in text:
        return False
    strange = re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", text)
    if any(word not in prompt for word in strange) or re.search(r"\b(sample|sentence|story|prompt)", text):
        return False
    scored = parts([{"role": "user", "content": prompt}], text)
    whole = scored["sentences"] == scored["ended"] == scored["loops"] == scored["copied"] == 1.0
    return whole and scored["score"] >= FLOOR and len(tokenizer.encode(text).ids) <= LONGEST


def prompt_record(row: dict[str, Any]) -> Record:
    """The prompt alone."""
    return Record(prompt=[Message("user", row["prompt"])], id=row["id"])


def main(folder: Path, out: Path) -> None:
    rng = random.Random(0)
    root = Path(__file__).resolve().parents[2]
    tokenizer = Tokenizer.from_file(str(root / "alignment/assets/tiny/tokenizer.json"))
    with gzip.open(folder / "demonstrations.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rng.shuffle(rows)
    demonstrations, rest = [], []
    for row in rows:
        texts = [text.strip() for text in row["completions"]]
        texts = [text for text in texts if fit(row["prompt"], text, tokenizer)]
        if texts and len(demonstrations) < COUNTS["demonstrations"]:
            record = prompt_record(row)
            text = rng.choice(texts)
            record.completions = [Completion(id="c0", content=text, source=TEACHER, license="Apache-2.0")]
            record.demonstrations = [0]
            demonstrations.append(record)
        else:
            rest.append(prompt_record(row))
    ranked, ppo = COUNTS["ranking_prompts"], COUNTS["ppo_prompts"]
    rng.shuffle(rest)
    held_out = [json.loads(line) for line in (folder / "held_out.jsonl").read_text().splitlines()]
    sets = {
        "demonstrations": demonstrations,
        "ranking_prompts": rest[:ranked],
        "ppo_prompts": rest[ranked : ranked + ppo],
        "held_out_prompts": [prompt_record(row) for row in held_out[: COUNTS["held_out_prompts"]]],
    }
    for name, records in sets.items():
        if len(records) != COUNTS[name]:
            raise SystemExit(f"{name}: {len(records)} of {COUNTS[name]}")
        write_records(out / f"{name}.jsonl", records, overwrite=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
