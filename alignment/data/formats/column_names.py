"""Which column of a table is what: the usual names, and the `--column TARGET=COLUMN` options."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from alignment.data.records import nearest
from alignment.errors import UserError

Names = dict[str, str]
"""Target: column. The targets are explained in columns.py."""

TARGETS = (
    "prompt", "system", "context", "demonstration", "completion", "label", "rating", "chosen", "rejected",
    "completion_1", "completion_2", "preference", "judge", "id", "tags",
)  # fmt: skip
NUMBERED = re.compile(r"completion_([1-9][0-9]?)")
_OPEN = re.compile(r"(meta|rating)\..+", re.DOTALL)
_PROMPTS = ("prompt", "question", "instruction", "query", "problem", "input", "user")
_ANSWERS = (
    "completion", "response", "answer", "output", "reply", "solution", "assistant", "target", "demonstration",
)  # fmt: skip
_PAIRS = (
    ("chosen", "rejected"),
    ("accepted", "rejected"),
    ("preferred", "dispreferred"),
    ("better", "worse"),
)


def usual_names(row: dict[str, Any]) -> Names | None:
    """The mapping where a row has a prompt and an answer, or a pair of answers, under usual names."""
    lower = {key.strip().lower(): key for key in row}
    prompt = next((name for name in _PROMPTS if name in lower), None)
    if prompt is None:
        return None
    names = {"prompt": lower[prompt]}
    names |= {target: lower[target] for target in ("system", "context") if target in lower}
    if "system" not in names and "system_prompt" in lower:
        names["system"] = lower["system_prompt"]
    further = {target: lower[target] for target in ("preference", "judge") if target in lower}
    if "completion_1" in lower and "completion_2" in lower:
        numbered = [f"completion_{number}" for number in range(1, len(row))]
        return names | {target: lower[target] for target in numbered if target in lower} | further
    if "completion" in lower and "label" in lower:
        return names | {"completion": lower["completion"], "label": lower["label"]}
    for better, worse in _PAIRS:
        if better in lower and worse in lower:
            return names | {"chosen": lower[better], "rejected": lower[worse]}
    answer = next((name for name in _ANSWERS if name in lower), None)
    return None if answer is None else names | {"demonstration": lower[answer]}


def parse_mapping(given: Iterable[str]) -> Names:
    """The mapping of `--column TARGET=COLUMN` options.

    Raises UserError for what is none, is given twice, or does not go together.
    """
    names: Names = {}
    for option in given:
        target, equals, column = option.partition("=")
        if not equals or not column:
            raise UserError(f'--column {option}: write it as TARGET=COLUMN, for example "prompt=question"')
        if target not in TARGETS and not NUMBERED.fullmatch(target) and not _OPEN.fullmatch(target):
            known = {*TARGETS, "rating.NAME", "meta.NAME"}
            raise UserError(f'--column {option}: there is no target "{target}"{nearest(target, known)}')
        if target in names:
            raise UserError(f'--column {option}: the target "{target}" is given twice')
        if column in names.values():
            raise UserError(f'--column {option}: the column "{column}" is given twice')
        names[target] = column
    _check(names)
    return names


def _check(names: Names) -> None:
    """Raise UserError where targets do not go together."""
    if "prompt" not in names:
        raise UserError("--column: say which column is the prompt: --column prompt=COLUMN")
    if ("chosen" in names) != ("rejected" in names):
        raise UserError("--column: chosen and rejected go together, and one is missing")
    numbered = sorted(int(found[1]) for target in names if (found := NUMBERED.fullmatch(target)))
    if numbered and numbered != list(range(1, len(numbered) + 1)):
        raise UserError("--column: number the completions from completion_1 on, without gaps")
    if "preference" in names and len(numbered) < 2:
        raise UserError("--column: preference needs completion_1 and completion_2")
    rated = [target for target in names if target == "label" or target.partition(".")[0] == "rating"]
    if rated and "completion" not in names:
        raise UserError(
            f"--column: {rated[0]} says something of a completion; name it: --column completion=COLUMN"
        )
    kinds = {"demonstration", "completion", "chosen", "completion_1"} & names.keys()
    if len(kinds - {"demonstration"}) > 1:
        raise UserError(f"--column: choose one of {', '.join(sorted(kinds))}")
