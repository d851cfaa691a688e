"""Over-optimisation: PPO against a proxy reward of few, noisy pairs, and against an ensemble of such proxies.

    python benchmarks/overoptimisation.py --model SMOLLM2_DIR --data DATA_DIR --work DIR

DATA_DIR holds judge/alpaca_eval_gpt4_pairs.jsonl.gz and sft/alpaca_5000.json (not part of this project). Of
the judged pairs a few, part of them turned round, train for every seed a proxy and an ensemble of proxies
(each on a bootstrap sample, combined by their worst case); the rest, other prompts, trains the gold reward.
PPO is paid by the proxy or by the ensemble; the gold reward is a second one of weight 0, so that every
rollout is scored by it too. Rewards are told in standard deviations over the first policy's samples, from
their mean. All runs share the GPU, each in a process of its own. On a CPU: --model tiny --few 24 --gold-pairs
48 --held-out 16 --max-length 512 --batch 8 --micro 8 --new-tokens 8 --updates 8 --seeds 2 --members 2
--max-prompt-tokens 100 --scale-on 16 --at-once 2
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import side
from msgspec.structs import replace
from ppo_learns import smooth, welch
from smollm2_path import half_of, instructions, pairs

SINGLE, ENSEMBLE = "single", "ensemble"
KINDS = (SINGLE, ENSEMBLE)
WANTED = {"proxy": "rewards/proxy", "gold": "rewards/gold", "kl": "kl"}
ALSO = {
    "repetition": "repetition",
    "length": "completions/mean_length",
    "disagreement": "reward_disagreement",
}
SMOOTH = 7  # rollouts that are averaged
Row = dict[str, Any]


def prepare(arguments: argparse.Namespace) -> Row:
    """The files of pairs and prompts; their sizes."""
    from alignment.backend.models import load_tokenizer
    from alignment.data.files import write_records
    from alignment.data.records import Record

    arguments.work.mkdir(parents=True, exist_ok=True)
    judged = pairs(arguments.data / "judge" / "alpaca_eval_gpt4_pairs.jsonl.gz")
    dice = random.Random(0)
    dice.shuffle(judged)
    halves: list[list[Record]] = [
        [record for record in judged if half_of(record.prompt[0].content) == half] for half in (0, 1)
    ]
    few = [turned(record) if dice.random() < arguments.noise else record for record in halves[0]]
    tokenizer = load_tokenizer(arguments.model)
    asked = [
        Record(prompt=record.prompt)
        for record in instructions(arguments.data / "sft" / "alpaca_5000.json")
        if len(side.rendered(tokenizer, record.prompt[0].content)) <= arguments.max_prompt_tokens
    ]
    files = {
        "proxy": few[: arguments.few],
        "gold": halves[1][: arguments.gold_pairs],
        # clean pairs of the proxy's half that it is not trained on: other prompts than gold's
        "held_out": apart(halves[0], few[: arguments.few])[: arguments.held_out],
        "prompts": asked[: arguments.prompts],
    }
    for name, records in files.items():
        write_records(arguments.work / f"{name}.jsonl", records, overwrite=True)
    return {name: len(records) for name, records in files.items()}


def turned(record: Any) -> Any:
    """The record with its first judgment the other way round."""
    judgment = record.judgments[0]
    return replace(record, judgments=[replace(judgment, ranks=judgment.ranks[::-1])])


def apart(records: list[Any], trained: list[Any]) -> list[Any]:
    """Those records whose prompts none of `trained` has."""
    seen = {record.prompt[0].content for record in trained}
    return [record for record in records if record.prompt[0].content not in seen]


def train_reward(arguments: argparse.Namespace, name: str) -> None:
    """The gold reward, or a seed's proxy or ensemble, by the reward stage."""
    from alignment.backend.config import load_config
    from reward import stage

    kind, _, seed = name.partition("-")
    values: Row = {
        "model.path": arguments.model,
        "data.train": [str(arguments.work / ("gold.jsonl" if kind == "gold" else "proxy.jsonl"))],
        "data.validation": [str(arguments.work / "held_out.jsonl")],
        "data.validation_fraction": 0.0,
        "data.max_truncated": 1.0,
        "trainer.max_length": arguments.max_length,
        "trainer.activation_checkpointing": False,
        "trainer.save_strategy": "no",
        "run.dir": str(arguments.work / name),
        "run.seed": int(seed or 0),
        "run.overwrite": True,
    }
    if kind != "gold":
        values |= {
            "trainer.per_device_train_batch_size": 8,
            "trainer.gradient_accumulation_steps": 1,
            "trainer.num_train_epochs": arguments.proxy_epochs,
            "trainer.learning_rate": 2e-5,
        }
    if kind == ENSEMBLE:
        values |= {"ensemble": {"members": arguments.members, "kind": "runs"}, "resample": True}
    found = stage.run(load_config(stage.Config, "smollm2-135m/reward", side.overrides(values)))
    side.tell({"accuracy": found["metrics"].get("accuracy")})


