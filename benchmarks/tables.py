"""Writes docs/benchmarks.md from the JSON that the benchmark scripts wrote to benchmarks/results/.

    python benchmarks/tables.py

Nothing in that page is typed by hand but the words around the tables; a test compares the two.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
PATH_WORDS = """\
`python benchmarks/smollm2_path.py --model SMOLLM2_DIR --data DATA_DIR --work DIR --out JSON`, with
configs/smollm2-135m: SFT on Alpaca and instruction data, a reward model and DPO on one half (by
prompt) of AlpacaEval's judged pairs, PPO on prompts of its own against that reward model. The judge is a
reward model trained on the *other* half, that no policy has seen. Whatever the figures are, they are the
measured ones; intervals are 95% and resample prompts. SFT and the judge ran side by side, and so did the
reward model and DPO: their seconds are those of a shared GPU."""

MEMORY_WORDS = """\
`python benchmarks/memory.py JSON`: what preflight says before a model is loaded, beside the peak of PyTorch's
allocator over three optimiser steps, on random models of two sizes and of a third ("unseen") that the
estimate was not fitted to."""
MEMORY_HEAD = [
    "model",
    "stage",
    "weights",
    "checkpointing",
    "rows × tokens",
    "estimate, GiB",
    "peak, GiB",
    "ratio",
]


DATA_WORDS = """\
`python benchmarks/data.py`: pair records of about 1 KB, made from a seed; whole commands, each a process of
its own, with the time to start; memory is the peak of the process and its children together, what they share
counted once. The peer is `datasets.load_dataset("json")`, then a Python `map` with the same checks (keys,
types, roles, ranks in range, no assistant at the end of a prompt; it does not see a key that is there twice),
then `to_json` or `to_parquet`, each time with a fresh cache: with `map` as it comes (one process, a row at a
time), and with the fastest of num_proc 1 and 2, batched or not (all tried at 100,000 rows).
check: `alignkit data check`; convert: TRL's pairs to records in JSONL, `alignkit data convert --from trl`;
pairs: `alignkit data view pairs` to Parquet."""


ANNOTATE_WORDS = """\
`python benchmarks/annotate_50.py`: a real server on a new database, Debian's chromium, and a newcomer who
signs in by typing and ranks by what the screen says (sums; the nearer result is better), with number keys,
mouse, dragging or the buttons up and down as drawn by seed, a fifth of the tasks with a written reason.
Seconds are those of the page and the hands alone, from one task on the screen to the next: reading takes a
person longer. "As meant": ranks, "all bad", reason and shown order in the database are those that were
intended."""

SPEED_WORDS = """\
`python benchmarks/reward_speed.py`: reward models on GPT-4's judgments of long answers, the same pairs once,
at the same learning rate, batch and length limit, beside TRL's RewardTrainer as it comes and at its better
settings; no recomputation of activations on any side, the trainer's own loop timed, a process each. Accuracy
is on prompts that nobody trained on, by one scorer."""

HH_WORDS = """\
`python benchmarks/hh_reward.py`: HH-RLHF's harmless test split, judged by people; folds by prompt, each model
a mean over seeds, beside a Bradley-Terry model on TF-IDF of words and pairs of words. Intervals are 95% and
resample prompts; differences are pair by pair. Rankings against pairs: on the quickstart's rankings."""

LABELING_WORDS = """\
`make bench-labeling`: `alignkit label serve` and locust side by side on one machine. 200 people sign in
within a minute, load the page, and do one thing every 8 seconds, ten minutes in all: change ranks (a draft
is saved), submit and get the next task, or look at what they judged before. Four outputs a task, with
Markdown, tables, code and formulas; three judgments a task; commits are on the disk when they are answered
(PostgreSQL with fsync). Times are the clients', from the request to the whole answer. After each run the
database is compared with the clients' journals. In the figures here both databases' ten minutes ran at the
same time on the same cores, and kills and sizes on a machine that others used too."""
LOAD_HEAD = "database,people,requests/s,errors,peak MB,MB at the end,CPU s,judgments".split(",")
KILLS = {
    "acknowledged": "judgments acknowledged",
    "lost": "lost",
    "doubled": "twice",
    "over_the_overlap": "tasks over the overlap",
    "leases_that_do_not_end": "leases that outlive their time",
    "audit_rows": "audit rows that verify",
}
SIZES = [(kind, p) for kind in ("cpu_milliseconds", "milliseconds") for p in ("50", "95")]

