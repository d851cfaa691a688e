"""Training a reward model beside TRL's RewardTrainer: pairs a second, peak memory, held-out accuracy.

    python benchmarks/reward_speed.py --model SMOLLM2_DIR --data DATA_DIR --work DIR --out reward_speed.json

DATA_DIR holds judge/alpaca_eval_gpt4_pairs.jsonl.gz (not part of this project): long texts, 600 tokens on
average. Every side sees the same pairs once, at the same learning rate, batch and length limit, without
recomputation of activations, each in a process of its own; what is timed is the trainer's own loop. TRL is
run as its defaults have it and with its better settings (length grouping, weights); held-out accuracy is
measured for both by the same scorer on the same prompts. `--pairs N --max-length L` shrink it, to try the
script on a CPU with --model tiny.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from smollm2_path import ROOT, half_of, pairs

from alignment.data.files import read_records, write_records
from alignment.data.views import pairs_view

LEARNING_RATE, BATCH = 2e-5, 16  # of the peer's script
HELD_OUT = 1000
HELP = argparse.RawDescriptionHelpFormatter
LIBRARIES = ("torch", "transformers", "trl", "accelerate")
# name -> (side, options): of TRL's RewardConfig with "dtype" of the weights, or of our config
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "TRL, as it comes": ("trl", {"dtype": "bfloat16"}),
    "TRL, by length": ("trl", {"dtype": "bfloat16", "by_length": True}),
    "TRL, by length, batches of 32": (
        "trl",
        {"dtype": "bfloat16", "by_length": True, "per_device_train_batch_size": 32},
    ),
    "TRL, by length, float32 weights": ("trl", {"dtype": "float32", "by_length": True}),
    "alignkit": ("ours", {"model.dtype": "float32"}),
    "alignkit, bfloat16 weights": ("ours", {"model.dtype": "bfloat16"}),
    "alignkit, parts of 64k tokens": ("ours", {"model.dtype": "bfloat16", "token_budget": 65_536}),
    "alignkit, compiled": ("ours", {"model.dtype": "bfloat16", "trainer.torch_compile": True}),
}


def peer(model: str, work: Path, max_length: int, options: dict[str, Any]) -> dict[str, Any]:
    """TRL's RewardTrainer: seconds of its loop; its model is left in work/model."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    from alignment.backend.batching import LengthGroupedSampler

    given = {"per_device_train_batch_size": BATCH, **options}
    dtype, by_length = getattr(torch, given.pop("dtype")), given.pop("by_length", False)
    rows = [
        {key: row[key] for key in ("prompt", "chosen", "rejected")}
        for row in pairs_view(read_records([work.parent / "train.jsonl"]))
    ]
    tokenizer = AutoTokenizer.from_pretrained(model)
    if by_length:  # transformers' own grouping does not know TRL's rows: they come in an order of ours
        lengths = [max(len(text) for text in texts) for texts in (_texts(row) for row in rows)]
        order = LengthGroupedSampler(lengths, given["per_device_train_batch_size"], seed=0)
        rows = [rows[place] for place in order]
    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, dtype=dtype)
    network.config.pad_token_id = tokenizer.pad_token_id
    cpu = not torch.cuda.is_available()
    arguments = RewardConfig(
        output_dir=str(work / "trainer"),
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        max_length=max_length,
        report_to="none",
        bf16=not cpu,
        use_cpu=cpu,
        save_strategy="no",
        logging_steps=50,
        disable_tqdm=True,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential" if by_length else "random",
        **given,
    )
    trainer = RewardTrainer(
        model=network, args=arguments, processing_class=tokenizer, train_dataset=Dataset.from_list(rows)
    )
    seconds = trainer.train().metrics["train_runtime"]
    trainer.save_model(str(work / "model"))
    tokenizer.save_pretrained(str(work / "model"))
    return {"seconds": seconds, "pairs": len(trainer.train_dataset)}


def _texts(row: dict[str, Any]) -> list[str]:
    return ["".join(turn["content"] for turn in row["prompt"] + row[side]) for side in ("chosen", "rejected")]


