"""Training beside TRL: reward models and DPO."""

from __future__ import annotations

from typing import Any

from sections.common import interval, origin, setting, table

REWARD_WORDS = """\
`python benchmarks/reward_speed.py`: reward models on GPT-4's judgments of long answers, the same pairs once,
at the same learning rate, batch and length limit, beside TRL's RewardTrainer as it comes and at its better
settings; no recomputation of activations on any side, the trainer's own loop timed, a process each. Accuracy
is on prompts that nobody trained on, by one scorer."""
DPO_WORDS = """\
`python benchmarks/dpo_speed.py`: DPO on GPT-4's judgments of long answers, the same pairs in the same order
once, the same number of them an optimiser step, learning rate and length limit, float32 weights under
bfloat16 autocast; the trainer's own loop timed, a process each. Curves are compared as running means with
that of TRL's defaults: the largest difference is told."""
FIRST = "The first {skip} steps, which compile and warm up, are in their own column and not in the rate."


def reward_speed(result: dict[str, Any]) -> str:
    """Reward training beside TRL's."""
    done = _measured(result)
    rows = [
        [
            name,
            setting(found["options"]),
            *_figures(found),
            interval(found["accuracy"]) if "accuracy" in found else "–",
        ]
        for name, found in done.items()
    ]
    head = [
        "trainer",
        "options",
        "pairs/s",
        "times the default",
        "first steps, s",
        "GiB",
        "held-out accuracy",
    ]
    lines = f"{result['rows']['train']:,} pairs of {result['model']}."
    return _section("Training a reward model, beside TRL", REWARD_WORDS, lines, result, table(head, rows))


def dpo_speed(result: dict[str, Any]) -> str:
    """DPO beside TRL's."""
    done = _measured(result)
    rows = [
        [
            name,
            setting(found["settings"]),
            *_figures(found),
            f"{found['losses'][0]:.4f} to {found['losses'][-1]:.4f}",
            f"{found['curve_difference']:.4f}" if "curve_difference" in found else "–",
        ]
        for name, found in done.items()
    ]
    head = ["trainer", "settings", "pairs/s", "times the default", "first steps, s", "GiB", "loss", "curve"]
    lines = f"{result['pairs']:,} pairs of {result['model']}, {result['batch']} a step."
    if "curve_moves" in result:
        lines += f" From one point to the next a curve moves by {result['curve_moves']:.4f} on average."
    return _section("DPO, beside TRL", DPO_WORDS, lines, result, table(head, rows))


def _measured(result: dict[str, Any]) -> dict[str, Any]:
    return {name: found for name, found in result["variants"].items() if "rows_per_second" in found}


def _figures(found: dict[str, Any]) -> list[str]:
    times = f"{found['times_the_default']:.2f}" if "times_the_default" in found else "–"
    peak = "–" if found["peak_gib"] is None else f"{found['peak_gib']:.1f}"
    return [f"{found['rows_per_second']:.1f}", times, f"{found['first_seconds']:.1f}", peak]


def _section(title: str, words: str, lines: str, result: dict[str, Any], rows: str) -> str:
    failed = [name for name, found in result["variants"].items() if "error" in found]
    if "times_the_best_peer" in result:
        lines += f" The best of ours is {result['times_the_best_peer']:.2f} times the best of TRL's."
    told = f" Did not finish: {'; '.join(failed)}." * bool(failed)
    first = FIRST.format(skip=result["skip"])
    return "\n\n".join([f"## {title}", f"{words} {first}\n{lines}{told} {origin(result)}", rows])
