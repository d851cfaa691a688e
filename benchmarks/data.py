"""A million pair records checked, converted and viewed: alignkit beside `datasets`, in one run.

    python benchmarks/data.py [--rows 10000 100000 1000000] [--work DIR] [--out benchmarks/results/data.json]

Records of about 1 KB are made from a seed. Each command is a process of its own; its wall time is kept, and
the peak memory of it and its children together (what they share counted once, every 0.25 s). The peer is
`load_dataset("json")`, then a Python `map` with the same checks, then its own writer, with a fresh cache each
time. The peer's settings (num_proc, batched) are all tried at the second size; elsewhere what `map` has by
itself, and the fastest.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "data.json"
TASKS = ("check", "convert", "pairs")
NEAR = 200_000  # prompts for the search for near duplicates
SETTINGS = [{"num_proc": n, "batched": batched} for n in (1, 2) for batched in (False, True)]
# Keys of every object of a record, for the peer's checks.
KEYS = {
    "record": {
        "v", "id", "prompt", "completions", "demonstrations", "judgments", "tools", "parent", "meta",
    },
    "message": {"role", "content", "parts", "name", "tool_calls", "tool_call_id", "weight"},
    "completion": {"id", "content", "messages", "source", "license", "rewards", "meta"},
    "source": {"kind", "name", "params"},
    "judgment": {
        "by", "ranks", "comparisons", "ratings", "labels", "all_bad", "rationale", "at", "seconds",
        "presented", "guideline", "meta",
    },
}  # fmt: skip
ROLES = {"system", "developer", "user", "assistant", "tool"}


def make(folder: Path, rows: int, seed: int = 0) -> None:
    """ROWS.native.jsonl, spelled as `alignkit` writes it, and ROWS.trl.jsonl, as Python's `json` does."""
    dice = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    words = ["".join(dice.choices(letters, range(26, 0, -1), k=dice.randint(2, 9))) for _ in range(4000)]
    words += ["naïve", "“so”", "don't", '"quoted"', "C:\\path", "\n\n-", "straße", "数据", "🙂", "3.14"]
    texts = [" ".join(dice.choices(words, k=dice.randint(4, 12))) for _ in range(20000)]

    def said(least: int, most: int) -> str:
        return ". ".join(dice.choices(texts, k=dice.randint(least, most)))

    with (
        open(folder / f"{rows}.native.jsonl", "w", encoding="utf-8") as native,
        open(folder / f"{rows}.trl.jsonl", "w", encoding="utf-8") as trl,
    ):
        for number in range(rows):
            prompt = [{"role": "user", "content": f"{number}: {said(1, 3)}"}]
            if number % 5 == 0:
                prompt.insert(0, {"role": "system", "content": said(1, 1)})
            if number % 4 == 0:
                prompt += [
                    {"role": "assistant", "content": said(1, 2)},
                    {"role": "user", "content": said(1, 1)},
                ]
            better, worse = said(2, 8), said(2, 8)
            first_wins = dice.random() < 0.5
            record = {
                "prompt": prompt,
                "v": 1,
                "id": f"row-{number:08d}",
                "completions": [
                    {"content": text, "source": {"kind": "model", "name": f"model-{dice.randint(0, 9)}"}}
                    for text in ((better, worse) if first_wins else (worse, better))
                ],
                "judgments": [
                    {
                        "by": f"judge-{dice.randint(0, 30)}",
                        "ranks": [1, 2] if first_wins else [2, 1],
                        "seconds": dice.randint(3, 900) / 10,
                    }
                ],
            }
            native.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
            row = {
                "prompt": prompt,
                "chosen": [{"role": "assistant", "content": better}],
                "rejected": [{"role": "assistant", "content": worse}],
            }
            trl.write(json.dumps(row, ensure_ascii=False) + "\n")


def check_messages(messages: Any) -> None:
    for message in messages:
        if not message.keys() <= KEYS["message"]:
            raise ValueError(f"unknown key in {message}")
        if message["role"] not in ROLES or not isinstance(message["content"], str):
            raise ValueError(f"bad message {message}")


def check_prompt(prompt: Any) -> None:
    check_messages(prompt)
    if prompt and prompt[-1]["role"] == "assistant":
        raise ValueError("the prompt ends with the assistant")


def check_record(row: dict[str, Any]) -> None:
    """The checks of `alignkit data check`, as one would write them for a `map`."""
    if not row.keys() <= KEYS["record"] or row["v"] != 1 or not isinstance(row["id"], str):
        raise ValueError(f"bad keys in {row}")
    check_prompt(row["prompt"])
    count = len(row["completions"])
    for completion in row["completions"]:
        if not completion.keys() <= KEYS["completion"] or not isinstance(completion["content"], str):
            raise ValueError(f"bad completion {completion}")
        source = completion["source"]
        if not source.keys() <= KEYS["source"] or not isinstance(source["kind"], str):
            raise ValueError(f"bad source {source}")
    for judgment in row["judgments"]:
        if not judgment.keys() <= KEYS["judgment"] or not isinstance(judgment["by"], str):
            raise ValueError(f"bad judgment {judgment}")
        ranks = judgment["ranks"]
        if len(ranks) != count or any(not isinstance(rank, int) or rank < 1 for rank in ranks):
            raise ValueError(f"bad ranks {ranks}")
        if judgment["seconds"] < 0:
            raise ValueError(f"bad seconds {judgment['seconds']}")


