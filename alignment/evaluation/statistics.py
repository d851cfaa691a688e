"""The statistics of one comparison beside its win rate: exact, for length, power, and if one had peeked.

    figures = comparison_figures(outcomes, prompts, lengths_a, lengths_b, seed=0)
    remarks = remarks_of("dpo", "sft", figures)

Figures are what report.json holds of a comparison; remarks are sentences for a reader. Both are made from
stored verdicts alone, so that they can be made again without a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alignment.evaluation.probe_figures import probe_report, warnings_of
from alignment.evaluation.probe_rows import probe_pairs, read_measured
from alignment.evaluation.safety_figures import safety_report, safety_warnings
from alignment.evaluation.safety_items import SAFETY
from alignment.evaluation.stored import Outcomes, Stored, read_lengths
from alignment.stats import (
    comparisons_needed,
    decided_at,
    exact_win_rate,
    explained_by_length,
    holm,
    length_controlled,
    looks,
    mean_over_seeds,
    sign_test,
    smallest_rate,
    win_rate,
)
from alignment.stats.intervals import group_sums

FORMAT = 1
LOOKS = 100  # points of the confidence sequence that are kept
FEW = 20  # prompts won or lost, below which a bootstrap interval may be too narrow


def comparison_figures(
    outcomes: ArrayLike,
    prompts: Sequence[Any],
    lengths_a: ArrayLike | None = None,
    lengths_b: ArrayLike | None = None,
    *,
    seeds: Sequence[Any] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of (n,) outcomes 1/0.5/0 for a, each of a prompt; lengths (n,) of both answers where known.

    seeds: the training seed of the model behind each row, where there are several; every seed must have
    answered every prompt. seed: of the resampling. The result, ready for JSON:

    - win_rate {rate, low, high, n, ties}: a tie as half, bootstrap over prompts
    - exact {rate, low, high, n, ties}: over prompts (n), never below 95%
    - wins, losses, ties: of comparisons; prompts {wins, losses, ties, n}; p: exact sign test over prompts
    - length_controlled {rate, low, high, n, length_effect, strength, sd, explains_the_result} or None
    - power {prompts, ties, smallest_rate, smallest_rate_exactly, needed}: the win rate that so many prompts
      with such a share of ties show with 80% (None: no rate), and the prompts that the measured one needs
    - sequential {n, rate, low, high, evidence, decided} a list each, for up to 100 looks at the prompts in
      random order, and decided_at: the number of prompts after which one could have stopped, or None
    - over_seeds {value, low, high, n} or None: the interval over seeds and prompts; n seeds
    """
    won = np.asarray(outcomes, dtype=np.float64)
    names = np.asarray(prompts)
    raw = win_rate(won, names, seed=seed)
    sums, sizes = group_sums(won, names)
    balance = sums - 0.5 * sizes
    wins, losses = int((balance > 1e-9).sum()), int((balance < -1e-9).sum())
    count = len(sums)
    return {
        "win_rate": raw._asdict(),
        "exact": exact_win_rate(won, names)._asdict(),
        "wins": int((won == 1.0).sum()),
        "losses": int((won == 0.0).sum()),
        "ties": raw.ties,
        "prompts": {"wins": wins, "losses": losses, "ties": count - wins - losses, "n": count},
        "p": sign_test(wins, losses),
        "length_controlled": _for_length(won, names, lengths_a, lengths_b, raw, seed),
        "power": power_figures(count, (count - wins - losses) / count, raw.rate),
        "sequential": _sequential(sums / sizes, seed),
        "over_seeds": None if seeds is None else over_seeds(won, names, np.asarray(seeds), seed),
    }


