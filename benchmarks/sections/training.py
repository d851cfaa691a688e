"""Training: memory, speed and accuracy."""

from __future__ import annotations

from typing import Any

from sections.common import interval, origin, table

MEMORY_WORDS = """\
`python benchmarks/memory.py`: what preflight says before a model is loaded, beside the peak of PyTorch's
allocator over some optimiser steps, on random models. Shapes, lengths and batches that the estimate was not
fitted to are marked as held out."""
MEMORY_HEAD = [
    "model",
    "held out",
    "stage",
    "weights",
    "checkpointing",
    "rows × tokens",
    "estimate, GiB",
    "peak, GiB",
    "ratio",
]


def memory(result: dict[str, Any]) -> str:
    """The memory estimate beside the measured peak."""
    done = [case for case in result["cases"] if case.get("ratio")]
    rows = [
        [
            case["shape"],
            "yes" if case.get("set", case["shape"]) in ("held-out", "unseen") else "no",
            case["stage"],
            "LoRA" if case["lora"] else "full",
            "yes" if case["checkpointing"] else "no",
            f"{case['rows']} × {case['length']}",
            f"{case['estimate'] / 2**30:.2f}",
            f"{case['peak'] / 2**30:.2f}",
            f"{case['ratio']:.3f}",
        ]
        for case in done
    ]
    ratios = [case["ratio"] for case in done]
    return "\n\n".join(
        [
            "## The memory estimate before loading",
            f"{MEMORY_WORDS}\nOver these {len(ratios)} cases the estimate is {min(ratios):.2f} to "
            f"{max(ratios):.2f} times the peak. {origin(result)}",
            table(MEMORY_HEAD, rows),
        ]
    )


HH_WORDS = """\
`python benchmarks/hh_reward.py`: HH-RLHF's harmless test split, judged by people; folds by prompt, each model
a mean over seeds, beside a Bradley-Terry model on TF-IDF of words and pairs of words. Intervals are 95% and
resample prompts; differences are pair by pair. Rankings against pairs: on the quickstart's rankings."""


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
    lines += f" Settings: {', '.join(result['settings'])}."
    if "tuning" in result:
        tried = "; ".join(f"{told}: {share:.3f}" for told, share in result["tuning"].items())
        lines += f" The last two were chosen in three folds of what the first fold trains on ({tried})."
    return "\n\n".join(
        [
            "## Reward models on people's judgments",
            f"{HH_WORDS}\n{lines} {origin(result)}",
            table(["model", "accuracy", "over TF-IDF", "over plain"], rows),
            table(["loss", "accuracy on held-out rankings"], others),
        ]
    )
