"""From the rows of probes to figures: each model's, what changed between two, and whether one has forgotten.

A change is always `a` less `b` over the same items; it is a loss where it goes the way that is worse, to
lower accuracy or higher perplexity. Pure functions of stored rows: all is computed again without a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from alignment.evaluation.matching import RULES, token_f1
from alignment.evaluation.probe_rows import Measured, Row
from alignment.stats import (
    bootstrap_interval,
    clopper_pearson,
    holm,
    ratio_interval,
    sign_test,
    smallest_change,
    smallest_share_change,
    wider_for_few,
)

Floats = NDArray[np.float64]
Pair = tuple[str, str]
Z = float(ndtri(0.975))
FEW = 50  # items, below which bootstrap intervals are too narrow


class Scores(NamedTuple):
    """What a model got on each item, (n,): its score is parts / wholes, and the set's their sums' ratio."""

    items: list[str]
    parts: Floats
    wholes: Floats


def probe_report(measured: Mapping[str, Measured], pairs: Sequence[Pair], seed: int = 0) -> dict[str, Any]:
    """{probe: {kind, unit, better, n, …, models: {name: figures}, pairs: {a_vs_b: change}}} for report.json.

    A model's figures are {value, low, high, n} and what its kind adds; a change is {a, b, unit, value, low,
    high, n, wins, losses, p, p_holm, smallest_loss, forgotten, paired, text}. p: exact sign test over items
    (McNemar's for right and wrong), two-sided; p_holm: corrected over all probes and pairs. smallest_loss:
    the loss that so many items show with 80% chance, None if they show none. forgotten: the whole interval is
    on the worse side.
    """
    report = {name: _probe(probe, pairs, seed) for name, probe in measured.items()}
    changes = [(name, change) for name, p in report.items() for change in p["pairs"].values()]
    for (name, change), p in zip(changes, holm([c["p"] for _, c in changes]), strict=True):
        change["p_holm"] = float(p)
        change["text"] = _sentence(name, change, report[name], len(changes))
    return report


def warnings_of(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know: who has forgotten what, and probes that can hardly tell."""
    found = [c["text"] for probe in report.values() for c in probe["pairs"].values() if c["forgotten"]]
    for name, probe in report.items():
        cut = {m: f["unfinished"] for m, f in probe["models"].items() if f.get("unfinished", 0) > 0.2}
        if cut:
            shares = ", ".join(f"{model} {100 * share:.0f}%" for model, share in cut.items())
            found.append(
                f"On {name} many answers were cut off ({shares}); raise probes.{name}.max_new_tokens before "
                "relying on it."
            )
        if probe["n"] is not None and probe["n"] < FEW and probe["pairs"]:
            found.append(f"{name} has only {probe['n']} items: its intervals are too narrow.")
    return found


def scores_of(settings: Mapping[str, Any], rows: Sequence[Row], per_byte: bool = False) -> Scores:
    """Each item's score; of perplexity the negative log-likelihood over tokens, or over bytes."""
    kind, ones = settings["kind"], np.ones(len(rows))
    items = [str(row["item"]) for row in rows]
    if kind == "perplexity":
        wholes = [row["bytes" if per_byte else "tokens"] for row in rows]
        return Scores(items, -_floats(row["log_prob"] for row in rows), _floats(wholes))
    if kind == "choices":
        return Scores(items, _right(rows, settings["by_length"]), ones)
    if kind == "exact_match":
        rule = RULES[settings["match"]]
        return Scores(items, _floats(rule(row["text"], row["answers"]) for row in rows), ones)
    return Scores(items, _floats(row["score"] for row in rows), ones)


def _probe(probe: Measured, pairs: Sequence[Pair], seed: int) -> dict[str, Any]:
    settings = probe.settings
    kind = settings["kind"]
    unit = {
        "perplexity": "nats a token",
        "choices": "accuracy",
        "exact_match": "exact match",
        "lm_eval": str(settings.get("metric", "")).partition(",")[0],
    }[kind]
    better = "lower" if kind == "perplexity" else settings.get("better", "higher")
    models = {name: _model(settings, rows, seed) for name, rows in probe.rows.items()}
    changes = {}
    for a, b in pairs:
        if a in probe.rows and b in probe.rows:
            change = _change(settings, probe.rows[a], probe.rows[b], better, seed)
            changes[f"{a}_vs_{b}"] = {"a": a, "b": b, "unit": unit, **change}
    return {
        "kind": kind,
        "unit": unit,
        "better": better,
        "n": max((f["n"] or 0 for f in models.values()), default=0) or None,
        "repeated": settings.get("repeated", 0),
        "files": settings["files"],
        "models": models,
        "pairs": changes,
    }


def _model(settings: Mapping[str, Any], rows: Sequence[Row], seed: int) -> dict[str, Any]:
    if _is_summary(rows):
        value, n = rows[0]["value"], rows[0]["n"]
        error = rows[0]["stderr"]
        low, high = (None, None) if error is None else (value - Z * error, value + Z * error)
        return {"value": value, "low": low, "high": high, "n": n}
    scores = scores_of(settings, rows)
    right = int(scores.parts.sum())
    found: dict[str, Any] = (
        clopper_pearson(right, len(rows))  # which has a width where none or all are right, too
        if _is_share(settings, scores.parts)
        else _interval(scores.parts, scores.wholes, seed)
    )._asdict()
    if settings["kind"] == "perplexity":
        size = sum(row["bytes"] for row in rows)
        found |= {
            "perplexity": float(np.exp(min(700.0, found["value"]))),
            "bits_per_byte": float(scores.parts.sum() / np.log(2.0) / size),
            "tokens": int(scores.wholes.sum()),
            "in_windows": sum(row["windows"] > 1 for row in rows),
        }
    if settings["kind"] == "choices":
        found |= {
            "accuracy_of_sum": float(_right(rows, by_length=False).mean()),
            "accuracy_by_length": float(_right(rows, by_length=True).mean()),
            "chance": float(np.mean([1.0 / len(row["choices"]) for row in rows])),
        }
    if settings["kind"] == "exact_match":
        found["unfinished"] = sum(row["finished"] is False for row in rows) / len(rows)
        if settings["match"] == "text":
            found["f1"] = float(np.mean([token_f1(row["text"], row["answers"]) for row in rows]))
    return found


def _change(
    settings: Mapping[str, Any], a: Sequence[Row], b: Sequence[Row], better: str, seed: int
) -> dict[str, Any]:
    worse = 1.0 if better == "lower" else -1.0
    if _is_summary(a) or _is_summary(b):
        return _unpaired(settings, a, b, worse)
    mine, other = _matched(scores_of(settings, a), scores_of(settings, b))
    if not mine.items:
        return _unpaired(settings, a, b, worse)
    unit = {}
    if settings["kind"] == "perplexity" and (mine.wholes != other.wholes).any():
        mine, other = _matched(scores_of(settings, a, per_byte=True), scores_of(settings, b, per_byte=True))
        unit = {"unit": "nats a byte"}  # other tokens: likelihoods a token cannot be compared
    parts = mine.parts - other.parts
    interval = _interval(parts, mine.wholes, seed)
    worsened, bettered = int((worse * parts > 1e-12).sum()), int((worse * parts < -1e-12).sum())
    share = _is_share(settings, mine.parts) and _is_share(settings, other.parts)
    if share:
        interval = wider_for_few(interval, int((parts < 0).sum()), int((parts > 0).sum()))
    smallest = (
        None  # with none right before, none can be lost
        if share and not other.parts.any()
        else smallest_share_change(len(parts), (worsened + bettered) / len(parts))
        if share
        else smallest_change(parts, mine.wholes)
        if len(parts) > 1
        else None
    )
    return {
        **unit,
        **interval._asdict(),
        "wins": bettered,
        "losses": worsened,
        "p": sign_test(bettered, worsened),
        "smallest_loss": smallest,
        "forgotten": _is_worse(interval.low, interval.high, worse),
        "paired": True,
    }


def _unpaired(
    settings: Mapping[str, Any], a: Sequence[Row], b: Sequence[Row], worse: float
) -> dict[str, Any]:
    """The difference of two results with their standard errors, as if they were of two sets of items."""
    means = [_mean(settings, rows) for rows in (a, b)]
    value = means[0][0] - means[1][0]
    errors = [error for _, error, _ in means]
    counts = [n for *_, n in means if n]
    error = None if None in errors else float(np.linalg.norm([e or 0.0 for e in errors]))
    low, high = (None, None) if error is None else (value - Z * error, value + Z * error)
    p = 1.0 if not error else float(2.0 * ndtr(-abs(value) / error))
    return {
        "value": value,
        "low": low,
        "high": high,
        "n": min(counts, default=None),
        "wins": None,
        "losses": None,
        "p": p,
        "smallest_loss": None if error is None else float((Z + ndtri(0.8)) * error),
        "forgotten": low is not None and high is not None and _is_worse(low, high, worse),
        "paired": False,
    }


def _mean(settings: Mapping[str, Any], rows: Sequence[Row]) -> tuple[float, float | None, int | None]:
    """(mean, its standard error, items) of a summary, or of rows."""
    if _is_summary(rows):
        return rows[0]["value"], rows[0]["stderr"], rows[0]["n"]
    scores = scores_of(settings, rows).parts
    error = float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else None
    return float(scores.mean()), error, len(scores)


def _sentence(name: str, change: Mapping[str, Any], probe: Mapping[str, Any], tests: int) -> str:
    """The change in words, its uncertainty, and for no change what could have been seen."""
    a, b = change["a"], change["b"]
    share = probe["kind"] in ("choices", "exact_match")
    scale = 100.0 if share else 1.0
    unit = " points" if share else "" if probe["kind"] == "lm_eval" else f" {change['unit']}"
    said = {"perplexity": "negative log-likelihood"}.get(probe["kind"], change["unit"])
    what = f"{said} on {name}"

    def figure(value: float, sign: str = "") -> str:
        return f"{scale * value:{sign}.{1 if share else 3}f}".replace("-", "−")

    if change["low"] is None:
        return f"{what}: {figure(change['value'], '+')}{unit} from {b} to {a}, and the files have no errors."
    p = "p < 0.0001" if change["p_holm"] < 1e-4 else f"p = {change['p_holm']:.2g}"
    basis = [f"{change['n']:,} items" if change["n"] else "of an unknown number of items"]
    basis += [f"sign test {p}"] if change["paired"] else [f"unpaired, from standard errors, {p}"]
    basis += [f"corrected for {tests} comparisons"] if tests > 1 else []
    low, high = change["low"], change["high"]
    if low <= 0.0 <= high:
        least = change["smallest_loss"]
        floor = share and probe["models"][b]["value"] == 0.0
        seen = (
            f"no loss can show here: {b} got none right"
            if floor
            else "so few items show no loss at all"
            if least is None
            else f"a loss of {figure(least)}{unit} would have been seen with 80% chance"
        )
        interval = f"95% interval {figure(low, '+')} to {figure(high, '+')}"
        moved = f"{what} {figure(change['value'], '+')}{unit} ({interval}; {', '.join(basis)})"
        return f"No change of {a} against {b} is seen: {moved}; {seen}."
    near, far = sorted((abs(low), abs(high)))
    way = "higher" if low > 0.0 else "lower"
    moved = f"its {what} is {figure(abs(change['value']))}{unit} {way}"
    if change["unit"] == "nats a token":
        before, after = (probe["models"][m]["perplexity"] for m in (b, a))
        moved += f", perplexity {after:.4g} instead of {before:.4g}"
    moved += f" (95% interval {figure(near)} to {figure(far)}; {', '.join(basis)})"
    if not change["forgotten"]:
        return f"{a} is better than {b}: {moved}."
    if change["p_holm"] >= 0.05:
        return f"{a} may have forgotten what {b} knows, but that may be chance: {moved}."
    return f"{a} has forgotten what {b} knows: {moved}."


def _matched(a: Scores, b: Scores) -> tuple[Scores, Scores]:
    """Both on the items that they have in common, in a's order."""
    place = {item: i for i, item in enumerate(b.items)}
    common = [(i, place[item]) for i, item in enumerate(a.items) if item in place]
    mine, other = ([row[side] for row in common] for side in (0, 1))
    return (
        Scores([a.items[i] for i in mine], a.parts[mine], a.wholes[mine]),
        Scores([b.items[i] for i in other], b.parts[other], b.wholes[other]),
    )


def _right(rows: Iterable[Row], by_length: bool) -> Floats:
    """1 where the right choice is the likeliest, over its characters or not; the first of ties."""
    found = []
    for row in rows:
        scores = [
            total / max(1, len(choice)) if by_length else total
            for total, choice in zip(row["log_probs"], row["choices"], strict=True)
        ]
        found.append(float(int(np.argmax(scores)) == row["correct"]))
    return np.array(found)


def _interval(parts: Floats, wholes: Floats, seed: int) -> Any:
    if (wholes == 1.0).all():
        return bootstrap_interval(parts, seed=seed)
    return ratio_interval(parts, wholes, seed=seed)


def _is_share(settings: Mapping[str, Any], parts: Floats) -> bool:
    """Whether the figure is a share of items: each is right or wrong."""
    return settings["kind"] != "perplexity" and bool(np.isin(parts, (0.0, 1.0)).all())


def _is_worse(low: float, high: float, worse: float) -> bool:
    return low > 0 if worse > 0 else high < 0


def _is_summary(rows: Sequence[Row]) -> bool:
    return "stderr" in rows[0]


def _floats(values: Iterable[Any]) -> Floats:
    return np.array(list(values), dtype=np.float64)