def stored_figures(run: Stored, *, seed: int | None = None) -> dict[str, Any]:
    """All figures of a finished evaluation again, from what it stored: no model, no judge.

    seed: of the resampling, by default the evaluation's own, with which the same figures come out.
    {format, run, judge, unread, comparisons: {name: `comparison_figures` and p_holm}, probes, safety,
    remarks}.
    """
    seed = int(run.config.get("run", {}).get("seed", 0)) if seed is None else seed
    pairs = probe_pairs(run.models, run.config.get("base"), [(c.a, c.b) for c in run.comparisons.values()])
    measured = read_measured(Path(run.folder))
    capability = {name: probe for name, probe in measured.items() if probe.settings["kind"] not in SAFETY}
    probes, safety = probe_report(capability, pairs, seed), safety_report(measured, pairs, seed)
    lengths = read_lengths(run)
    figures = {
        name: comparison_figures(c.outcomes, _numbered(c.prompts), *_lengths_of(c, lengths), seed=seed)
        for name, c in run.comparisons.items()
    }
    for one, p in zip(figures.values(), holm([f["p"] for f in figures.values()]), strict=True):
        one["p_holm"] = float(p)
    remarks = [r for name, c in run.comparisons.items() for r in remarks_of(c.a, c.b, figures[name])]
    remarks += [*warnings_of(probes), *safety_warnings(safety)]
    if run.unread:
        remarks.append(f"{run.unread:,} verdicts could not be read and count nowhere.")
    return {
        "format": FORMAT,
        "run": run.folder,
        "judge": run.judge,
        "unread": run.unread,
        "comparisons": figures,
        "probes": probes,
        "safety": safety,
        "remarks": remarks,
    }


def _numbered(prompts: Sequence[str]) -> list[int]:
    """The number of each prompt in the evaluation's order: resampling draws in the order of the groups."""
    places = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    return [places[prompt] for prompt in prompts]


def _lengths_of(
    judged: Outcomes, lengths: dict[tuple[str, str], list[int]]
) -> tuple[list[int] | None, list[int] | None]:
    """Words of both answers of every row, or None where an answer was not kept."""
    found: list[list[int]] = []
    for name in (judged.a, judged.b):
        rows = [lengths.get((name, prompt), ()) for prompt in judged.prompts]
        if any(k >= len(row) for row, k in zip(rows, judged.samples, strict=True)):
            return None, None
        found.append([row[k] for row, k in zip(rows, judged.samples, strict=True)])
    return found[0], found[1]


def power_figures(prompts: int, ties: float, rate: float) -> dict[str, Any]:
    """What `prompts` with a share of `ties` could show, and the prompts that win rate `rate` needs."""
    usable = ties < 1.0
    needed = None
    if usable and abs(rate - 0.5) > 1e-9:
        # Several answers a prompt put the rate of rows outside what the prompts' ties leave room for.
        needed = comparisons_needed(min(max(rate, ties / 2), 1 - ties / 2), ties=ties)
    return {
        "prompts": prompts,
        "ties": ties,
        "smallest_rate": smallest_rate(prompts, ties=ties) if usable else None,
        "smallest_rate_exactly": smallest_rate(prompts, ties=ties, exact=True) if usable else None,
        "needed": needed,
    }


def remarks_of(a: str, b: str, figures: dict[str, Any]) -> list[str]:
    """What a reader must know of the figures, a sentence each: power where nothing was found, rates near the
    ends, and length."""
    told = (undecided(a, b, figures), near_the_end(a, b, figures), by_length(a, b, figures))
    return [sentence for sentence in told if sentence]


def undecided(a: str, b: str, figures: dict[str, Any]) -> str | None:
    """What so many prompts could have shown, where they show nothing."""
    rate, power = figures["win_rate"], figures["power"]
    if not rate["low"] <= 0.5 <= rate["high"]:
        return None
    if power["ties"] >= 1.0:
        return f"{a} and {b} tied on every prompt; if all their answers are the same, is one named twice?"
    if power["smallest_rate_exactly"] is None:
        text = f"{power['prompts']:,} prompts are too few to tell {a} from {b}, however good either is"
    else:
        ties = f", {100 * power['ties']:.0f}% of them ties," if power["ties"] else ""
        text = (
            f"With {power['prompts']:,} prompts{ties} a difference "
            f"between {a} and {b} is found with 80% chance only from a win rate of "
            f"{100 * power['smallest_rate_exactly']:.1f}% on"
        )
    if power["needed"] is not None:
        text += f"; if the measured {100 * rate['rate']:.1f}% were true, it would take {power['needed']:,}"
    return text + "."


