"""The memory estimate beside the measured peak, on one GPU: `python benchmarks/memory.py OUT.json`.

Models are random, of the shapes named below; every row has the same length. The peak is that of PyTorch's
allocator over three optimiser steps.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "135M": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "1B": {
        "hidden_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    },
}
# of a shape and lengths that the estimate was not fitted to
UNSEEN = {
    "hidden_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "intermediate_size": 3072,
    "vocab_size": 64000,
    "tie_word_embeddings": False,
}
STAGES = {
    "sft": "alignment.sft",
    "dpo": "alignment.dpo",
    "reward": "reward.stage",
    "ppo": "alignment.ppo.stage",
}


def make_model(folder: Path, shape: dict[str, Any]) -> str:
    """A random Llama of that shape with the tests' tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from toy import make_toy_model

    make_toy_model(folder)
    config = LlamaConfig(
        max_position_embeddings=4096, pad_token_id=0, bos_token_id=None, eos_token_id=2, **shape
    )
    with torch.device("cuda"):
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


def measure(case: dict[str, Any], model: str, folder: Path) -> dict[str, Any]:
    """One case: the measured peak in bytes of three optimiser steps, and what is needed to estimate it."""
    import torch

    from alignment.backend.config import load_config, trainer_args
    from alignment.backend.memory import check_memory

    stage = importlib.import_module(STAGES[case["stage"]])
    text = {
        "stage": case["stage"],
        "model": {"path": model, **({"lora": {"r": 16}} if case["lora"] else {})},
        "data": {"train": [make_data(folder / "data.jsonl", case["length"])]},
        "trainer": {
            "per_device_train_batch_size": case["rows"],
            "gradient_accumulation_steps": case["accumulation"],
            "max_steps": 3,
            "save_strategy": "no",
            "logging_steps": 1,
            "activation_checkpointing": case["checkpointing"],
        },
        "run": {"dir": str(folder / "run"), "overwrite": True},
    }
    if case["stage"] == "ppo":
        text["trainer"] |= {"max_completion_length": case["length"] // 2, "critic_warmup_steps": 0}
        text["reward"] = {"path": make_scorer(model, folder / "scorer")}
    else:
        text["trainer"]["max_length"] = 4096
    (folder / "case.yaml").write_text(json.dumps(text))
    config = load_config(stage.Config, folder / "case.yaml")
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    result = stage.run(config)
    peak = torch.cuda.max_memory_allocated()
    longest = result["metrics"]["longest"] + text["trainer"].get("max_completion_length", 0)
    estimate = check_memory(config, trainer_args(config, folder), case["stage"], longest)
    return {
        **case,
        "longest": longest,
        "peak": peak,
        "estimate": estimate.total,
        "ratio": estimate.total / peak,
    }


def main(out: Path) -> None:
    import torch

    keys = ("shape", "stage", "lora", "checkpointing", "rows", "length", "accumulation")
    cases = [
        (shape, stage, lora, checkpointing, 8 if stage == "sft" else 4, 512, 1)
        for shape in SHAPES
        for stage in STAGES
        for lora in (False, True)
        for checkpointing in (False, True)
    ]
    cases += [("135M", stage, False, False, 2, 512, 2) for stage in STAGES]
    cases += [("135M", stage, False, False, 4, 2048, 1) for stage in STAGES]
    for stage in STAGES:
        cases += [("unseen", stage, False, False, 3, 1200, 1), ("unseen", stage, True, True, 3, 1200, 1)]
    done = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        models = {
            name: make_model(folder / name, shape) for name, shape in {**SHAPES, "unseen": UNSEEN}.items()
        }
        for values in sorted(cases, key=lambda case: case[1] == "ppo"):
            case = dict(zip(keys, values, strict=True))
            done.append(measure(case, models[case["shape"]], folder))
            print(json.dumps(done[-1]), flush=True)
            run = json.loads((folder / "run" / "run.json").read_text())
            origin = {"device": torch.cuda.get_device_name(), "versions": run["versions"], "git": run["git"]}
            out.write_text(json.dumps({**origin, "cases": done}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
