"""DPO beside TRL's DPOTrainer: pairs a second, peak memory, and the loss curves.

    python benchmarks/dpo_speed.py --model SMOLLM2_DIR --data DATA_DIR --work DIR --out dpo_speed.json

DATA_DIR holds judge/alpaca_eval_gpt4_pairs.jsonl.gz (not part of this project): long texts, 600 tokens on
average. Every side sees the same pairs in the same order once, the same number of them an optimiser step,
at the same learning rate, schedule and length limit, float32 weights under bfloat16 autocast, the reference
beside the policy; a process each. TRL is run with its defaults (micro-batches of 8, activations recomputed)
and without recomputing at larger micro-batches. The first steps, which compile and warm up, are told apart.
On a CPU: --model tiny --pairs 64 --batch 8 --micros 4 --peer-micros 4 --max-length 128 --skip 1
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import side
from smollm2_path import half_of, pairs

from alignment.data.files import read_records, write_records
from alignment.data.views import pairs_view

TRL, OURS = "TRL", "alignkit"
SMOOTH = 0.9  # of the running mean that curves are compared by
TRL_MICRO = 8  # DPOConfig's per_device_train_batch_size
LOGGED = 2  # steps whose mean loss is one point of a curve
Row = dict[str, Any]


def variants(arguments: argparse.Namespace) -> dict[str, Row]:
    """Name -> {"side", "micro", "options"}: of DPOConfig, or of our trainer section."""
    found: dict[str, Row] = {f"{TRL}, as it comes": {"side": "trl", "micro": TRL_MICRO, "options": {}}}
    plain = {"gradient_checkpointing": False}
    for micro in arguments.peer_micros:
        name = f"{TRL}, nothing recomputed, micro-batch {micro}"
        found[name] = {"side": "trl", "micro": micro, "options": plain}
    most = max(arguments.peer_micros)
    found[f"{TRL}, nothing recomputed, compiled"] = {
        "side": "trl",
        "micro": most,
        "options": {**plain, "torch_compile": True},
    }
    for micro in arguments.micros:
        found[f"{OURS}, micro-batch {micro}"] = {"side": "ours", "micro": micro, "options": {}}
        compiled = {"torch_compile": True}
        found[f"{OURS}, micro-batch {micro}, compiled"] = {
            "side": "ours",
            "micro": micro,
            "options": compiled,
        }
    return found


def same(arguments: argparse.Namespace, told: Row) -> Row:
    """Options of TRL's DPOConfig that are the same for all."""
    return {
        "num_train_epochs": 1,
        "learning_rate": arguments.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "beta": 0.1,
        "per_device_train_batch_size": told["micro"],
        "gradient_accumulation_steps": arguments.batch // told["micro"],
        "max_length": arguments.max_length,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "logging_steps": LOGGED,
        **told["options"],
    }


