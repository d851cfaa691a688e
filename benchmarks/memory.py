"""The memory estimate beside the measured peak, on one GPU.

    python benchmarks/memory.py --work DIR --out memory.json

Models are random, of the shapes named below; every row has the same length. The peak is that of PyTorch's
allocator over some optimiser steps. Two shapes, their lengths and their batches are held out: the estimate
was not fitted to them. `--cases held-out fitted` measures those that it was fitted to as well. Several
processes work off the cases, each measuring its own; one that finds too little memory left waits for the
others. `--workers 1 --toy` tries the script on a CPU, where nothing is measured.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import side

Row = dict[str, Any]
NAMES = "hidden_size num_hidden_layers num_attention_heads num_key_value_heads intermediate_size vocab_size"
SHAPES: dict[str, tuple[int, ...]] = {
    "135M": (576, 30, 9, 3, 1536, 49152),
    "1B": (2048, 12, 32, 8, 8192, 32000),
    "240M": (1024, 8, 16, 16, 3072, 64000),  # held out, as is the next
    "630M": (1536, 20, 12, 4, 4608, 50000),
    "toy": (32, 2, 4, 2, 64, 300),
}
TIED = ("135M", "630M", "toy")  # the embedding is the LM head
STAGES = {
    "sft": "alignment.sft",
    "dpo": "alignment.dpo",
    "reward": "reward.stage",
    "ppo": "alignment.ppo.stage",
    "ppo, graph": "alignment.ppo.stage",  # whose engine keeps a cache, and a copy of float32 weights
    "kto": "alignment.kto",
    "rloo": "alignment.rloo",
    "grpo": "alignment.grpo",
}
ONLINE = ("ppo", "ppo, graph", "rloo", "grpo")
KEYS = ("shape", "stage", "lora", "checkpointing", "rows", "length", "accumulation")


def held_out(stages: list[str]) -> list[Row]:
    """Cases of shapes, lengths and batches that nothing was fitted to."""
    found = []
    for stage in stages:
        for shape, rows, length in (("240M", 6, 1200), ("630M", 4, 900)):
            for lora, checkpointing in ((False, False), (True, False), (False, True), (True, True)):
                if checkpointing and shape == "240M" and stage in ONLINE:
                    continue  # sampling takes long: these are measured without
                found.append((shape, stage, lora, checkpointing, rows, length, 1))
        found.append(("240M", stage, False, False, 4, 700, 2))
    return [dict(zip(KEYS, values, strict=True)) for values in found]


def fitted(stages: list[str]) -> list[Row]:
    """Cases that the estimate's terms were fitted to."""
    found = [
        (shape, stage, lora, checkpointing, 8 if stage == "sft" else 4, 512, 1)
        for shape in ("135M", "1B")
        for stage in stages
        for lora in (False, True)
        for checkpointing in (False, True)
    ]
    found += [("135M", stage, False, False, 2, 512, 2) for stage in stages]
    found += [("135M", stage, False, False, 4, 2048, 1) for stage in stages]
    return [dict(zip(KEYS, values, strict=True)) for values in found]


def toy(stages: list[str]) -> list[Row]:
    found = [("toy", stage, lora, False, 2, 64, 1) for stage in stages for lora in (False, True)]
    return [dict(zip(KEYS, values, strict=True)) for values in found]


