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
from typing import Any

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
            outputs = row["output_1"].strip(), row["output_2"].strip()
            if row["preference"] == 1.5 or outputs[0] == outputs[1]:
                continue
            records.append(
                Record(
                    prompt=user(row["instruction"]),
                    completions=[Completion(content=text) for text in outputs],
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


def start(work: Path, name: str, command: str, settings: list[str]) -> subprocess.Popen[bytes]:
    """Start one alignkit command in a process of its own."""
    code = PEAK.format(path=str(work / f"{name}.peak"))
    words = [command, f"smollm2-135m/{command}.yaml", f"run.dir={json.dumps(str(work / name))}", *settings]
    print(f"== {name}: alignkit {' '.join(words)}", flush=True)
    return subprocess.Popen([sys.executable, "-c", code, *words], cwd=ROOT)


def outcome(work: Path, name: str) -> dict[str, object]:
    """What a finished stage's run.json says, and its peak memory."""
    state = json.loads((work / name / "run.json").read_text())
    return {
        "seconds": state["seconds"],
        "peak_memory_gib": round(int((work / f"{name}.peak").read_text()) / 2**30, 2),
        "metrics": state["metrics"] if state["stage"] != "evaluate" else {},
        "config": (work / name / "config.yaml").read_text(),
        "versions": state["versions"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("model", "data", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--commit", help="of the code, where it does not run from a checkout")
    parser.add_argument("set", nargs="*", help="stage.key=value, e.g. ppo.trainer.total_episodes=4096")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    rows = prepare(args.data, args.work, args.limit)
    print(rows, flush=True)
    base = str(args.model.resolve())
    sft, reward, judge = (str(args.work / name) for name in ("sft", "reward", "judge"))

    def setting(key: str, value: object) -> str:
        return f"{key}={json.dumps(value)}"

    def files(key: str, name: str) -> str:
        return setting(key, [str(args.work / f"{name}.jsonl")])

    held_out = setting("data.validation_fraction", 0.15)  # of the prompts; each prompt is on one side only
    models = {"base": base, "sft": sft, "dpo": str(args.work / "dpo"), "ppo": str(args.work / "ppo")}
    ppo = [setting("model.path", sft), setting("reward.path", reward), files("data.train", "ppo_prompts")]
    evaluate = [
        setting("models", models),
        files("prompts", "eval_prompts"),
        setting("judge", {"kind": "reward", "path": judge}),
        setting("comparisons", [["sft", "base"], ["dpo", "sft"], ["ppo", "sft"], ["ppo", "dpo"]]),
        setting("reward_run", reward),
    ]
    # Stages of one line need nothing of each other and run side by side, each in its own process.
    plan: list[dict[str, tuple[str, list[str]]]] = [
        {
            "sft": ("sft", [setting("model.path", base), files("data.train", "sft")]),
            "judge": ("reward", [setting("model.path", base), files("data.train", "judge_pairs"), held_out]),
        },
        {
            "reward": ("reward", [setting("model.path", sft), files("data.train", "pairs"), held_out]),
            "dpo": ("dpo", [setting("model.path", sft), files("data.train", "pairs")]),
        },
        {"ppo": ("ppo", ppo)},
        {"evaluate": ("evaluate", evaluate)},
    ]
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
    result: dict[str, Any] = {
        "device": device,
        "commit": args.commit,
        "set": args.set,
        "rows": rows,
        "stages": {},
    }
    for together in plan:
        running = {}
        for name, (command, settings) in together.items():
            more = [word.removeprefix(f"{name}.") for word in args.set if word.startswith(f"{name}.")]
            running[name] = start(args.work, name, command, settings + more)
        for name, process in running.items():
            if process.wait() != 0:
                raise SystemExit(f"{name} failed")
            result["stages"][name] = outcome(args.work, name)
            result["seconds"] = round(time.monotonic() - began, 1)
            args.out.write_text(json.dumps(result, indent=1))
    result["report"] = json.loads((args.work / "evaluate" / "report.json").read_text())
    args.out.write_text(json.dumps(result, indent=1))
    print(json.dumps(result["report"]["win_rate"], indent=1))


if __name__ == "__main__":
    main()