def ours(model: str, work: Path, max_length: int, options: dict[str, Any]) -> dict[str, Any]:
    """The reward stage at the same settings; its model is in work/run."""
    from alignment.backend.config import load_config
    from reward import stage

    trainer = {
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "linear",  # TRL's
        "warmup_steps": 0,
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "max_length": max_length,
        "center_rewards_coefficient": None,
        "train_sampling_strategy": "group_by_length",
        "activation_checkpointing": False,
        "save_strategy": "no",
        "logging_steps": 50,
    }
    values = {f"trainer.{key}": value for key, value in trainer.items()} | options
    given = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    paths = {
        "model.path": model,
        "data.train": [str(work.parent / "train.jsonl")],
        "run.dir": str(work / "run"),
        "run.overwrite": True,
    }
    given += [f"{key}={json.dumps(value)}" for key, value in paths.items()]
    given += ["data.validation_fraction=0.0", "data.max_truncated=1.0"]
    result = stage.run(load_config(stage.Config, "smollm2-135m/reward", given))
    lines = [json.loads(line) for line in (work / "run" / "metrics.jsonl").read_text().splitlines()]
    seconds = next(line["train_runtime"] for line in lines if "train_runtime" in line)
    metrics = result["metrics"]
    return {"seconds": seconds, "pairs": metrics["rows"] - metrics["truncated"]}


def one(arguments: argparse.Namespace) -> None:
    """Train one variant in this process, measure it, print one line of JSON."""
    side, options = VARIANTS[arguments.one]
    work = arguments.work / arguments.one.replace(" ", "-").replace(",", "")
    work.mkdir(parents=True, exist_ok=True)
    import torch

    run = peer if side == "trl" else ours
    started = time.perf_counter()
    found = run(arguments.model, work, arguments.max_length, options)
    found["whole"] = time.perf_counter() - started
    gpu = torch.cuda.is_available()
    found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30 if gpu else None
    from alignment.backend.scoring import load_scorer
    from reward.evaluation import measures, scored

    scorer = load_scorer(str(work / ("model" if side == "trl" else "run")), max_length=arguments.max_length)
    rows = list(pairs_view(read_records([arguments.work / "test.jsonl"]), margin=True))
    figures = measures(scored(scorer, rows))
    found |= {"accuracy": figures["accuracy"], "options": {"per_device_train_batch_size": BATCH, **options}}
    found["pairs_per_second"] = found["pairs"] / found["seconds"]
    print("RESULT " + json.dumps(found), flush=True)


def prepare(arguments: argparse.Namespace) -> dict[str, int]:
    """train.jsonl and test.jsonl in the work folder, by halves of the prompts."""
    records = pairs(arguments.data / "judge" / "alpaca_eval_gpt4_pairs.jsonl.gz")
    halves = [[r for r in records if half_of(r.prompt[0].content) == side] for side in (0, 1)]
    train, test = halves[0][: arguments.pairs], halves[1][: min(HELD_OUT, arguments.pairs)]
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("test", test)):
        write_records(arguments.work / f"{name}.jsonl", part, overwrite=True)
    return {"train": len(train), "test": len(test)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "reward_speed.json")
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--one", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments)
        return
    rows = prepare(arguments)
    variants = {}
    for name in arguments.only:
        command = [sys.executable, __file__, "--model", arguments.model, "--work", str(arguments.work)]
        command += ["--max-length", str(arguments.max_length), "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
        if line is None:  # a setting that this device cannot take is told, the others go on
            variants[name] = {"error": done.stderr[-1500:]}
        else:
            variants[name] = json.loads(line.removeprefix("RESULT "))
        print(name, json.dumps(variants[name])[:300], flush=True)
    import importlib.metadata

    import torch

    result = {
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or "CPU",
        "model": Path(arguments.model).name,
        "max_length": arguments.max_length,
        "rows": rows,
        "variants": variants,
        "versions": {
            n: importlib.metadata.version(n) for n in ("torch", "transformers", "trl", "accelerate")
        },
    }
    best = {
        side: max(
            (v["pairs_per_second"] for n, v in variants.items() if VARIANTS[n][0] == side and "seconds" in v),
            default=None,
        )
        for side in ("trl", "ours")
    }
    if best["trl"] and best["ours"]:
        result["times_the_best_peer"] = best["ours"] / best["trl"]
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{arguments.out}: best of TRL {best['trl']}, best of ours {best['ours']} pairs/s")


if __name__ == "__main__":
    main()