COVERAGE_WORDS = """\
`python benchmarks/coverage.py`: whole evaluations of independent prompts are simulated with a known win
rate (a tie as half) and share of ties; the share of 95% intervals that hold it should be 0.95 or more.
Bootstrap: percentile, 10,000 resamples; exact: Clopper-Pearson, with ties by Berger & Boos. Width: the
exact interval's over the bootstrap's."""
PEEKING_WORDS = """\
No true difference, and a look after every prompt: the chance that a test ever says there is one, counted
out, not simulated. The sequential test stays below 5%, with ties further (they pay nothing); the sign
test, which may be looked at once, does not."""
SEQUENCE_WORDS = """\
The confidence sequence: the share that hold the true rate at all looks together (20% ties, 1,000 prompts,
a look at every tenth), and the median number of prompts after which one half was refuted."""
SEEDS_WORDS = """\
Several training seeds, 300 prompts each; sd: how much seeds differ in win rate. Intervals over seeds and
prompts, and intervals that resample prompts alone and so miss the next seed."""
LENGTH_WORDS = """\
Length control where strength is 0.3 and the length effect 1.2 (log-odds): the mean controlled rate beside
the true one, and the share of intervals that hold it."""
VERDICTS_WORDS = """\
`python benchmarks/verdicts.py`: statistics from stored verdicts, whole commands with the time to start.
verdicts: all figures of `alignkit evaluate verdicts` (bootstrap, exact, sign tests, length control,
power, sequential)."""


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def interval(value: dict[str, Any], key: str = "value") -> str:
    return f"{value[key]:.3f} [{value['low']:.3f}, {value['high']:.3f}], n = {value['n']:,}"


def origin(result: dict[str, Any]) -> str:
    """Device, commit and versions in one line."""
    versions = [f"{name} {v}" for name, v in result.get("versions", {}).items() if name != "alignkit"]
    commit = [f"commit {result['commit'][:12]}"] if result.get("commit") else []
    return "; ".join([result["device"], *([", ".join(versions)] if versions else []), *commit]) + "."


def smollm2_path(result: dict[str, Any]) -> str:
    """The four stages on SmolLM2-135M."""
    stages, report = result["stages"], result["report"]
    rows = [[name, f"{s['seconds']:.0f}", f"{s['peak_memory_gib']:.1f}"] for name, s in stages.items()]
    wins = [
        [name.replace("_", " "), interval(rate, "rate"), str(rate["ties"]), interval_of_change(report, name)]
        for name, rate in report["win_rate"].items()
    ]
    models = [
        [
            name,
            "–" if model.get("kl") is None else f"{model['kl']:.2f}",
            f"{mean(model['words']):.0f}",
            f"{mean(model['eos_rate']):.2f}",
            f"{mean(model['score']):.2f}",
        ]
        for name, model in report["stages"].items()
        if "words" in model
    ]
    accuracies = [[name, interval(stages[name]["metrics"]["accuracy"])] for name in ("reward", "judge")]
    sizes = ", ".join(f"{name} {count:,}" for name, count in result["rows"].items())
    return "\n\n".join(
        [
            "## The whole path on SmolLM2-135M-Instruct and real data",
            PATH_WORDS,
            f"Rows: {sizes}. Set over the configs: {' '.join(result['set']) or 'nothing'}. "
            f"{origin({**result, 'versions': stages['sft']['versions']})}",
            table(["stage", "seconds", "peak GPU memory, GiB"], rows),
            table(["reward model", "held-out accuracy"], accuracies),
            table(["comparison", "win rate", "ties", "change in words"], wins),
            table(["model", "KL from parent, nats", "words", "EOS rate", "judge's mean score"], models),
            "What the evaluation's own report warns of:",
            "\n".join(f"- {warning}" for warning in report["warnings"]),
        ]
    )


