"""Does PPO learn as well as TRL 1.12's PPOTrainer: the reward at equal KL, on one reward model and prompts.

    python benchmarks/ppo_learns.py --model SMOLLM2_DIR --data DATA_DIR --trl112 WHEEL --work DIR

DATA_DIR holds sft/alpaca_5000.json, whose prompts are answered, and judge/alpaca_eval_gpt4_pairs.jsonl.gz, on
one half of whose prompts the reward model is trained (none is part of this project); `--reward DIR` takes a
trained one. WHEEL is trl-1.12.0's. Batches of 64, 53 new tokens, 2 epochs of one step each, the same learning
rate for actor and critic, KL coefficient, clips and constant schedule on both sides, no penalty for what does
not end; both are paid by one scorer; three seeds. All runs share the GPU, each in a process of its own
(`--at-once N`: N of them). A run's curve is what its own samples scored and how far they were from the first
policy; it is smoothed, and read at equal KLs. On a CPU: --model tiny --pairs 48 --max-length 512 --batch 8
--micro 4 --new-tokens 8 --updates 8 --seeds 2 --max-prompt-tokens 100 --at-once 2
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import peer
import side
from smollm2_path import half_of, instructions, pairs

OURS, TRL = "alignkit", "TRL 1.12"
# in the logs of either side: the scorer's number, and the KL of a sequence from the first policy
NAMES = {OURS: ("score", "kl"), TRL: ("objective/scores", "objective/kl")}
SMOOTH = 7  # updates that are averaged
Row = dict[str, Any]


def prepare(arguments: argparse.Namespace) -> None:
    """Prompts that are short enough, as records and as a list; pairs for the reward model."""
    from alignment.backend.models import load_tokenizer
    from alignment.data.files import write_records
    from alignment.data.records import Record

    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(arguments.model)
    records = [
        Record(prompt=record.prompt)
        for record in instructions(arguments.data / "sft" / "alpaca_5000.json")
        if len(side.rendered(tokenizer, record.prompt[0].content)) <= arguments.max_prompt_tokens
    ][: arguments.prompts]
    write_records(arguments.work / "prompts.jsonl", records, overwrite=True)
    texts = [record.prompt[0].content for record in records]
    (arguments.work / "prompts.json").write_text(json.dumps(texts))
    if arguments.reward is None:
        judged = pairs(arguments.data / "judge" / "alpaca_eval_gpt4_pairs.jsonl.gz")
        half = [record for record in judged if half_of(record.prompt[0].content) == 0]
        write_records(arguments.work / "pairs.jsonl", half[: arguments.pairs], overwrite=True)


def reward(arguments: argparse.Namespace) -> None:
    """The reward model, by the reward stage."""
    from alignment.backend.config import load_config
    from reward import stage

    values = {
        "model.path": arguments.model,
        "data.train": [str(arguments.work / "pairs.jsonl")],
        "data.max_truncated": 1.0,
        "trainer.max_length": arguments.max_length,
        "trainer.activation_checkpointing": False,
        "trainer.save_strategy": "no",
        "run.dir": str(arguments.work / "reward"),
        "run.overwrite": True,
    }
    found = stage.run(load_config(stage.Config, "smollm2-135m/reward", side.overrides(values)))
    side.tell({"accuracy": found["metrics"].get("accuracy")})


def ours(arguments: argparse.Namespace, seed: int, work: Path) -> None:
    """The PPO stage."""
    from alignment.backend.config import load_config
    from alignment.ppo import stage

    trainer = {
        "total_episodes": arguments.batch * arguments.updates,
        "per_device_train_batch_size": arguments.micro,
        "steps_per_generation": arguments.batch // arguments.micro,
        "gradient_accumulation_steps": arguments.batch // arguments.micro,
        "num_iterations": 2,
        "max_completion_length": arguments.new_tokens,
        "learning_rate": arguments.learning_rate,
        "critic_learning_rate": arguments.learning_rate,
        "critic_warmup_steps": 0,
        "lr_scheduler_type": "constant",
        "beta": arguments.beta,
        "missing_eos_penalty": 0.0,
        "rollout_engine": "graph",
        "activation_checkpointing": False,
        "save_strategy": "no",
    }
    if arguments.float32:
        trainer["bf16"] = False
    values = {f"trainer.{key}": value for key, value in trainer.items()} | {
        "model.path": arguments.model,
        "model.dtype": "float32",
        "data.train": [str(arguments.work / "prompts.jsonl")],
        "max_prompt_length": None,
        "reward.path": str(arguments.reward),
        "run.dir": str(work / "run"),
        "run.seed": seed,
        "run.overwrite": True,
    }
    settings = [*side.overrides(values), *arguments.set]
    stage.run(load_config(stage.Config, "smollm2-135m/ppo", settings))
    side.tell(side.peak_memory())


def theirs(arguments: argparse.Namespace, seed: int, work: Path) -> None:
    """TRL 1.12's PPOTrainer, whose logs go to the file that our runs have."""
    peer.use_trl112(arguments.trl112, work)
    from transformers import TrainerCallback

    from alignment.backend.scoring import load_scorer

    logs = work / "run" / "metrics.jsonl"
    logs.parent.mkdir(parents=True, exist_ok=True)
    logs.unlink(missing_ok=True)

    class Log(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **also: Any) -> None:
            with (work / "run" / "metrics.jsonl").open("a") as out:
                out.write(json.dumps({key: float(value) for key, value in logs.items()}) + "\n")

    options = {
        "output_dir": str(work / "trainer"),
        "seed": seed,
        "total_episodes": arguments.batch * arguments.updates,
        "per_device_train_batch_size": arguments.micro,
        "gradient_accumulation_steps": arguments.batch // arguments.micro,
        "num_ppo_epochs": 2,
        "response_length": arguments.new_tokens,
        "local_rollout_forward_batch_size": arguments.batch,
        "learning_rate": arguments.learning_rate,
        "lr_scheduler_type": "constant",
        "kl_coef": arguments.beta,
        "missing_eos_penalty": None,
    }
    if arguments.float32:
        options["bf16"] = False
    model = Path(arguments.reward) / "model"
    scorer = str(model if model.is_dir() else arguments.reward)
    prompts = json.loads((arguments.work / "prompts.json").read_text())
    trainer = peer.ppo_trainer(arguments.model, scorer, prompts, "float32", options, [Log()])
    peer.pay_by(trainer, load_scorer(str(arguments.reward)), prompts)
    trainer.train()
    side.tell(side.peak_memory())


