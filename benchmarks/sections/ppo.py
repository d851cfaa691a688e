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
