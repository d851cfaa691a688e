"""PPO: speed, rollouts, learning."""

from __future__ import annotations

from statistics import mean
from typing import Any

from sections.common import origin, setting, table

PPO_SPEED_WORDS = """\
`python benchmarks/ppo_speed.py`: batches of AlpacaEval's prompts, 4 epochs of one optimiser step each, no
recomputation of activations on any side, bfloat16 weights where nothing else is said; a process each. TRL
1.12 is the last that shipped a PPOTrainer, run at the chunk and micro-batch that its search found best; RLOO
has no critic. The first batch (compiling, capturing) is not among the episodes/s. Memory: what tensors took
at most, and what the process held."""
FLOOR_WORDS = """\
Where the rest of the time goes: seconds of a batch by phase, beside what the same work takes at the GPU's
own peak (measured in the same call): sampling reads weights and cache once a step, everything else is matrix
products of all real tokens, without padding."""


def ppo_speed(result: dict[str, Any]) -> str:
    """PPO beside TRL's PPOTrainer and RLOO."""
    done = {name: found for name, found in result["variants"].items() if "episodes_per_second" in found}
    rows = [
        [
            name,
            setting(found["settings"]),
            f"{found['episodes_per_second']:.1f}",
            f"{mean(found['batches']):.2f}",
            f"{found['first_batch']:.1f}",
            *("–" if found[key] is None else f"{found[key]:.1f}" for key in ("peak_gib", "reserved_gib")),
            f"{found['mean_length']:.0f}",
        ]
        for name, found in done.items()
    ]
    phases = []
    for name, found in done.items():
        if "floor" in found:
            least, took = found["floor"]["seconds"], found["phases"]
            both = took["score"] + took["measure"]
            cells = (
                (took["rollout"], least["rollout"]),
                (both, least["forward"]),
                (took["update"], least["update"]),
            )
            phases.append([name, *(f"{mine:.2f} ({floor:.2f})" for mine, floor in cells)])
    times = ", ".join(f"{ratio:.1f} times {name}" for name, ratio in result["times"].items())
    failed = [name for name, found in result["variants"].items() if "error" in found]
    told = f" Did not finish: {'; '.join(failed)}." * bool(failed)
    lines = f"{result['model']}, batches of {result['batch']}, up to {result['new_tokens']} new tokens."
    lines += f" The best of ours: {times}." * bool(times)
    head = ["trainer", "settings", "episodes/s", "s a batch", "first batch, s", "GiB", "GiB held", "tokens"]
    return "\n\n".join(
        [
            "## PPO, beside TRL",
            f"{PPO_SPEED_WORDS}\n{lines}{told} {origin(result)}",
            table(head, rows),
            FLOOR_WORDS,
            table(["", "rollout (floor)", "score and measure (floor)", "update (floor)"], phases),
        ]
    )


ROLLOUTS_WORDS = """\
`python benchmarks/rollouts.py`: AlpacaEval's prompts, all at once, sampled at temperature 1 from bfloat16
weights; a random model hardly ends a completion, so all of its have full length. tokens/s are of the calls
after the first, which compiles or captures. A process each."""
AGREEMENT_WORDS = """\
Greedy tokens of the graph engine beside transformers' `generate`. Where rows part, the gap is that of the two
likeliest tokens' logits, beside the median gap in rows that agree. Log-probabilities of samples, as the
engine gives them, against a fresh forward pass with the same weights."""


def rollouts(result: dict[str, Any]) -> str:
    """The engines' tokens a second, and their agreement."""
    rows = [
        [
            model,
            engine,
            f"{found['tokens_per_second']:,.0f}",
            f"{ratio:.2f}" if (ratio := result["times_transformers"][model].get(engine)) else "–",
            f"{mean(found['seconds'][1:]):.2f}",
            f"{found['seconds'][0]:.1f}",
            f"{found['peak_gib']:.1f}" if found["peak_gib"] and engine != "vLLM" else "–",
            f"{mean(found['tokens']) / result['rows']:.0f}",
        ]
        for model, engines in result["engines"].items()
        for engine, found in engines.items()
        if "tokens_per_second" in found
    ]
    sizes = f"{result['rows']} prompts, up to {result['new_tokens']} new tokens."
    head = ["model", "engine", "tokens/s", "times transformers", "s", "first call, s", "GiB", "tokens a row"]
    parts = [
        "## Sampling: rollouts of PPO, generation, evaluation",
        f"{ROLLOUTS_WORDS}\n{sizes} {origin(result)}",
        table(head, rows),
    ]
    agreement = {way: told for way, told in result.get("agreement", {}).items() if isinstance(told, dict)}
    same = []
    for way, found in agreement.items():
        if "logps" in found:
            gaps = [f"{found[key]:.3g}" if key in found else "–" for key in ("gap_median", "gap_most")]
            usual = f"{found['gap_elsewhere_median']:.3g}" if "gap_elsewhere_median" in found else "–"
            apart = [f"{found['logps'][key]:.2g}" for key in ("mean", "most")]
            same.append([way, f"{found['same']} of {found['rows']}", *gaps, usual, *apart])
    if same:
        head = ["weights", "rows alike", "gap where rows part, median", "most", "gap elsewhere, median"]
        head += ["log-probability apart, mean", "most"]
        parts += [f"{AGREEMENT_WORDS} Of {result['agreement']['model']}:", table(head, same)]
    return "\n\n".join(parts)
