"""The whole path on a real model."""

from __future__ import annotations

from typing import Any

from sections.common import interval, mean, origin, table

PATH_WORDS = """\
`python benchmarks/smollm2_path.py --model SMOLLM2_DIR --data DATA_DIR --work DIR --out JSON`, with
configs/smollm2-135m: SFT on Alpaca and instruction data, a reward model and DPO on one half (by
prompt) of AlpacaEval's judged pairs, PPO on prompts of its own against that reward model. The judge is a
reward model trained on the *other* half, that no policy has seen. Whatever the figures are, they are the
measured ones; intervals are 95% and resample prompts. SFT and the judge ran side by side, and so did the
reward model and DPO: their seconds are those of a shared GPU."""


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


def interval_of_change(report: dict[str, Any], name: str) -> str:
    change = report["controls"]["length"][name]
    return f"{change['value']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]"
