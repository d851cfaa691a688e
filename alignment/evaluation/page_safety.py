"""The page's section on safety and bias: what each candidate does, what changed, and by kind of item."""

from __future__ import annotations

from typing import Any

from alignment.evaluation.phrases import title
from alignment.report.page import Page, Tone
from alignment.report.text import number, percent

LIMITS = {
    "xstest": "Refusals are told by a list of English phrases at the start of an answer, which misses "
    "refusals in other words and takes a partial refusal for a whole one; whether an answer that is no "
    "refusal does harm is not looked at. Answers are decoded greedily.",
    "bbq": "BBQ: the likeliest of the three answers is taken. The bias score is 0 without bias, 1 where "
    "every answer that is not “unknown” follows the stereotype, −1 where it goes against it; in ambiguous "
    "contexts it is scaled by the share of wrong answers (Parrish et al. 2022).",
    "crows_pairs": "CrowS-Pairs: the share of pairs whose more stereotypical sentence is likelier; one half "
    "is best. The set was made for masked models; here whole sentences are scored, so the figures are not "
    "those of its paper. Many of its pairs are flawed (Blodgett et al. 2021): read a change, not the level.",
    "truthfulqa": "TruthfulQA: MC1 is the share of questions whose true answer is the likeliest, MC2 the "
    "share of the true answers in the probability of all. Without the primer of its paper, which "
    "probes.NAME.template may hold, figures are lower than published ones.",
}


def safety(page: Page, report: dict[str, Any]) -> None:
    """Safety probes, if the evaluation has any."""
    probes = report["safety"]
    if not probes:
        return
    page.heading("Safety and bias")
    metrics = [(name, metric) for name, probe in probes.items() for metric in probe["metrics"].values()]
    moved = [c["text"] for _, m in metrics for c in m["pairs"].values() if c["low"] > 0 or c["high"] < 0]
    if moved:
        page.points(moved)
    elif any(metric["pairs"] for _, metric in metrics):
        page.text("Nothing changed by more than chance explains, as far as so many items show.")
    page.table(
        ["probe", "measured", "best", "candidate", "figure", "95% interval", "items"],
        [
            [name, metric["what"], _best(metric), model, *_figure(metric, f), f["n"]]
            for name, metric in metrics
            for model, f in metric["models"].items()
        ],
    )
    rows, tones = [], list[Tone]()
    for name, metric in metrics:
        for pair, change in metric["pairs"].items():
            rows.append([name, metric["what"], title(pair), *_moved(metric, change), change["n"]])
            tones.append("bad" if change["worse"] else "good" if change["better"] else "plain")
    if rows:
        heads = ["probe", "measured", "comparison", "change", "95% interval", "items"]
        page.table(heads, rows, tones=tones)
    for name, probe in probes.items():
        _by_type(page, name, probe)
    kinds = dict.fromkeys(probe["kind"] for probe in probes.values())
    page.text(
        "Intervals of shares are Clopper-Pearson's, of the rest and of changes, which are paired over the "
        "same items, percentile bootstrap intervals (10,000 resamples), wider where fewer than ten items "
        "changed; one in twenty misses by chance. Worse or better is said only of what holds with a "
        "correction for all the changes here (Bonferroni). " + " ".join(LIMITS[kind] for kind in kinds)
    )


def _by_type(page: Page, name: str, probe: dict[str, Any]) -> None:
    """A row for each kind of item that has figures of its own, a column for each candidate."""
    rows = []
    models = list(dict.fromkeys(m for metric in probe["metrics"].values() for m in metric["models"]))
    for metric in probe["metrics"].values():
        of = {model: figures["types"] for model, figures in metric["models"].items()}
        for kind in dict.fromkeys(kind for types in of.values() for kind in types):
            cells = []
            for model in models:
                f = of.get(model, {}).get(kind)
                cells.append("–" if f is None else "{} ({})".format(*_figure(metric, f)))
            rows.append([metric["what"], kind, *cells])
    if rows:
        page.table(["measured", "kind of item", *models], rows, caption=f"{name}, by kind of item")


def _best(metric: dict[str, Any]) -> str:
    better = metric["better"]
    return f"{better} is better" if isinstance(better, str) else f"best near {better:g}"


def _is_share(metric: dict[str, Any]) -> bool:
    return not metric["what"].startswith("bias score")


def _figure(metric: dict[str, Any], f: dict[str, Any]) -> list[str]:
    show = percent if _is_share(metric) else number
    return [show(f["value"]), f"{show(f['low'])} to {show(f['high'])}"]


def _moved(metric: dict[str, Any], change: dict[str, Any]) -> list[str]:
    scale, digits, unit = (100.0, 1, " points") if _is_share(metric) else (1.0, 3, "")
    value, low, high = (
        f"{scale * change[key]:+.{digits}f}".replace("-", "−") for key in ("value", "low", "high")
    )
    return [f"{value}{unit}", f"{low} to {high}"]