def mean(value: Any) -> float:
    """A plain number, or an interval's value."""
    return float(value["value"] if isinstance(value, dict) else value)


def interval_of_change(report: dict[str, Any], name: str) -> str:
    change = report["controls"]["length"][name]
    return f"{change['value']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]"


def memory(result: dict[str, Any]) -> str:
    """The memory estimate beside the measured peak."""
    rows = [
        [
            case["shape"],
            case["stage"],
            "LoRA" if case["lora"] else "full",
            "yes" if case["checkpointing"] else "no",
            f"{case['rows']} × {case['length']}",
            f"{case['estimate'] / 2**30:.2f}",
            f"{case['peak'] / 2**30:.2f}",
            f"{case['ratio']:.3f}",
        ]
        for case in result["cases"]
    ]
    ratios = [case["ratio"] for case in result["cases"]]
    return "\n\n".join(
        [
            "## The memory estimate before loading",
            f"{MEMORY_WORDS}\nOver these {len(ratios)} cases the estimate is {min(ratios):.2f} to "
            f"{max(ratios):.2f} times the peak. {origin(result)}",
            table(MEMORY_HEAD, rows),
        ]
    )


def data(result: dict[str, Any]) -> str:
    """Checking, converting and viewing records, beside `datasets`."""
    rows = []
    for case in result["cases"]:
        if "peer" in case:
            own, plain = case["ours"], case["peer"][0]
            best = min(case["peer"], key=lambda one: one["seconds"])
            cells = [f"{one['seconds']:.1f}" for one in (own, plain, best)]
            cells += [f"{one['seconds'] / own['seconds']:.1f}" for one in (plain, best)]
            cells += [f"{one['peak_bytes'] / 1e6:,.0f}" for one in (own, plain, best)]
            rows.append([case["task"], f"{case['rows']:,}", *cells, setting(best["setting"])])
    alone = [
        [
            case["task"],
            f"{case['rows']:,}",
            f"{case['ours']['seconds']:.1f}",
            f"{case['ours']['peak_bytes'] / 1e6:,.0f}",
        ]
        for case in result["cases"]
        if "peer" not in case
    ]
    head = ["task", "rows", "alignkit, s", "`map`, s", "best `map`, s", "times as fast", "than the best"]
    head += ["alignkit, MB", "`map`, MB", "best `map`, MB", "the best"]
    return "\n\n".join(
        [
            "## Datasets: checking, converting and viewing",
            f"{DATA_WORDS}\n{origin(result)}",
            table(head, rows),
            "Without a peer: records read and written again (native), and `alignkit data duplicates --near`.",
            table(["task", "rows", "seconds", "MB"], alone),
        ]
    )


def reward_speed(result: dict[str, Any]) -> str:
    """Reward training beside TRL's."""
    rows = [
        [
            name,
            ", ".join(f"{key}={value}" for key, value in found["options"].items()),
            f"{found['pairs_per_second']:.1f}",
            "–" if found["peak_gib"] is None else f"{found['peak_gib']:.1f}",
            interval(found["accuracy"]),
        ]
        for name, found in result["variants"].items()
        if "error" not in found
    ]
    failed = [name for name, found in result["variants"].items() if "error" in found]
    times = f" The best of ours is {result['times_the_best_peer']:.2f} times the best of TRL's." * (
        "times_the_best_peer" in result
    )
    told = f" Could not run: {', '.join(failed)}." if failed else ""
    head = ["trainer", "options", "pairs/s", "peak GPU memory, GiB", "held-out accuracy"]
    lines = f"{result['rows']['train']:,} pairs of {result['model']}.{times}{told} {origin(result)}"
    return "\n\n".join(
        ["## Training a reward model, beside TRL", f"{SPEED_WORDS}\n{lines}", table(head, rows)]
    )