def make_model(folder: Path, name: str) -> str:
    """A random Llama of that shape with the tests' tokenizer, made once."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sys.path.insert(0, str(side.ROOT / "tests"))
    from toy import make_toy_model

    make_toy_model(folder)
    shape = dict(zip(NAMES.split(), SHAPES[name], strict=True))
    config = LlamaConfig(
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
        tie_word_embeddings=name in TIED,
        **shape,
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return str(folder)


def make_scorer(model: str, folder: Path) -> str:
    """A reward model of the same shape with a random head."""
    from alignment.backend.config import ModelSection
    from alignment.backend.models import load_reward_model, load_tokenizer

    load_reward_model(ModelSection(path=model, dtype="bfloat16")).save_pretrained(folder)
    load_tokenizer(model).save_pretrained(folder)
    return str(folder)


def make_data(path: Path, length: int) -> str:
    """Judged records whose conversations have about `length` tokens (the prompt takes half)."""
    from alignment.data.files import write_records
    from alignment.data.records import Completion, Judgment, Message, Record

    text = "the cat sat on a mat . " * (length // 16)
    records = [
        Record(
            prompt=[Message("user", text)],
            id=str(row),
            completions=[Completion(content=text + "the cat"), Completion(content=text + "the dog")],
            judgments=[Judgment(ranks=[1, 2])],
        )
        for row in range(160)
    ]
    write_records(path, records, overwrite=True)
    return str(path)


def measure(case: Row, models: Path, folder: Path) -> Row:
    """One case: the measured peak in bytes, and the estimate of it; None each without a GPU."""
    import torch

    from alignment.backend.config import load_config, trainer_args
    from alignment.backend.memory import check_memory

    stage, online = importlib.import_module(STAGES[case["stage"]]), case["stage"] in ONLINE
    kind, _, engine = case["stage"].partition(", ")
    model = str(models / case["shape"])
    trainer = {
        "per_device_train_batch_size": case["rows"],
        "gradient_accumulation_steps": case["accumulation"],
        "max_steps": 3,
        "save_strategy": "no",
        "logging_steps": 1,
        "activation_checkpointing": case["checkpointing"],
    }
    text: Row = {
        "stage": kind,
        "model": {"path": model, **({"lora": {"r": 16}} if case["lora"] else {})},
        "data": {"train": [make_data(folder / "data.jsonl", case["length"])]},
        "trainer": trainer,
        "run": {"dir": str(folder / "run"), "overwrite": True},
    }
    if online:  # one rollout, two steps on it; the first steps of a run have no optimiser state yet
        made = case["length"] // 4
        trainer |= {"max_steps": 2, "num_iterations": 2, "max_completion_length": made}
        trainer |= {"critic_warmup_steps": 0} if kind == "ppo" else {"num_generations": 2}
        trainer |= {"rollout_engine": engine} if engine else {}
        text["reward"] = {"path": str(models / f"{case['shape']}-scorer")}
    else:
        trainer["max_length"] = 4096
    text |= {"labels": "pairs"} if kind == "kto" else {}
    (folder / "case.yaml").write_text(json.dumps(text))
    config = load_config(stage.Config, folder / "case.yaml")
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    left = torch.cuda.memory_allocated() if gpu else 0  # of the case before: nothing, it should be
    result = stage.run(config)
    longest = result["metrics"]["longest"] + trainer.get("max_completion_length", 0)
    found = {**case, "longest": longest, "left": left, "peak": None, "estimate": None}
    if gpu:
        found["peak"] = torch.cuda.max_memory_allocated()
        estimate: Any = check_memory(config, trainer_args(config, folder), kind, longest)
        found |= {"estimate": estimate.total, "ratio": estimate.total / found["peak"]}
    return found


def patient(case: Row, models: Path, folder: Path, seconds: float) -> Row:
    """`measure`, again and again while other processes leave it too little memory."""
    import torch

    from alignment.errors import UserError

    end = time.monotonic() + seconds
    while True:
        try:
            return measure(case, models, folder)
        except (UserError, torch.OutOfMemoryError) as error:
            told = str(error)
            tight = isinstance(error, torch.OutOfMemoryError) or "too small" in told
        gc.collect()
        torch.cuda.empty_cache()
        if not tight or time.monotonic() > end:
            return {**case, "error": told[:300]}
        time.sleep(3)


def work_off(arguments: argparse.Namespace, cases: list[Row]) -> None:
    """A worker: its cases, one after the other."""
    import torch

    folder = arguments.work / f"worker-{arguments.worker}"
    folder.mkdir(parents=True, exist_ok=True)
    done: list[Row] = []
    for case in cases:
        done.append(patient(case, arguments.work / "models", folder, 90))
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        side.tell({"cases": done})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=side.ROOT / "benchmarks" / "results" / "memory.json")
    parser.add_argument("--cases", nargs="+", choices=("held-out", "fitted"), default=["held-out"])
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--workers", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=400, help="that all may take")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--commit")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    kinds = {"held-out": held_out, "fitted": fitted, "toy": toy}
    cases = [
        {"set": name, **case}
        for name in (["toy"] if arguments.toy else arguments.cases)
        for case in kinds[name](arguments.stages)
    ]
    # large ones apart: neighbours in the list go to different workers
    cases.sort(key=lambda case: (SHAPES[case["shape"]][0], case["stage"] in ONLINE, case["lora"]))
    if arguments.worker is not None:
        work_off(arguments, cases[arguments.worker :: arguments.workers])
        return
    models, began = arguments.work / "models", time.monotonic()
    for shape in sorted({case["shape"] for case in cases}):
        model = make_model(models / shape, shape)
        if any(case["stage"] in ONLINE and case["shape"] == shape for case in cases):
            make_scorer(model, models / f"{shape}-scorer")
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    result: Row = {**side.origin(arguments.commit, ("torch", "transformers", "trl", "peft")), "cases": []}
    workers = range(arguments.workers)
    started = [
        side.start(__file__, f"worker {k}", arguments.work, [*sys.argv[1:], "--worker", str(k)])
        for k in workers
    ]
    for k in workers:
        left = arguments.seconds - (time.monotonic() - began)
        found = side.finish(started[k], f"worker {k}", arguments.work, left)
        result["cases"] += found.get("cases", [])
        if "error" in found:
            print(f"worker {k}: {found['error'][-300:]}", flush=True)
        side.save(arguments.out, result)
    for case in result["cases"]:
        values = [str(case[key]) for key in ("set", *KEYS)]
        ratio = f"{case['ratio']:.3f}" if case.get("ratio") else case.get("error", "not measured")
        print(" ".join(f"{value:9}" for value in values), ratio, flush=True)
    ratios = [case["ratio"] for case in result["cases"] if case.get("ratio")]
    if ratios:
        print(f"{len(ratios)} of {len(cases)} cases: {min(ratios):.3f} to {max(ratios):.3f}", flush=True)


if __name__ == "__main__":
    main()