def scale(arguments: argparse.Namespace) -> None:
    """Mean and standard deviation of every reward over samples of the first policy."""
    from alignment.backend.config import ModelSection
    from alignment.backend.generation import GenerationSection, generate
    from alignment.backend.models import load_policy, load_tokenizer
    from alignment.backend.scoring import load_scorer
    from alignment.data.files import read_records

    records = list(read_records([arguments.work / "prompts.jsonl"]))[: arguments.scale_on]
    prompts = [[{"role": "user", "content": record.prompt[0].content}] for record in records]
    tokenizer = load_tokenizer(arguments.model)
    policy = load_policy(ModelSection(path=arguments.model))
    settings = GenerationSection(max_new_tokens=arguments.new_tokens, engine="graph", token_budget=65_536)
    made = [found[0] for found in generate(policy, tokenizer, prompts, settings)]
    texts, finished = [one.text for one in made], [one.finished for one in made]
    found: Row = {}
    for name in ["gold", *(f"{kind}-{seed}" for kind in KINDS for seed in range(arguments.seeds))]:
        combine = "worst" if name.startswith(ENSEMBLE) else "mean"
        scores = load_scorer(str(arguments.work / name), combine=combine).score(prompts, texts, finished)
        found[name] = {"mean": float(np.mean(scores)), "sd": float(np.std(scores))}
    side.tell(found)


def train_policy(arguments: argparse.Namespace, kind: str, seed: int) -> None:
    """The PPO stage, paid by this seed's proxy or ensemble, with gold looking on."""
    from alignment.backend.config import load_config
    from alignment.ppo import stage

    trainer = {
        "total_episodes": arguments.batch * arguments.updates,
        "per_device_train_batch_size": arguments.micro,
        "steps_per_generation": arguments.batch // arguments.micro,
        "gradient_accumulation_steps": arguments.batch // arguments.micro,
        "num_iterations": arguments.epochs,
        "max_completion_length": arguments.new_tokens,
        "learning_rate": arguments.learning_rate,
        "critic_learning_rate": arguments.learning_rate,
        "critic_warmup_steps": 0,
        "lr_scheduler_type": "constant",
        "beta": arguments.beta,
        "missing_eos_penalty": 0.0,
        "scale_rewards": True,
        "rollout_engine": "graph",
        "activation_checkpointing": False,
        "save_strategy": "no",
    }
    gold = {"path": str(arguments.work / "gold"), "name": "gold", "weight": 0.0}
    paid = {"path": str(arguments.work / f"{kind}-{seed}"), "name": "proxy"}
    values = {f"trainer.{key}": value for key, value in trainer.items()} | {
        "model.path": arguments.model,
        "model.dtype": "float32",
        "data.train": [str(arguments.work / "prompts.jsonl")],
        "max_prompt_length": None,
        "reward": {**paid, "combine": "worst"} if kind == ENSEMBLE else paid,
        "more_rewards": [gold],
        "run.dir": str(arguments.work / f"ppo-{kind}-{seed}"),
        "run.seed": seed,
        "run.overwrite": True,
    }
    settings = [*side.overrides(values), *arguments.set]
    found = stage.run(load_config(stage.Config, "smollm2-135m/ppo", settings))
    side.tell({"warnings": found["metrics"].get("warnings", []), **side.peak_memory()})