def peer(arguments: argparse.Namespace, told: Row, work: Path) -> list[float]:
    """TRL's DPOTrainer; its losses."""
    import torch
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [
        {key: row[key] for key in ("prompt", "chosen", "rejected")}
        for row in pairs_view(read_records([arguments.work / "train.jsonl"]))
    ]
    cpu = not torch.cuda.is_available()
    config = DPOConfig(
        output_dir=str(work / "trainer"),
        report_to="none",
        bf16=not cpu,
        use_cpu=cpu,
        disable_tqdm=True,
        **same(arguments, told),
    )
    trainer = DPOTrainer(model=arguments.model, args=config, train_dataset=Dataset.from_list(rows))
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def ours(arguments: argparse.Namespace, told: Row, work: Path) -> list[float]:
    """The DPO stage; its losses."""
    from alignment import dpo
    from alignment.backend.config import load_config

    trainer = {**same(arguments, told), "precompute_ref_log_probs": False, "eval_strategy": "no"}
    values = {f"trainer.{key}": value for key, value in trainer.items()} | {
        "model.path": arguments.model,
        "data.train": [str(arguments.work / "train.jsonl")],
        "data.validation_fraction": 0.0,
        "data.max_truncated": 1.0,
        "run.dir": str(work / "run"),
        "run.overwrite": True,
    }
    dpo.run(load_config(dpo.Config, "smollm2-135m/dpo", side.overrides(values)))
    lines = [json.loads(line) for line in (work / "run" / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def one(arguments: argparse.Namespace, told: Row) -> None:
    """Train one variant in this process and tell what was measured."""
    from steady import Clock

    work = arguments.work / arguments.one.replace(" ", "-").replace(",", "")
    work.mkdir(parents=True, exist_ok=True)
    clock = Clock(arguments.skip)
    losses = {"trl": peer, "ours": ours}[told["side"]](arguments, told, work)
    settings = {"micro-batch": told["micro"], **told["options"]}
    side.tell({"settings": settings, **clock.found(arguments.pairs), **side.peak_memory(), "losses": losses})


def prepare(arguments: argparse.Namespace) -> None:
    """train.jsonl: so many pairs of half of the prompts, in a random order that all sides keep."""
    records = pairs(arguments.data / "judge" / "alpaca_eval_gpt4_pairs.jsonl.gz")
    records = [record for record in records if half_of(record.prompt[0].content) == 0]
    random.Random(0).shuffle(records)
    if len(records) < arguments.pairs:
        raise SystemExit(f"there are {len(records)} pairs: --pairs asks for more")
    arguments.work.mkdir(parents=True, exist_ok=True)
    write_records(arguments.work / "train.jsonl", records[: arguments.pairs], overwrite=True)


def smoothed(losses: list[float]) -> list[float]:
    """The running mean of a curve, without the pull of its start."""
    value, weight, found = 0.0, 0.0, []
    for loss in losses:
        value, weight = SMOOTH * value + (1 - SMOOTH) * loss, SMOOTH * weight + (1 - SMOOTH)
        found.append(value / weight)
    return found


def summary(result: Row) -> None:
    """Ratios to TRL's defaults and to its best, and the curves' differences from TRL's defaults, in place."""
    done = {name: found for name, found in result["variants"].items() if "rows_per_second" in found}
    default = done.get(f"{TRL}, as it comes")
    best = {
        name: max((v["rows_per_second"] for n, v in done.items() if n.startswith(name)), default=None)
        for name in (TRL, OURS)
    }
    result["best"] = best
    if best[TRL] and best[OURS]:
        result["times_the_best_peer"] = best[OURS] / best[TRL]
    if default is None:
        return
    for found in done.values():
        found["times_the_default"] = found["rows_per_second"] / default["rows_per_second"]
        curves = zip(smoothed(found["losses"]), smoothed(default["losses"]), strict=True)
        found["curve_difference"] = max(abs(mine - theirs) for mine, theirs in curves)
    steps = [abs(later - earlier) for earlier, later in pairwise(default["losses"])]
    result["curve_moves"] = sum(steps) / len(steps)  # for scale: from one point to the next


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=side.ROOT / "benchmarks" / "results" / "dpo_speed.json")
    parser.add_argument("--pairs", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=32, help="pairs an optimiser step")
    parser.add_argument("--micros", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--peer-micros", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--learning-rate", type=float, default=5e-6)
    parser.add_argument("--skip", type=int, default=8, help="optimiser steps before the clock starts")
    parser.add_argument("--only", nargs="*", help="variants whose names begin so")
    parser.add_argument("--seconds", type=float, default=240, help="that one side may take")
    parser.add_argument("--commit")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.model = side.model_folder(arguments.model)
    plan = variants(arguments)
    if arguments.one:
        one(arguments, plan[arguments.one])
        return
    prepare(arguments)
    result: Row = {
        "model": Path(arguments.model).name,
        **{key: getattr(arguments, key) for key in ("pairs", "batch", "max_length", "learning_rate", "skip")},
        **side.origin(arguments.commit, ("torch", "transformers", "trl", "accelerate")),
        "variants": {},
    }
    for name in plan:
        if arguments.only and not any(name.startswith(begin) for begin in arguments.only):
            continue
        found = side.run(__file__, name, arguments.work, [*sys.argv[1:], "--one", name], arguments.seconds)
        result["variants"][name] = found
        summary(result)
        side.save(arguments.out, result)
        rate = found.get("rows_per_second")
        shown = f"{rate:7.1f} pairs/s" if rate else f"failed: {found.get('error', '')[-300:]}"
        curve = found.get("curve_difference")
        apart = "" if curve is None else f"  curve differs by {curve:.4f}"
        print(f"{name:45} {shown}  peak {found.get('peak_gib')} GiB{apart}", flush=True)
    told = {key: result.get(key) for key in ("best", "times_the_best_peer", "curve_moves")}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
