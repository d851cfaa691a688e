"""How names and intervals are written on the page and in the model card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignment.report.text import number, percent


def title(name: str) -> str:
    return name.replace("_vs_", " against ")


def listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def shares(rate: dict[str, Any]) -> tuple[str, str]:
    return percent(rate["rate"]), f"{percent(rate['low'])} to {percent(rate['high'])}"


def spread(interval: dict[str, Any]) -> str:
    return f"{number(interval['value'])} [{number(interval['low'])}, {number(interval['high'])}]"


def signed(interval: dict[str, Any]) -> str:
    return f"{'+' if interval['value'] > 0 else ''}{spread(interval)}"


def covers(report: dict[str, Any]) -> str:
    """What the intervals are about."""
    if report["over_seeds"]:
        return (
            "Intervals over seeds say how far the figures would move with other "
            "prompts of this kind and another training seed; all others cover other prompts alone. None "
            "covers another judge."
        )
    return (
        "The intervals say how far the figures would move with other prompts of this kind. "
        "They do not cover another training seed, which may move them more, nor another judge."
    )
