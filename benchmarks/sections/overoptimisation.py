"""Over-optimisation: a proxy reward, an ensemble of proxies, and the gold reward that looks on."""

from __future__ import annotations

from typing import Any

from alignment.report import plots
from sections.common import interval, origin, setting, table
from sections.learning import band

WORDS = """\
`python benchmarks/overoptimisation.py`: a few judged pairs, part of them turned round, train a proxy for each
seed, and an ensemble of proxies (each on a bootstrap sample) that pays its worst case; the other pairs train
the gold reward, which scores every rollout and pays nothing. Rewards are in standard deviations over the
first policy's samples, from their mean; bands go from the least seed to the largest; intervals are over
seeds. Fits: R(d) = d (α − β log d), d = √KL, highest at the peak where β is above 0."""
FIGURE, ALT = "overoptimisation.svg", "Proxy and gold reward over √KL, single proxy and ensemble"
END = "from the middle third of training to the last"


def overoptimisation(result: dict[str, Any]) -> str:
    """Both rewards, against a single proxy and against an ensemble."""
    lines = f"{result['model']}; pairs and prompts: {setting(result['rows'])}; {setting(result['settings'])}."
    rewards = [
        [name, interval(told["accuracy"]) if told.get("accuracy") else "–"]
        for name, told in result["rewards"].items()
    ]
    parts = ["## Over-optimisation", f"{WORDS}\n{lines} {origin(result)}"]
    found = result.get("comparison")
    if found:
        moved = [
            [kind, *(_change(ends[key]) for key in ("proxy", "gold"))] for kind, ends in found["ends"].items()
        ]
        fits = [
            [kind, key, *(_number(fit.get(name)) for name in ("alpha", "beta", "peak"))]
            for kind, both in found["fits"].items()
            for key, fit in both.items()
        ]
        apart = [[where, _change(value)] for where, value in found["gold, ensemble less single"].items()]
        parts += [
            f"![{ALT}](figures/{FIGURE})",
            table(["paid by", f"proxy, {END}", f"gold, {END}"], moved),
            table(["gold reward, ensemble less single", "difference"], apart),
            table(["paid by", "reward", "α", "β", "peak at √KL"], fits),
        ]
    return "\n\n".join([*parts, table(["reward model", "accuracy on clean held-out pairs"], rewards)])


def _change(value: dict[str, Any]) -> str:
    return f"{value['value']:+.2f} [{value['low']:+.2f}, {value['high']:+.2f}], {value['n']} seeds"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def overoptimisation_plots(result: dict[str, Any]) -> dict[str, str]:
    """Proxy and gold over √KL for both, by file name."""
    if not result.get("comparison"):
        return {}
    series = {
        f"{kind}: {key}": band(curve["root_kl"], curve[key])
        for kind, curve in result["comparison"]["curves"].items()
        for key in ("proxy", "gold")
    }
    drawn = plots.curves(series, x_label="√KL from the first policy", y_label="reward, SD", title=ALT)
    return {FIGURE: drawn}