def doubted(figures: dict[str, Any]) -> str | None:
    """Why a bootstrap interval beside one half is not enough: the exact one, or equal length, is not."""
    exact, controlled = figures["exact"], figures["length_controlled"]
    if exact["low"] <= 0.5 <= exact["high"]:
        return (
            f"the exact interval, {100 * exact['low']:.1f}% to {100 * exact['high']:.1f}%, includes one half"
        )
    if controlled is not None and controlled["explains_the_result"]:
        return "at equal length of the answers the interval includes one half"
    return None


def near_the_end(a: str, b: str, figures: dict[str, Any]) -> str | None:
    """Where one side won next to nothing: a bootstrap has little to draw from there."""
    prompts, exact = figures["prompts"], figures["exact"]
    least = min(prompts["wins"], prompts["losses"])
    if least >= FEW or 0.1 < figures["win_rate"]["rate"] < 0.9:
        return None
    lost = "lost" if prompts["losses"] == least else "won"
    return (
        f"{a} {lost} only {least} of {prompts['n']:,} prompts against {b}: so near the end the 95% interval "
        f"may be too narrow, and the exact one is {100 * exact['low']:.1f}% to {100 * exact['high']:.1f}%."
    )


def by_length(a: str, b: str, figures: dict[str, Any]) -> str | None:
    """Where the difference is gone at equal length."""
    rate, controlled = figures["win_rate"], figures["length_controlled"]
    if controlled is None or not controlled["explains_the_result"]:
        return None
    longer = "longer" if controlled["length_effect"]["value"] > 0 else "shorter"
    return (
        f"Length may explain the result of {a} against {b}: the judge prefers {longer} answers, and at "
        f"equal length the win rate is {100 * controlled['rate']:.1f}%, 95% interval "
        f"{100 * controlled['low']:.1f}% to {100 * controlled['high']:.1f}%, instead of "
        f"{100 * rate['rate']:.1f}%."
    )


def _for_length(
    won: NDArray[np.float64],
    names: NDArray[Any],
    lengths_a: ArrayLike | None,
    lengths_b: ArrayLike | None,
    raw: Any,
    seed: int,
) -> dict[str, Any] | None:
    if lengths_a is None or lengths_b is None:
        return None
    controlled = length_controlled(won, lengths_a, lengths_b, names, seed=seed)
    return {
        "rate": controlled.rate,
        "low": controlled.low,
        "high": controlled.high,
        "n": controlled.n,
        "length_effect": controlled.length_effect._asdict(),
        "strength": controlled.strength._asdict(),
        "sd": controlled.sd,
        "explains_the_result": explained_by_length(raw, controlled),
    }


def _sequential(values: NDArray[np.float64], seed: int) -> dict[str, Any]:
    """values: (prompts,) mean outcome of each, put in a random order."""
    ordered = values[np.random.default_rng(seed).permutation(len(values))]
    at = np.unique(np.linspace(1, len(values), min(len(values), LOOKS)).round().astype(np.int64))
    found = looks(ordered, at)
    columns = {field: [getattr(look, field) for look in found] for field in found[0]._fields}
    return {**columns, "decided_at": decided_at(ordered)}


def over_seeds(
    won: NDArray[np.float64], names: NDArray[Any], seeds: NDArray[Any], seed: int
) -> dict[str, Any]:
    """{value, low, high, n}: the mean of outcomes with an interval over the n seeds and the prompts.

    All (rows,). Raises ValueError where a seed lacks a prompt.
    """
    _, column = np.unique(names, return_inverse=True)
    _, row = np.unique(seeds, return_inverse=True)
    shape = (int(row.max()) + 1, int(column.max()) + 1)
    cell = row * shape[1] + column
    count = np.bincount(cell, minlength=shape[0] * shape[1])
    if not count.all():
        raise ValueError("every training seed must have answered every prompt")
    table = (np.bincount(cell, won, shape[0] * shape[1]) / count).reshape(shape)
    return mean_over_seeds(table, seed=seed)._asdict()