def curve(arguments: argparse.Namespace, kind: str, seed: int, levels: Row) -> dict[str, list[float]]:
    """What each rollout's samples scored, in the first policy's standard deviations, and their KL."""
    path = arguments.work / f"ppo-{kind}-{seed}" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    kept = [line for line in lines if all(name in line for name in WANTED.values())]
    found = {key: [line[name] for line in kept] for key, name in WANTED.items()}
    for key, name in (("proxy", f"{kind}-{seed}"), ("gold", "gold")):
        level = levels.get(name, {"mean": 0.0, "sd": 1.0})
        found[key] = [(value - level["mean"]) / level["sd"] for value in found[key]]
    return found | {key: [line[name] for line in kept if name in line] for key, name in ALSO.items()}


# ---- the comparison ----


def compare(runs: dict[str, Row]) -> Row | None:
    """Both rewards over √KL for each kind, and what the gold reward lost; None until each has two runs.

    A run's curve is smoothed; a kind's are read at the √KLs where all its seeds have been, and both kinds'
    gold at the largest that all runs have reached. Intervals are Student's and Welch's over seeds.
    """
    shapes: dict[str, list[dict[str, np.ndarray]]] = {kind: [] for kind in KINDS}
    for run in runs.values():
        window = min(SMOOTH, max(1, len(run["curve"]["kl"]) // 4))
        if len(run["curve"]["kl"]) > 2 * window:
            kept = {key: smooth(run["curve"][key], window) for key in WANTED}
            kept["root"] = np.sqrt(np.maximum.accumulate(np.maximum(kept["kl"], 0.0)))
            shapes[run["kind"]].append(kept)
    if min(len(found) for found in shapes.values()) < 2:
        return None
    found: Row = {"curves": {}, "fits": {}, "ends": {}}
    for kind, many in shapes.items():
        grid = np.linspace(max(one["root"][0] for one in many), min(one["root"][-1] for one in many), 25)
        at = {
            key: [np.interp(grid, one["root"], one[key]).tolist() for one in many]
            for key in ("proxy", "gold")
        }
        found["curves"][kind] = {"root_kl": grid.tolist(), **at}
        found["fits"][kind] = {key: fit(many, key) for key in ("proxy", "gold")}
        found["ends"][kind] = ends(many)
    reach = min(one["root"][-1] for many in shapes.values() for one in many)
    last = {
        kind: np.array([np.interp(reach, one["root"], one["gold"]) for one in many])
        for kind, many in shapes.items()
    }
    end = {kind: np.array([one["gold"][-1] for one in many]) for kind, many in shapes.items()}
    found["gold, ensemble less single"] = {
        f"at √KL {reach:.2f}, which all runs reached": welch(last[ENSEMBLE], last[SINGLE]),
        "at the end": welch(end[ENSEMBLE], end[SINGLE]),
    }
    return found


def ends(many: list[dict[str, np.ndarray]]) -> Row:
    """How both rewards moved from the middle third of training to the last, over seeds: mean and interval."""
    from scipy.stats import t

    found = {}
    for key in ("proxy", "gold"):
        third = [len(one[key]) // 3 for one in many]
        moved = np.array(
            [one[key][-n:].mean() - one[key][n : 2 * n].mean() for one, n in zip(many, third, strict=True)]
        )
        reach = t.ppf(0.975, len(moved) - 1) * moved.std(ddof=1) / np.sqrt(len(moved))
        value = float(moved.mean())
        found[key] = {"value": value, "low": value - reach, "high": value + reach, "n": len(moved)}
    return found


def fit(many: list[dict[str, np.ndarray]], key: str) -> Row:
    """Gao's curve through the points of all seeds: R(d) = d (alpha - beta log d), d = √KL."""
    from alignment.stats.reward_kl import fit_gao

    root, gained = (np.concatenate([one[name] for one in many]) for name in ("root", key))
    if len(np.unique(root[root > 0])) < 2:
        return {}
    alpha, beta = fit_gao(root, gained, "rl")
    peak = float(np.exp(alpha / beta - 1)) if beta > 0 else None
    return {"alpha": float(alpha), "beta": float(beta), "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=side.ROOT / "benchmarks" / "results" / "overoptimisation.json"
    )
    parser.add_argument("--few", type=int, default=300, help="pairs of the proxies")
    parser.add_argument("--noise", type=float, default=0.25, help="share of them that is turned round")
    parser.add_argument("--proxy-epochs", type=int, default=3)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--gold-pairs", type=int, default=6000)
    parser.add_argument("--held-out", type=int, default=500)
    parser.add_argument("--max-length", type=int, default=1024, help="of the reward models' texts")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--max-prompt-tokens", type=int, default=128)
    parser.add_argument("--scale-on", type=int, default=256, help="prompts")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--micro", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=53)
    parser.add_argument("--updates", type=int, default=100, help="rollouts")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1.5e-5)
    parser.add_argument("--beta", type=float, default=0.005)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="for the PPO runs")
    parser.add_argument("--at-once", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=500, help="that all may take")
    parser.add_argument("--commit")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.model = side.model_folder(arguments.model)
    if arguments.one:
        part, *which = arguments.one
        if part == "ppo":
            train_policy(arguments, which[0], int(which[1]))
        elif part == "scale":
            scale(arguments)
        else:
            train_reward(arguments, which[0])
        return
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    end = time.monotonic() + arguments.seconds
    keys = "noise members batch new_tokens updates epochs learning_rate beta set".split()
    result: Row = {
        "model": Path(arguments.model).name,
        "rows": prepare(arguments),
        "settings": {key: getattr(arguments, key) for key in keys},
        **side.origin(arguments.commit, ("torch", "transformers", "trl")),
        "runs": {},
    }

    def in_parallel(parts: list[tuple[str, ...]]) -> Any:
        """Each part in a process of its own, `at_once` of them: (part, what it told)."""
        while parts:
            together, parts = parts[: arguments.at_once], parts[arguments.at_once :]
            given = [[*sys.argv[1:], "--one", *part] for part in together]
            started = [
                side.start(__file__, "-".join(part), arguments.work, words)
                for part, words in zip(together, given, strict=True)
            ]
            for part, process in zip(together, started, strict=True):
                yield part, side.finish(process, "-".join(part), arguments.work, end - time.monotonic())

    seeds = [str(seed) for seed in range(arguments.seeds)]
    names = ["gold", *(f"{kind}-{seed}" for kind in reversed(KINDS) for seed in seeds)]
    result["rewards"] = {}
    for (_, name), told in in_parallel([("reward", name) for name in names]):
        result["rewards"][name] = told
        side.save(arguments.out, result)
        print(f"{name:12} {json.dumps(told)[-200:]}", flush=True)
    result["scale"] = levels = next(in_parallel([("scale",)]))[1]
    for (_, kind, seed), told in in_parallel([("ppo", kind, seed) for seed in seeds for kind in KINDS]):
        run = {**told, "kind": kind, "seed": int(seed)}
        run["curve"] = curve(arguments, kind, int(seed), levels)
        result["runs"][f"{kind}-{seed}"] = run
        result["comparison"] = compare(result["runs"])
        side.save(arguments.out, result)
        last = ", ".join(f"{key} {np.mean(run['curve'][key][-5:] or [np.nan]):.2f}" for key in WANTED)
        trouble = told.get("error", "")[-200:]
        print(f"{kind}-{seed}: {len(run['curve']['kl'])} rollouts; last: {last}  {trouble}", flush=True)
    shown = result["comparison"] and {key: v for key, v in result["comparison"].items() if key != "curves"}
    print(json.dumps(shown, indent=1), flush=True)


if __name__ == "__main__":
    main()