def hh_reward(result: dict[str, Any]) -> str:
    """Reward models on people's judgments."""
    people, ranked = result["people"], result["rankings"]

    def over(values: dict[str, Any], kind: str) -> str:
        return interval(values[kind]) if kind in values else "–"

    rows = [
        [kind, interval(value), over(people["over TF-IDF"], kind), over(people["over plain"], kind)]
        for kind, value in people["accuracy"].items()
    ]
    others = [[kind, interval(value)] for kind, value in ranked["accuracy"].items()]
    others.append(["rankings less pairs", interval(ranked["rankings over pairs"])])
    lines = f"{people['pairs']:,} pairs, {result['folds']} folds, {result['seeds']} seeds, {result['model']}."
    return "\n\n".join(
        [
            "## Reward models on people's judgments",
            f"{HH_WORDS}\n{lines} {origin(result)}",
            table(["model", "accuracy", "over TF-IDF", "over plain"], rows),
            table(["loss", "accuracy on held-out rankings"], others),
        ]
    )


def setting(value: dict[str, Any]) -> str:
    return ", ".join(f"{name}={given}" for name, given in value.items())


def annotate(result: dict[str, Any]) -> str:
    """Fifty tasks ranked by the screen alone."""
    hands: dict[str, list[float]] = {}
    for one in result["seconds"]:
        hands.setdefault(one["hand"], []).append(one["seconds"])
    everything = [one["seconds"] for one in result["seconds"]]
    rows = [
        [name, str(len(times)), f"{median(times):.2f}", f"{max(times):.2f}"]
        for name, times in [*sorted(hands.items()), ("all", everything)]
    ]
    return "\n\n".join(
        [
            "## The labeling app: 50 tasks by a new annotator",
            f"{ANNOTATE_WORDS}\n{origin(result)}",
            f"{result['tasks']} tasks ranked of {result['asked']}, {len(result['errors'])} errors, "
            f"{result['equal']} judgments as meant.",
            table(["by", "tasks", "median seconds", "most"], rows),
        ]
    )


def labeling(result: dict[str, Any]) -> str:
    """The labeling server under load, under kills, and by size."""
    of = {
        part: [one for one in result["results"] if one["part"] == part] for part in ("load", "kills", "size")
    }
    load = [
        [one["database"], name, f"{times['n']:,}", *(f"{times[p]:,.0f}" for p in ("50", "95", "99", "100"))]
        for one in of["load"]
        for name, times in one["milliseconds"].items()
    ]
    whole = [
        [
            one["database"],
            str(one["settings"]["people"]),
            f"{one['per_second']:.0f}",
            f"{sum(one['failures'].values())}",
            f"{one['peak_memory'] / 1e6:.0f}",
            f"{one['memory'][-1][1] / 1e6:.0f}",
            f"{one['cpu_seconds']:.0f} of {one['memory'][-1][0]:.0f}",
            f"{one['found']['acknowledged']:,}",
        ]
        for one in of["load"]
    ]
    kills = [
        [
            one["database"],
            str(one["settings"]["kills"]),
            f"{sum(one['failures'].values()):,}",
            *(f"{one['found'][key]:,}" for key in KILLS),
            one["commit"][:12],
        ]
        for one in of["kills"]
    ]
    sizes = [
        [
            f"{one['settings']['tasks']:,}",
            f"{one['settings']['judgments']:,}",
            name,
            *(f"{one[kind][name][p]:.1f}" for kind, p in SIZES),
        ]
        for one in of["size"]
        for name in ("next task", "draft", "submit", "history")
    ]
    return "\n\n".join(
        [
            "## The labeling app: how many people one server takes",
            f"{LABELING_WORDS}\n{origin(of['load'][0])}",
            table(["database", "request", "n", "median ms", "p95", "p99", "slowest"], load),
            table(LOAD_HEAD, whole),
            "SIGKILL of the server, again and again, while the same people work twice as fast:",
            table(["database", "kills", "requests without an answer", *KILLS.values(), "commit"], kills),
            "What one request costs by the size of the database (SQLite):",
            table(["tasks", "judgments", "request", "CPU ms, median", "p95", "ms, median", "p95"], sizes),
        ]
    )


