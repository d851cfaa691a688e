"""Training a reward model beside TRL's RewardTrainer: pairs a second, peak memory, held-out accuracy.

    python benchmarks/reward_speed.py --model SMOLLM2_DIR --data DATA_DIR --work DIR --out reward_speed.json

DATA_DIR holds judge/alpaca_eval_gpt4_pairs.jsonl.gz (not part of this project): long texts, 600 tokens on
average. Every side sees the same pairs once, at the same learning rate, batch and length limit, without
recomputation of activations, each in a process of its own; what is timed is the trainer's own loop, its first
steps, which compile and warm up, apart. TRL is run as its defaults have it and with its better settings
(length grouping, weights); held-out accuracy is measured for both by the same scorer on the same prompts.
On a CPU: --model tiny --pairs 200 --max-length 512 --skip 1 --held-out 40
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import side
from smollm2_path import half_of, pairs

from alignment.data.files import read_records, write_records
from alignment.data.views import pairs_view

LEARNING_RATE, BATCH = 2e-5, 16  # of the peer's script
DEFAULT = "TRL, as it comes"
# name -> (side, options): of TRL's RewardConfig with "dtype" of the weights, or of our config
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    DEFAULT: ("trl", {"dtype": "bfloat16"}),
    "TRL, by length": ("trl", {"dtype": "bfloat16", "by_length": True}),
    "TRL, by length, batches of 32": (
        "trl",
        {"dtype": "bfloat16", "by_length": True, "per_device_train_batch_size": 32},
    ),
    "TRL, by length, float32 weights": ("trl", {"dtype": "float32", "by_length": True}),
    "alignkit": ("ours", {"model.dtype": "float32"}),
    "alignkit, compiled": ("ours", {"model.dtype": "float32", "trainer.torch_compile": True}),
    "alignkit, bfloat16 weights": ("ours", {"model.dtype": "bfloat16"}),
    "alignkit, bfloat16 weights, compiled": (
        "ours",
        {"model.dtype": "bfloat16", "trainer.torch_compile": True},
    ),
}


def peer(model: str, work: Path, max_length: int, options: dict[str, Any]) -> int:
    """TRL's RewardTrainer: how many pairs it saw; its model is left in work/model."""
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
    trainer.train()
    trainer.save_model(str(work / "model"))
    tokenizer.save_pretrained(str(work / "model"))
    return len(trainer.train_dataset)


def _texts(row: dict[str, Any]) -> list[str]:
    return ["".join(turn["content"] for turn in row["prompt"] + row[side]) for side in ("chosen", "rejected")]


def ours(model: str, work: Path, max_length: int, options: dict[str, Any]) -> int:
    """The reward stage at the same settings: how many pairs it saw; its model is in work/run."""
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
    values |= {
        "model.path": model,
        "data.train": [str(work.parent / "train.jsonl")],
        "data.validation_fraction": 0.0,
        "data.max_truncated": 1.0,
        "run.dir": str(work / "run"),
        "run.overwrite": True,
    }
    metrics = stage.run(load_config(stage.Config, "smollm2-135m/reward", side.overrides(values)))["metrics"]
    return metrics["rows"] - metrics["truncated"]


def one(arguments: argparse.Namespace) -> None:
    """Train one variant in this process and tell what was measured."""
    from steady import Clock

    kind, options = VARIANTS[arguments.one]
    work = arguments.work / arguments.one.replace(" ", "-").replace(",", "")
    work.mkdir(parents=True, exist_ok=True)
    clock = Clock(arguments.skip)
    seen = {"trl": peer, "ours": ours}[kind](arguments.model, work, arguments.max_length, options)
    found = {
        "options": {"per_device_train_batch_size": BATCH, **options},
        "pairs": seen,
        **clock.found(seen),
        **side.peak_memory(),
    }
    side.tell(found)
    from alignment.backend.scoring import load_scorer
    from reward.evaluation import measures, scored

    scorer = load_scorer(str(work / ("model" if kind == "trl" else "run")), max_length=arguments.max_length)
    rows = list(pairs_view(read_records([arguments.work / "test.jsonl"]), margin=True))
    side.tell({**found, "accuracy": measures(scored(scorer, rows))["accuracy"]})


def prepare(arguments: argparse.Namespace) -> dict[str, int]:
    """train.jsonl and test.jsonl in the work folder, by halves of the prompts."""
    records = pairs(arguments.data / "judge" / "alpaca_eval_gpt4_pairs.jsonl.gz")
    halves = [[r for r in records if half_of(r.prompt[0].content) == part] for part in (0, 1)]
    train, test = halves[0][: arguments.pairs], halves[1][: arguments.held_out]
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("test", test)):
        write_records(arguments.work / f"{name}.jsonl", part, overwrite=True)
    return {"train": len(train), "test": len(test)}


def summary(result: dict[str, Any]) -> None:
    """Ratios to TRL's defaults and to its best, in place."""
    done = {name: found for name, found in result["variants"].items() if "rows_per_second" in found}
    best = {
        kind: max((v["rows_per_second"] for n, v in done.items() if VARIANTS[n][0] == kind), default=None)
        for kind in ("trl", "ours")
    }
    result["best"] = best
    if best["trl"] and best["ours"]:
        result["times_the_best_peer"] = best["ours"] / best["trl"]
    if DEFAULT in done:
        for found in done.values():
            found["times_the_default"] = found["rows_per_second"] / done[DEFAULT]["rows_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=side.ROOT / "benchmarks" / "results" / "reward_speed.json"
    )
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--held-out", type=int, default=1000, help="pairs that measure accuracy")
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--skip", type=int, default=16, help="steps before the clock starts")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--seconds", type=float, default=240, help="that one side may take")
    parser.add_argument("--commit")
    parser.add_argument("--one", choices=list(VARIANTS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.model = side.model_folder(arguments.model)
    if arguments.one:
        one(arguments)
        return
    result: dict[str, Any] = {
        "model": Path(arguments.model).name,
        "max_length": arguments.max_length,
        "skip": arguments.skip,
        "rows": prepare(arguments),
        **side.origin(arguments.commit, ("torch", "transformers", "trl", "accelerate")),
        "variants": {},
    }
    for name in arguments.only:
        found = side.run(__file__, name, arguments.work, [*sys.argv[1:], "--one", name], arguments.seconds)
        result["variants"][name] = found
        summary(result)
        side.save(arguments.out, result)
        rate = found.get("rows_per_second")
        shown = f"{rate:7.1f} pairs/s" if rate else f"failed: {found.get('error', '')[-300:]}"
        accuracy = found.get("accuracy", {}).get("value", float("nan"))
        print(f"{name:40} {shown}  peak {found.get('peak_gib')} GiB  accuracy {accuracy:.3f}", flush=True)
    print(json.dumps({key: result.get(key) for key in ("best", "times_the_best_peer")}), flush=True)


if __name__ == "__main__":
    main()
