"""The four stages on a real 135M model and real data: SFT -> reward -> DPO and PPO -> evaluation.

    python benchmarks/smollm2_path.py --model SMOLLM2_DIR --data DATA_DIR --work DIR --out smollm2_path.json

DATA_DIR holds sft/alpaca_5000.json, sft/rasbt_instruction.json, judge/alpaca_eval_gpt4_pairs.jsonl.gz,
prompts/self_instruct_user_oriented.jsonl and prompts/mt_bench_question.jsonl (none is part of this project).
The pairs are split by prompt into two halves: one trains the reward model and DPO, the other trains the
judge, a reward model of its own that no policy has seen; 15% of each half's prompts are held out. Each
stage is one `alignkit` command with configs/smollm2-135m, so that its peak memory is its own. `--limit N`
keeps N rows of everything, to try the script on a CPU.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

from alignment.data.files import write_records
from alignment.data.records import Completion, Judgment, Message, Record

ROOT = Path(__file__).resolve().parents[1]
# Run in each stage's process: the most GPU memory that its tensors took, written at the end.
PEAK = """
import atexit, torch
def peak():
    most = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    open({path!r}, "w").write(str(most))
atexit.register(peak)
from alignment.cli import main
main()
"""
PPO_PROMPTS = 1500  # taken from the Alpaca rows before SFT sees the rest


def user(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def half_of(prompt: str) -> int:
    """0 or 1, by a hash of the prompt: every pair of a prompt falls on one side."""
    return int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % 2


def instructions(path: Path) -> list[Record]:
    """Alpaca rows (instruction, input, output) as records with one demonstration."""
    records = []
    for row in json.loads(path.read_text()):
        prompt = row["instruction"] + ("\n\n" + row["input"] if row["input"] else "")
        if row["output"].strip():
            records.append(
                Record(
                    prompt=user(prompt), completions=[Completion(content=row["output"])], demonstrations=[0]
                )
            )
    return records


def pairs(path: Path) -> list[Record]:
    """AlpacaEval annotations: preference below 1.5 means that output_1 is better."""
    records = []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            ranks: list[int | None] = [1, 2] if row["preference"] < 1.5 else [2, 1]
            if row["preference"] == 1.5 or row["output_1"] == row["output_2"]:
                continue
            records.append(
                Record(
                    prompt=user(row["instruction"]),
                    completions=[Completion(content=row["output_1"]), Completion(content=row["output_2"])],
                    judgments=[Judgment(by="gpt-4", ranks=ranks)],
                )
            )
    return records


def prepare(data: Path, work: Path, limit: int | None) -> dict[str, int]:
    """Write the datasets; return their sizes in rows."""
    alpaca = instructions(data / "sft" / "alpaca_5000.json")
    judged = pairs(data / "judge" / "alpaca_eval_gpt4_pairs.jsonl.gz")
    asked = [
        json.loads(line)["instruction"]
        + ("\n\n" + inp if (inp := json.loads(line)["instances"][0]["input"]) else "")
        for line in (data / "prompts" / "self_instruct_user_oriented.jsonl").read_text().splitlines()
    ]
    asked += [
        json.loads(line)["turns"][0]
        for line in (data / "prompts" / "mt_bench_question.jsonl").read_text().splitlines()
    ]

    def text(record: Record) -> str:
        return record.prompt[0].content

    datasets = {
        "sft": alpaca[PPO_PROMPTS:] + instructions(data / "sft" / "rasbt_instruction.json"),
        "ppo_prompts": [Record(prompt=r.prompt) for r in alpaca[:PPO_PROMPTS]],
        "pairs": [r for r in judged if half_of(text(r)) == 0],
        "judge_pairs": [r for r in judged if half_of(text(r)) == 1],
        "eval_prompts": [Record(prompt=user(prompt)) for prompt in asked],
    }
    for name, records in datasets.items():
        write_records(work / f"{name}.jsonl", records[:limit], overwrite=True)
    return {name: len(records[:limit]) for name, records in datasets.items()}


def stage(
    work: Path, name: str, command: str, settings: dict[str, object], extra: list[str]
) -> dict[str, object]:
    """Run one alignkit command in its own process; return its seconds and what its run.json says."""
    started = time.monotonic()
    words = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    peak = work / f"{name}.peak"
    code = PEAK.format(path=str(peak))
    config = f"smollm2-135m/{command}.yaml"
    run = f"run.dir={json.dumps(str(work / name))}"
    subprocess.run([sys.executable, "-c", code, command, config, run, *words, *extra], check=True, cwd=ROOT)
    state = json.loads((work / name / "run.json").read_text())
    return {
        "wall_seconds": round(time.monotonic() - started, 1),
        **{k: state[k] for k in ("seconds", "metrics")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("model", "data", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("set", nargs="*", help="key=value for every stage, to try the script at toy size")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    rows = prepare(args.data, args.work, args.limit)
    print(rows, flush=True)

    def files(name: str) -> list[str]:
        return [str(args.work / f"{name}.jsonl")]

    sft, reward, judge = (str(args.work / name) for name in ("sft", "reward", "judge"))
    base = str(args.model)
    held_out = {"data.validation_fraction": 0.15}  # of the prompts; a pair's prompt is on one side only
    stages: dict[str, dict[str, object]] = {}
    plan: list[tuple[str, str, dict[str, object]]] = [
        ("sft", "sft", {"model.path": base, "data.train": files("sft")}),
        ("reward", "reward", {"model.path": sft, "data.train": files("pairs"), **held_out}),
        ("judge", "reward", {"model.path": base, "data.train": files("judge_pairs"), **held_out}),
        ("dpo", "dpo", {"model.path": sft, "data.train": files("pairs")}),
        ("ppo", "ppo", {"model.path": sft, "reward.path": reward, "data.train": files("ppo_prompts")}),
    ]
    for name, command, settings in plan:
        print(f"== {name}", flush=True)
        stages[name] = stage(args.work, name, command, settings, args.set)
        args.out.write_text(json.dumps({"rows": rows, "stages": stages}, indent=1))
    print("== evaluate", flush=True)
    models = {"base": base, "sft": sft, "dpo": str(args.work / "dpo"), "ppo": str(args.work / "ppo")}
    settings = {
        "models": models,
        "prompts": files("eval_prompts"),
        "judge": {"kind": "reward", "path": judge},
        "comparisons": [["sft", "base"], ["dpo", "sft"], ["ppo", "sft"], ["ppo", "dpo"]],
        "reward_run": reward,
    }
    stages["evaluate"] = stage(args.work, "evaluate", "evaluate", settings, [])
    report = json.loads((args.work / "evaluate" / "report.json").read_text())
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
    run = json.loads((args.work / "ppo" / "run.json").read_text())
    result = {
        "device": device,
        "rows": rows,
        "versions": run["versions"],
        "git": run["git"],
        "stages": stages,
        "report": report,
    }
    args.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(report["win_rate"], indent=1))


if __name__ == "__main__":
    main()
