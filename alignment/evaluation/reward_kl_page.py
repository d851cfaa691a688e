"""The page of a reward-KL evaluation: the verdict, both rewards over √KL, and the figures."""

from __future__ import annotations

from typing import Any

import yaml

from alignment.evaluation.phrases import spread
from alignment.report import plots
from alignment.report.page import Page
from alignment.report.text import number, percent


def build_page(report: dict[str, Any]) -> Page:
    """The page of a reward_kl_figures.build_report."""
    count, judges = report["prompts"]["n"], report["judges"]
    page = Page(
        "Reward against KL",
        f"{len(report['checkpoints']) - 1} checkpoints and their base, {count:,} prompts; proxy: "
        f"{judges['proxy']['name']}; gold: {judges['gold']['name']}",
    )
    for verdict in report["verdict"]:
        page.verdict(verdict["text"], verdict["tone"], verdict["detail"])
    if report["warnings"]:
        page.heading("Before you rely on it")
        page.points(report["warnings"])
    page.heading("Reward over √KL")
    for role, what in (("gold", "The gold reward"), ("proxy", "The proxy reward, which was optimised")):
        page.figure(
            plots.curves(
                _series(report, role),
                x_label="√KL from the base (KL in nats an answer)",
                y_label=f"{role} reward gained",
                title=f"{role} reward gained over √KL",
                reference=0.0,
            ),
            f"{what}, gained over the base on the same prompts, with 95% intervals; the line is the fitted "
            "curve in its band.",
        )
    page.text(
        "Intervals resample prompts. A gold reward that bends down while the proxy still rises is what "
        "over-optimisation looks like (Gao et al. 2022)."
        + (
            " Best of n: the sample of n that the proxy likes best, drawn from the base; its KL is at most "
            "log n − (n − 1)/n, and is drawn there."
            if report["best_of_n"]
            else ""
        )
    )
    _points(page, report)
    _fits(page, report)
    page.heading("Judges")
    for role in ("proxy", "gold"):
        page.text(f"{role.capitalize()}: {judges[role]['statement']}")
    page.heading("How this was made")
    page.text(
        f"Prompts from {', '.join(report['prompts']['files'])}. Every answer is kept in completions.jsonl, "
        "and both rewards and the log-ratio of each in scores.jsonl, so each figure can be computed again "
        "without a model."
    )
    for value, title in (
        (report["config"], "The whole configuration"),
        (report["lineage"], "Where the models come from: stages, data with fingerprints, versions"),
    ):
        page.code(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100), title)
    return page


def _series(report: dict[str, Any], role: str) -> dict[str, plots.Curve]:
    gain = f"{role}_gain"
    points = [(p["root_kl"], *_ends(p[gain])) for p in report["checkpoints"]]
    series = {"checkpoints": plots.Curve(points, _line(report["fits"][role]))}
    best = report["best_of_n"]
    if best:
        points = [(kl**0.5, *_ends(g)) for kl, g in zip(best["kl"], best[gain], strict=True)]
        series[f"best of 1 to {best['n'][-1]}"] = plots.Curve(points, _line(best["fits"][role]))
    return series


def _ends(gain: dict[str, Any]) -> tuple[float, float, float]:
    return gain["value"], gain["low"], gain["high"]


def _line(fit: dict[str, Any] | None) -> Any:
    return None if fit is None else tuple(fit["curve"][key] for key in ("at", "value", "low", "high"))


def _points(page: Page, report: dict[str, Any]) -> None:
    rows = [
        [
            point["name"],
            spread(point["kl"]),
            spread(point["proxy_gain"]),
            spread(point["gold_gain"]),
            number(point["words"]),
            "–" if point["ended"] is None else percent(point["ended"]),
        ]
        for point in report["checkpoints"]
    ]
    heads = ["checkpoint", "KL, nats an answer", "proxy gained", "gold gained", "words", "ended"]
    page.table(heads, rows, caption="Gains are over the base, paired by prompt; 95% intervals.")
    best = report["best_of_n"]
    if best:
        rows = [
            [f"best of {n}", number(kl), spread(proxy), spread(gold)]
            for n, kl, proxy, gold in zip(
                best["n"], best["kl"], best["proxy_gain"], best["gold_gain"], strict=True
            )
        ]
        page.table(["best of n", "KL at most", "proxy gained", "gold gained"], rows)
    flagged = [pair for pair in report["pairs"] if pair["flagged"]]
    if flagged:
        rows = [[p["earlier"], p["later"], spread(p["proxy"]), spread(p["gold"])] for p in flagged]
        page.table(
            ["from", "to", "proxy changed by", "gold changed by"],
            rows,
            caption="Pairs of checkpoints that are flagged: proxy up, the gold's interval below zero. These "
            "intervals hold for all pairs together.",
        )


def _fits(page: Page, report: dict[str, Any]) -> None:
    fits = [("checkpoints", role, report["fits"][role]) for role in ("proxy", "gold")]
    if report["best_of_n"]:
        fits += [("best of n", role, report["best_of_n"]["fits"][role]) for role in ("proxy", "gold")]
    forms = {"rl": "d (α − β log d)", "bon": "d (α − β d)"}
    rows = [
        [
            f"{what}, {role}",
            forms[fit["form"]],
            spread(fit["alpha"]),
            spread(fit["beta"]),
            "rises without end" if fit["peak"] is None else number(fit["peak"]),
            number(fit["r_squared"]),
        ]
        for what, role, fit in fits
        if fit is not None
    ]
    if rows:
        page.heading("The fitted curves", 3)
        page.table(["curve", "form, d = √KL", "α", "β", "highest at √KL", "R²"], rows)
        page.text("β is what over-optimisation costs. Below zero the curve has not bent down yet.")