def peer_convert(row: dict[str, Any]) -> dict[str, Any]:
    """A TRL pair as a record. Its id, a hash of the content, is what `alignkit` gives too."""
    import hashlib

    if row.keys() != {"prompt", "chosen", "rejected"}:
        raise ValueError(f"unknown key in {row}")
    check_prompt(row["prompt"])
    for side in (row["chosen"], row["rejected"]):
        check_messages(side)
    content = json.dumps([row["prompt"], row["chosen"], row["rejected"]], ensure_ascii=False)
    return {
        "v": 1,
        "id": hashlib.blake2b(content.encode(), digest_size=12).hexdigest(),
        "completions": [{"content": row["chosen"][0]["content"]}, {"content": row["rejected"][0]["content"]}],
        "judgments": [{"ranks": [1, 2]}],
    }


def peer_pair(row: dict[str, Any]) -> dict[str, Any]:
    """A record's better completion as chosen, the other as rejected."""
    check_record(row)
    ranks = row["judgments"][0]["ranks"]
    best = 0 if ranks[0] < ranks[1] else 1
    chosen, rejected = (row["completions"][index]["content"] for index in (best, 1 - best))
    return {
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "weight": 1.0,
        "judges": 1,
    }


def over_batch(function: Any) -> Any:
    """The same function for `map(batched=True)`."""

    def batched(columns: dict[str, list[Any]]) -> dict[str, list[Any]] | None:
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        made = [function(row) for row in rows]
        return {key: [row[key] for row in made] for key in made[0]} if made[0] is not None else None

    return batched


def peer(task: str, source: Path, target: Path, num_proc: int, batched: bool) -> None:
    """One task by `datasets`, with a cache folder that is new."""
    from datasets import load_dataset

    function = {"check": check_record, "convert": peer_convert, "pairs": peer_pair}[task]
    with tempfile.TemporaryDirectory(dir=target.parent) as cache:
        data = load_dataset("json", data_files=str(source), split="train", cache_dir=cache)
        drop = {"convert": ["chosen", "rejected"], "pairs": ["v", "completions", "judgments"]}.get(task)
        data = data.map(
            over_batch(function) if batched else function,
            batched=batched,
            num_proc=num_proc if num_proc > 1 else None,
            remove_columns=drop,
        )
        if task == "convert":
            data.to_json(target, num_proc=num_proc if num_proc > 1 else None, force_ascii=False)
        elif task == "pairs":
            data.to_parquet(target)


def measured(command: list[str]) -> dict[str, Any]:
    """Wall seconds and peak bytes (proportional set size, with children) of a command; it must succeed."""
    import psutil

    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    top = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        total = 0
        try:
            for one in [top, *top.children(recursive=True)]:
                total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        peak = max(peak, total)
        time.sleep(0.25)  # looking costs the processes time: it walks all their pages
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{process.communicate()[1].decode()[-2000:]}")
    return {"seconds": round(seconds, 2), "peak_bytes": peak}


def ours(task: str, folder: Path, rows: int) -> list[str]:
    """The whole command that a user types."""
    alignkit = [sys.executable, "-m", "alignment.cli", "data"]
    native, out = str(folder / f"{rows}.native.jsonl"), folder / f"ours.{task}"
    if task == "check":
        return [*alignkit, "check", native]
    if task == "near":
        return [*alignkit, "duplicates", "--near", native]
    if task == "pairs":
        return [*alignkit, "view", "pairs", native, f"{out}.parquet", "--overwrite"]
    source = str(folder / f"{rows}.trl.jsonl") if task == "convert" else native
    format_ = "trl" if task == "convert" else "native"
    return [*alignkit, "convert", "--from", format_, source, f"{out}.jsonl", "--overwrite"]


def theirs(task: str, folder: Path, rows: int, setting: dict[str, Any]) -> list[str]:
    source = folder / f"{rows}.{'trl' if task == 'convert' else 'native'}.jsonl"
    target = folder / f"peer.{task}.{'parquet' if task == 'pairs' else 'jsonl'}"
    words = [task, str(source), str(target), str(setting["num_proc"]), str(int(setting["batched"]))]
    return [sys.executable, str(Path(__file__).resolve()), "--peer", *words]


def cases(folder: Path, sizes: list[int]) -> Iterator[dict[str, Any]]:
    best: dict[str, dict[str, Any]] = {}
    for size in sorted(sizes, key=lambda size: size != sizes[min(1, len(sizes) - 1)]):
        make(folder, size)
        everything = not best
        for task in TASKS:
            tried = [
                {"setting": setting, **measured(theirs(task, folder, size, setting))}
                for setting in (SETTINGS if everything else [SETTINGS[0], best[task]])
            ]
            best.setdefault(task, min(tried, key=lambda one: one["seconds"])["setting"])
            yield {"task": task, "rows": size, "ours": measured(ours(task, folder, size)), "peer": tried}
        yield {"task": "native", "rows": size, "ours": measured(ours("native", folder, size))}
        for file in folder.glob(f"{size}.*"):
            file.unlink()
    make(folder, NEAR)
    yield {"task": "near duplicates", "rows": NEAR, "ours": measured(ours("near", folder, NEAR))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--work", type=Path, help="a folder for about 10 GB at a million rows")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--peer", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        task, source, target, num_proc, batched = args.peer
        peer(task, Path(source), Path(target), int(num_proc), batched == "1")
        return
    names = ("datasets", "pyarrow", "msgspec", "zstandard")
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, Any] = {
        "device": f"{len(os.sched_getaffinity(0))} CPU cores",
        "commit": git.stdout.strip(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in names},
        "settings_tried": SETTINGS,
        "cases": [],
    }
    folder = Path(tempfile.mkdtemp(dir=args.work))
    try:
        for case in cases(folder, sorted(args.rows)):
            print(json.dumps(case), flush=True)
            result["cases"].append(case)
    finally:
        shutil.rmtree(folder)
    result["cases"].sort(key=lambda case: (case["task"], case["rows"]))
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(args.out)


if __name__ == "__main__":
    main()
