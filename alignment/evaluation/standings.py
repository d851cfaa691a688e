"""Figures over several evaluations: a leaderboard of all models that met, and what two runs differ in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from alignment.errors import UserError
from alignment.evaluation.answers import is_file
from alignment.evaluation.stored import Outcomes, Stored, same_answers
from alignment.stats import Ranking, holm, paired_difference, rank_models, sign_test, win_rate
from alignment.stats.intervals import group_sums
from alignment.stats.ranking import ELO


def leaderboards(runs: Sequence[Stored], *, seed: int = 0) -> list[dict[str, Any]]:
    """One ranking for each judge and each set of models that comparisons connect, the largest first.

    {judge, runs, comparisons, prompts, repeated (a pair, prompt and sample that another run has as well),
    shrunk, models: [{rank, rank_low, rank_high, name, path, elo, elo_low,
    elo_high, strength, low, high, win_rate, n, ties}], chances}: elo is 1000 + 400 strength / log 10; chances
    are P(row beats column). A name that stands for different models in different runs is told apart by path.
    """
    labels = _labels(runs)
    tables = []
    for judge in sorted({run.judge for run in runs}):
        judged = [run for run in runs if run.judge == judge]
        rows = [
            (labels[run.folder, c.a], labels[run.folder, c.b], c, run.folder)
            for run in judged
            for c in run.comparisons.values()
        ]
        for members in _connected([(a, b) for a, b, _, _ in rows]):
            mine = [row for row in rows if row[0] in members]
            a = [name for name, _, c, _ in mine for _ in c.prompts]
            b = [name for _, name, c, _ in mine for _ in c.prompts]
            prompts = [key for _, _, c, _ in mine for key in c.prompts]
            met = [
                (folder, *row)
                for a_, b_, c, folder in mine
                for row in {(a_, b_, *one) for one in zip(c.prompts, c.samples, strict=True)}
            ]
            ranking = rank_models(
                a, b, np.concatenate([c.outcomes for _, _, c, _ in mine]), prompts, seed=seed
            )
            tables.append(
                {
                    "judge": judge,
                    "runs": sorted({folder for *_, folder in mine}),
                    "comparisons": len(prompts),
                    "prompts": len(set(prompts)),
                    "repeated": len(met) - len({row[1:] for row in met}),
                    "shrunk": ranking.shrunk,
                    "models": _models(ranking),
                    "chances": ranking.chances.tolist(),
                }
            )
    return sorted(tables, key=lambda table: -table["comparisons"])


def markdown(tables: Sequence[dict[str, Any]]) -> str:
    """The leaderboards as Markdown tables, with a line each on what they rest on."""
    parts = []
    judges = [table["judge"] for table in tables]
    for table in tables:
        evaluations = f"{len(table['runs'])} evaluation{'s' if len(table['runs']) > 1 else ''}"
        again = (
            f" {table['repeated']:,} comparisons are of a pair on a prompt that another of these evaluations "
            "has too; of two runs of one evaluation leave one out, or they count twice."
            if table["repeated"]
            else ""
        )
        apart = (
            " No comparison connects these models with those of this judge's other tables."
            if judges.count(table["judge"]) > 1
            else ""
        )
        shrunk = (
            "\n\nA model never lost or never won, so half-wins were added; strengths are cautious."
            if table["shrunk"]
            else ""
        )
        lines = ["| rank | model | Elo | win rate | comparisons |", "| --- | --- | --- | --- | --- |"]
        for m in table["models"]:
            rank = str(m["rank"])
            if m["rank_low"] != m["rank_high"]:
                rank += f" ({m['rank_low']} to {m['rank_high']})"
            elo = f"{m['elo']:.0f} ({m['elo_low']:.0f} to {m['elo_high']:.0f})"
            cells = [rank, _cell(m["name"]), elo, f"{100 * m['win_rate']:.1f}%", f"{m['n']:,}"]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append(
            f"Judge: {_cell(table['judge'])}. {table['comparisons']:,} comparisons on {table['prompts']:,} "
            f"prompts from {evaluations}; Bradley-Terry, 95% bootstrap intervals over "
            f"prompts.{again}{apart}{shrunk}\n\n" + "\n".join(lines)
        )
    return "\n\n".join(parts) + "\n"


def compare_runs(
    first: Stored, second: Stored, names: tuple[str, str] | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """Each comparison that both runs have, paired over the prompts they have in common.

    names: the comparison of each run to set side by side, where they are called differently. The result:
    {runs, comparisons: [{first, second, prompts {common, only_first, only_second}, win_rates [2], difference
    {value, low, high, n}, wins, losses, p, p_holm, text}], differs [{what, first, second}]}. A difference is
    the second run's win rate less the first's, each common prompt counting once. Raises UserError where the
    runs have no comparison or no prompt in common.
    """
    pairs = shared_pairs(first, second, names)
    rows = [_paired(first, second, pair, seed) for pair in pairs]
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(p)
        same = not row["wins"] + row["losses"] and _same(first, second, row)
        row["text"] = _sentence(row, len(rows), same)
    return {
        "runs": [first.folder, second.folder],
        "comparisons": rows,
        "differs": differences(first, second),
    }


def _models(ranking: Ranking) -> list[dict[str, Any]]:
    return [
        {
            **s._asdict(),
            "elo": 1000.0 + ELO * s.strength,
            "elo_low": 1000.0 + ELO * s.low,
            "elo_high": 1000.0 + ELO * s.high,
        }
        for s in ranking.standings
    ]


def _labels(runs: Sequence[Stored]) -> dict[tuple[str, str], str]:
    """(run, name) -> name, with its path where runs use the name for different models.

    Where a run read a model's answers from a file, the name alone says whose they are.
    """
    paths: dict[str, set[str]] = {}
    for run in runs:
        for name, path in run.models.items():
            if not is_file(path):
                paths.setdefault(name, set()).add(path)
    labels = {}
    for run in runs:
        for name in {n for c in run.comparisons.values() for n in (c.a, c.b)}:
            path = run.models.get(name, "")
            several = len(paths.get(name, ())) > 1
            labels[run.folder, name] = f"{name} ({path})" if several else name
    return labels


def _connected(edges: Sequence[tuple[str, str]]) -> list[set[str]]:
    groups: list[set[str]] = []
    for a, b in edges:
        touched = [group for group in groups if a in group or b in group]
        groups = [group for group in groups if group not in touched]
        groups.append({a, b}.union(*touched))
    return groups


def shared_pairs(first: Stored, second: Stored, names: tuple[str, str] | None) -> list[tuple[str, str]]:
    """The comparisons (of the first run, of the second) to set side by side: `names`, or those of one name.

    Raises UserError where a run lacks the one that is named, or none goes with another.
    """
    for run, name in zip((first, second), names or (), strict=False):
        if name not in run.comparisons:
            raise UserError(f"{run.folder} has no comparison {name}, but {_listed(run)}")
    if names:
        return [names]
    shared = [name for name in first.comparisons if name in second.comparisons]
    if shared:
        return [(name, name) for name in shared]
    if len(first.comparisons) == len(second.comparisons) == 1:
        return [(next(iter(first.comparisons)), next(iter(second.comparisons)))]
    raise UserError(
        f"{first.folder} has {_listed(first)} and {second.folder} has {_listed(second)}, nothing in both; "
        "name one of each with --first and --second"
    )


def _listed(run: Stored) -> str:
    return ", ".join(run.comparisons)


def mean_by_prompt(outcomes: Outcomes) -> dict[str, float]:
    """The mean outcome on each prompt."""
    names = np.asarray(outcomes.prompts)
    sums, sizes = group_sums(outcomes.outcomes, names)
    return dict(zip(np.unique(names).tolist(), (sums / sizes).tolist(), strict=True))


def _paired(first: Stored, second: Stored, pair: tuple[str, str], seed: int) -> dict[str, Any]:
    sides = [run.comparisons[name] for run, name in zip((first, second), pair, strict=True)]
    means = [mean_by_prompt(side) for side in sides]
    common = sorted(means[0].keys() & means[1].keys())
    if not common:
        raise UserError(
            f"{pair[0]} of {first.folder} and {pair[1]} of {second.folder} have no prompt in common"
        )
    a, b = (np.array([mean[key] for key in common]) for mean in means)
    kept = set(common)
    rates = []
    for side in sides:
        inside = np.array([key in kept for key in side.prompts])
        names = np.asarray(side.prompts)[inside]
        rates.append(win_rate(side.outcomes[inside], names, seed=seed)._asdict())
    wins, losses = int((b - a > 1e-9).sum()), int((b - a < -1e-9).sum())
    return {
        "first": pair[0],
        "second": pair[1],
        "prompts": {
            "common": len(common),
            "only_first": len(means[0]) - len(common),
            "only_second": len(means[1]) - len(common),
        },
        "win_rates": rates,
        "difference": paired_difference(b, a, seed=seed)._asdict(),
        "wins": wins,
        "losses": losses,
        "p": sign_test(wins, losses),
    }


def _same(first: Stored, second: Stored, row: dict[str, Any]) -> bool:
    old, new = first.comparisons[row["first"]], second.comparisons[row["second"]]
    return same_answers(first, second, [(old.a, new.a), (old.b, new.b)])


def _sentence(row: dict[str, Any], tests: int, same: bool) -> str:
    change = row["difference"]
    name = row["first"] if row["first"] == row["second"] else f"{row['second']} against {row['first']}"
    moved = "rose" if change["low"] > 0 else "fell" if change["high"] < 0 else None
    points = f"{100 * change['value']:+.1f} points (95% interval {100 * change['low']:+.1f} to "
    points += f"{100 * change['high']:+.1f}) on {change['n']:,} common prompts"
    if same:
        return f"{name}: the same answers in both runs on {change['n']:,} common prompts, so nothing changed."
    if moved and row["p_holm"] >= 0.05:
        corrected = f", corrected for {tests} comparisons" if tests > 1 else ""
        chance = f"that may be chance (sign test p = {row['p_holm']:.2g}{corrected})"
        return f"{name}: the win rate {moved} by {points}, but {chance}."
    if moved:
        return f"{name}: the win rate {moved} by {points}."
    return f"{name}: no change can be told, {points}."


def differences(first: Stored, second: Stored) -> list[dict[str, Any]]:
    """What is not the same in the two runs besides their outcomes, the judge first."""
    a, b = ({"judge": run.judge, **_flat(run.config)} for run in (first, second))
    keys = ["judge", *sorted((a.keys() | b.keys()) - {"judge"})]
    return [
        {"what": key, "first": a.get(key), "second": b.get(key)}
        for key in keys
        if a.get(key) != b.get(key) and not key.startswith("run.")
    ]


def _flat(config: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[before + key] = value
    return flat


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