def coverage(result: dict[str, Any]) -> str:
    """How often intervals hold the truth and tests err."""
    cells = [
        [
            f"{c['n']:,}",
            f"{c['rate']:g}",
            f"{c['ties']:g}",
            f"{c['bootstrap']:.3f}",
            f"{c['exact']:.3f}",
            f"{c['exact_width'] / c['bootstrap_width']:.2f}",
        ]
        for c in result["cells"]
    ]
    large = [c["bootstrap"] for c in result["cells"] if c["n"] >= 200]
    exact = min(c["exact"] for c in result["cells"])
    error = (0.95 * 0.05 / result["runs"]) ** 0.5
    summary = (
        f"{result['runs']:,} evaluations a cell (Monte Carlo error {error:.4f}). Lowest: bootstrap "
        f"{min(large):.3f} from 200 prompts on, exact {exact:.3f} anywhere."
    )
    peeking = [
        [f"{p['looks']:,}", f"{p['sequential']:.3f}", f"{p['sign_test']:.3f}"] for p in result["peeking"]
    ]
    sequence = [
        [
            f"{s['rate']:g}",
            f"{s['coverage']:.3f}",
            "never" if s["median_stop"] is None else f"{s['median_stop']:,.0f}",
        ]
        for s in result["sequence"]
    ]
    seeds = [
        [str(s["seeds"]), f"{s['sd']:g}", f"{s['both']:.3f}", f"{s['prompts_only']:.3f}"]
        for s in result["seeds"]
    ]
    length = [
        [f"{x['n']:,}", f"{x['true']:.3f}", f"{x['mean']:.3f}", f"{x['coverage']:.3f}"]
        for x in result["length"]
    ]
    flags = result["flags"]
    return "\n\n".join(
        [
            "## Statistics: how often intervals hold the truth",
            f"{COVERAGE_WORDS}\n{summary} {origin(result)}",
            table(["prompts", "win rate", "ties", "bootstrap", "exact", "width"], cells),
            PEEKING_WORDS,
            table(["looks", "sequential", "sign test"], peeking),
            SEQUENCE_WORDS,
            table(["win rate", "coverage", "stopped at"], sequence),
            SEEDS_WORDS,
            table(["seeds", "sd", "seeds and prompts", "prompts alone"], seeds),
            LENGTH_WORDS,
            table(["prompts", "true", "mean", "coverage"], length),
            f"The over-optimisation flag, where the proxy rises over {flags['checkpoints']} checkpoints and "
            f"the gold reward does not move: raised in {100 * flags['flagged']:.1f}% of {flags['runs']} "
            "evaluations.",
        ]
    )


def verdicts(result: dict[str, Any]) -> str:
    """Seconds and memory for statistics of stored verdicts."""
    rows = [
        [
            c["command"],
            f"{c['verdicts']:,}",
            c["shape"],
            f"{c['prompts']:,}",
            f"{c['seconds']:.1f}",
            f"{c['peak_bytes'] / 1e6:,.0f}",
        ]
        for c in result["cases"]
    ]
    return "\n\n".join(
        [
            "## Statistics of 100,000 stored verdicts",
            f"{VERDICTS_WORDS}\n{origin(result)}",
            table(["command", "verdicts", "shape", "prompts", "seconds", "MB"], rows),
        ]
    )


PARTS = {
    "data": data,
    "smollm2_path": smollm2_path,
    "memory": memory,
    "reward_speed": reward_speed,
    "hh_reward": hh_reward,
    "annotate_50": annotate,
    "labeling": labeling,
    "coverage": coverage,
    "verdicts": verdicts,
}


def page() -> str:
    """The whole page, from the results that are there."""
    parts = ["# Measured", "Tables on this page are generated from benchmarks/results/ by `make bench`."]
    for name, render in PARTS.items():
        path = RESULTS / f"{name}.json"
        if path.exists():
            parts.append(render(json.loads(path.read_text())))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
