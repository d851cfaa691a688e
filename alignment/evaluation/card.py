"""The evaluation as Markdown, for a model's card: the verdict, a table, and what to know before."""

from __future__ import annotations

import re
from typing import Any

from alignment.evaluation.phrases import covers, shares, spread, title
from alignment.report.text import number, percent

_MARKS = re.compile(r"([\\`*_\[\]<>|#])")


def card(report: dict[str, Any]) -> str:
    """A section of Markdown from the content of report.json; nothing in a name or a text is markup."""
    prompts, judge = report["prompts"], report["judge"]
    blocks = ["## Evaluation"]
    blocks += [f"**{plain(verdict['text'])}** {plain(verdict['detail'])}" for verdict in report["verdict"]]
    rows = [
        [
            title(name),
            *shares(rate),
            report["statistics"][name]["wins"],
            rate["ties"],
            report["statistics"][name]["losses"],
            _p(report["sign_test"][name]["p_holm"]),
        ]
        for name, rate in report["win_rate"].items()
    ]
    rows += [
        [f"{title(name)}, {over['n']} seeds", *shares({**over, "rate": over["value"]}), "", "", "", ""]
        for name, over in report["over_seeds"].items()
    ]
    blocks.append(_table(["comparison", "win rate", "95% interval", "won", "tied", "lost", "p"], rows))
    blocks.append(_candidates(report))
    blocks.append(
        plain(
            f"{prompts['n']:,} prompts from {', '.join(prompts['files'])}, {report['samples_per_prompt']} "
            f"answer{'' if report['samples_per_prompt'] == 1 else 's'} of each model to each. A tie counts "
            "as half a win; p is of an exact sign test over prompts, corrected for the number of "
            f"comparisons. Judge: {judge['statement']}"
        )
    )
    blocks.append(plain(covers(report)))
    if report["warnings"]:
        blocks.append("Before you rely on it:")
        blocks.append("\n".join(f"- {plain(warning)}" for warning in report["warnings"]))
    return "\n\n".join(blocks) + "\n"


def plain(text: str) -> str:
    """The text as Markdown that shows it as it is, on one line."""
    return _MARKS.sub(r"\\\1", " ".join(text.split()))


def _candidates(report: dict[str, Any]) -> str:
    heads = ["model", "KL from its parent, nats an answer", "words", "ended by itself", "judge's score"]
    rows = []
    for name in report["config"]["models"]:
        figures = report["stages"][name]
        kl, words, score = figures["kl_interval"], figures["words"], figures["score"]
        rows.append(
            [
                name,
                "–" if kl is None else f"{spread(kl)} from {figures['parent']}",
                "–" if words is None else number(words["value"]),
                percent(figures["eos_rate"]),
                "–" if score is None else spread(score),
            ]
        )
    known = [i for i in range(len(heads)) if any(row[i] != "–" for row in rows)]
    return _table([heads[i] for i in known], [[row[i] for i in known] for row in rows])


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else number(value)


def _table(heads: list[str], rows: list[list[Any]]) -> str:
    lines = [[plain(str(cell)) for cell in row] for row in ([heads, *rows])]
    lines.insert(1, ["---"] * len(heads))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