def curve(work: Path, which: str) -> dict[str, list[float]]:
    """Score and KL of each update's samples, as far as the run has come."""
    path = work / "run" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    score, kl = NAMES[which]
    kept = [line for line in lines if score in line and kl in line]
    return {"score": [line[score] for line in kept], "kl": [line[kl] for line in kept]}


# ---- the comparison ----


def smooth(values: list[float], window: int) -> np.ndarray:
    """Means over `window` neighbours, (n - window + 1,)."""
    return np.convolve(values, np.ones(window) / window, mode="valid")


def compare(runs: dict[str, Row], updates: int) -> Row | None:
    """Both sides' scores at equal KLs; None until each has two runs of some length.

    Each run's curve is smoothed; the KLs are those that every run has been at, from the largest of the first
    ones to the least of the last. Intervals are Welch's over seeds.
    """
    window = min(SMOOTH, max(1, updates // 4))
    sides: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {OURS: [], TRL: []}
    for run in runs.values():
        if len(run["curve"]["kl"]) > 2 * window:
            kl, score = (smooth(run["curve"][key], window) for key in ("kl", "score"))
            sides[run["side"]].append((np.maximum.accumulate(kl), score))
    if min(len(found) for found in sides.values()) < 2:
        return None
    every = [found for many in sides.values() for found in many]
    grid = np.linspace(max(kl[0] for kl, _ in every), min(kl[-1] for kl, _ in every), 25)
    at = {
        name: np.array([np.interp(grid, kl, score) for kl, score in many]) for name, many in sides.items()
    }  # (seeds, KLs)
    shared = min(len(score) for _, score in every)
    over = {name: np.array([score[:shared] for _, score in many]) for name, many in sides.items()}
    return {
        "smoothed_over": window,
        "kl": grid.tolist(),
        "at_equal_kl": {name: values.tolist() for name, values in at.items()},
        "over_updates": {name: values.tolist() for name, values in over.items()},
        "difference": {
            "over the whole range": welch(at[OURS].mean(1), at[TRL].mean(1)),
            f"at KL {grid[len(grid) // 2]:.2f}": welch(*(at[n][:, len(grid) // 2] for n in (OURS, TRL))),
            f"at KL {grid[-1]:.2f}": welch(at[OURS][:, -1], at[TRL][:, -1]),
        },
    }


def welch(first: np.ndarray, second: np.ndarray) -> Row:
    """The difference of two means over seeds, and its 95% interval."""
    from scipy.stats import ttest_ind

    bounds = ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    value = float(first.mean() - second.mean())
    return {"value": value, "low": float(bounds.low), "high": float(bounds.high), "n": len(first)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--trl112", type=Path, help="the wheel of trl 1.12.0, or a folder it is unpacked in")
    parser.add_argument("--reward", type=Path, help="a reward run, instead of training one")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=side.ROOT / "benchmarks" / "results" / "ppo_learns.json")
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--max-length", type=int, default=1024, help="of the reward model's texts")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--max-prompt-tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=53)
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=8e-6)
    parser.add_argument("--beta", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--float32", action="store_true", help="no autocast to bfloat16, on both sides")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="for our runs")
    parser.add_argument("--at-once", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=420, help="that all runs together may take")
    parser.add_argument("--commit")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # side, seed
    arguments = parser.parse_args()
    arguments.model = side.model_folder(arguments.model)
    given_reward = arguments.reward
    arguments.reward = arguments.reward or arguments.work / "reward"
    if arguments.one:
        which, seed = arguments.one
        if which == "reward":
            reward(arguments)
        else:
            work = arguments.work / f"{which}-{seed}".replace(" ", "-")
            work.mkdir(parents=True, exist_ok=True)
            (ours if which == OURS else theirs)(arguments, int(seed), work)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    began = time.monotonic()
    arguments.reward = given_reward
    prepare(arguments)
    keys = ("batch", "new_tokens", "updates", "learning_rate", "beta", "float32", "set")
    result: Row = {
        "model": Path(arguments.model).name,
        "settings": {key: getattr(arguments, key) for key in keys},
        **side.origin(arguments.commit, ("torch", "transformers", "trl")),
        "runs": {},
    }
    if given_reward is None:
        result["reward"] = side.run(
            __file__, "reward", arguments.work, [*sys.argv[1:], "--one", "reward", "0"], arguments.seconds
        )
        print("reward model", json.dumps(result["reward"])[-500:], flush=True)
    plan = [(which, seed) for seed in range(arguments.seeds) for which in (OURS, TRL)]
    while plan:
        together, plan = plan[: arguments.at_once], plan[arguments.at_once :]
        started = {
            (which, seed): side.start(
                __file__,
                f"{which}-{seed}",
                arguments.work,
                [*sys.argv[1:], "--one", which, str(seed)],
            )
            for which, seed in together
        }
        for (which, seed), process in started.items():
            left = arguments.seconds - (time.monotonic() - began)
            name = f"{which}-{seed}"
            found = side.finish(process, name, arguments.work, left)
            found |= {"side": which, "seed": seed}
            found["curve"] = curve(arguments.work / name.replace(" ", "-"), which)
            result["runs"][name] = found
            result["seconds"] = round(time.monotonic() - began, 1)
            result["comparison"] = compare(result["runs"], arguments.updates)
            side.save(arguments.out, result)
            last = [f"{np.mean(found['curve'][key][-5:] or [np.nan]):.3f}" for key in ("score", "kl")]
            done = len(found["curve"]["kl"])
            trouble = found.get("error", "")[-200:]
            print(f"{name:14} {done} updates, last: score {last[0]}, KL {last[1]}  {trouble}", flush=True)
    shown = result["comparison"] and result["comparison"]["difference"]
    print(json.dumps(shown, indent=1), flush=True)


if __name__ == "__main__":
    main()
