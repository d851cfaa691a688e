"""Which column of a table is what: the usual names, and the `--column TARGET=COLUMN` options."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from alignment.data.records import nearest
from alignment.errors import UserError

Names = dict[str, str]
"""Target: column. The targets are explained in columns.py."""

TARGETS = (
    "prompt", "system", "context", "demonstration", "completion", "label", "rating", "chosen", "rejected",
    "completion_1", "completion_2", "preference", "preference_from_0", "preference_signed", "judge", "id",
    "tags",
)  # fmt: skip
PREFERENCES = ("preference", "preference_from_0", "preference_signed")
NUMBERED = re.compile(r"completion_([1-9][0-9]?)")
_OPEN = re.compile(r"(meta|rating)\..+", re.DOTALL)
_PROMPTS = ("prompt", "question", "instruction", "query", "problem", "input", "user")
_ANSWERS = (
    "completion", "response", "answer", "output", "reply", "solution", "assistant", "target", "demonstration",
    "generation",
)  # fmt: skip
# Answers side by side: "response_1", "Answer B", "output0", …, and what says which of them is better.
_ANSWER = re.compile(
    r"(?:model[ _-]?)?(response|answer|completion|output|reply|generation|summary)[ _-]?([0-9a-i])"
)
_BETTER = (
    "preference", "preferred", "winner", "choice", "better", "best", "label", "vote", "preferred_response",
    "preferred response", "better_response", "better response", "better_response_id", "human_preference",
)  # fmt: skip
# HelpSteer's: from -3, the first is much better, to 3.
_SIGNED = ("preference_strength", "overall_preference")
# What says how good an answer is that nobody is to imitate for being there.
_RATINGS = (
    "rating", "score", "quality", "helpfulness", "correctness", "coherence", "complexity", "verbosity",
    "harmlessness", "honesty", "truthfulness", "instruction_following",
)  # fmt: skip
_LABELS = ("label", "is_safe", "safe", "is_good", "is_correct", "correct", "accepted", "thumbs_up")
_WORDS = ("true", "false", "yes", "no", "good", "bad", "none")
_JUDGES = ("judge", "annotator", "annotator_id", "rater", "worker")
_PAIRS = (
    ("chosen", "rejected"),
    ("accepted", "rejected"),
    ("preferred", "dispreferred"),
    ("better", "worse"),
)


def usual_names(row: dict[str, Any]) -> Names | None:
    """The mapping where a row has a prompt and an answer, or several answers, under usual names.

    Answers side by side need a column that says which is better; an answer beside ratings, or a label of
    true and false, is judged by these, and is no demonstration.
    """
    lower = {key.strip().lower(): key for key in row}
    prompt = next((name for name in _PROMPTS if name in lower), None)
    if prompt is None and is_conversation(row.get("context")):
        prompt = "context"
    if prompt is None:
        return None
    names = {"prompt": lower[prompt]}
    names |= {name: lower[name] for name in ("system", "context") if name in lower and name != prompt}
    if prompt == "instruction" and "input" in lower:  # Alpaca's, beside answers that it does not have
        names.setdefault("context", lower["input"])
    if "system" not in names and "system_prompt" in lower:
        names["system"] = lower["system_prompt"]
    judges = [lower[name] for name in _JUDGES if name in lower]
    judge = {"judge": judges[0]} if judges else {}
    if "completion_1" in lower and "completion_2" in lower:
        numbered = [*(f"completion_{number}" for number in range(1, len(row))), *PREFERENCES]
        return names | {target: lower[target] for target in numbered if target in lower} | judge
    several = _side_by_side(lower)
    if several is not None:
        return names | several | judge
    if "completion" in lower and "label" in lower:
        return names | {"completion": lower["completion"], "label": lower["label"]}
    for better, worse in _PAIRS:
        if better in lower and worse in lower:
            return names | {"chosen": lower[better], "rejected": lower[worse]}
    answer = next((name for name in _ANSWERS if name in lower), None)
    if answer is None:
        return None
    judged = _judged(row, lower)
    return names | ({"completion": lower[answer]} | judged if judged else {"demonstration": lower[answer]})


def _side_by_side(lower: Names) -> Names | None:
    """Answers called alike but for a number or a letter, with the column that says which is better."""
    kinds: dict[str, dict[str, str]] = {}
    for name in lower:
        if found := _ANSWER.fullmatch(name):
            kinds.setdefault(found[1], {})[found[2]] = lower[name]
    for columns in kinds.values():
        ends = "".join(sorted(columns))
        if len(ends) < 2 or not any(row.startswith(ends) for row in ("0123456789", "123456789", "abcdefghi")):
            continue
        names = {f"completion_{place}": columns[end] for place, end in enumerate(ends, 1)}
        better = next((lower[name] for name in _BETTER if name in lower), None)
        if better is not None:
            return names | {"preference_from_0" if ends[0] == "0" else "preference": better}
        signed = next((lower[name] for name in _SIGNED if name in lower), None)
        if signed is not None and len(ends) == 2:
            return names | {"preference_signed": signed}
    return None


def _judged(row: dict[str, Any], lower: Names) -> Names:
    """The columns that say how good the answer is; a null is a judgment that was not made."""
    judged = {}
    for name in _LABELS:
        words = _WORDS if name == "label" else (*_WORDS, "1", "0", "")
        if name in lower and str(row[lower[name]]).lower() in words:
            judged["label"] = lower[name]
    for name in _RATINGS:
        if name in lower and _is_number(row[lower[name]]):
            judged["rating" if name == "rating" else f"rating.{name}"] = lower[name]
    return judged


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(t, dict) and "role" in t for t in value)


def _is_number(value: Any) -> bool:
    if value in (None, ""):
        return True
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


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
    stated = [target for target in PREFERENCES if target in names]
    if stated and len(numbered) < 2:
        raise UserError(f"--column: {stated[0]} needs completion_1 and completion_2")
    if len(stated) > 1:
        raise UserError(f"--column: choose one of {', '.join(stated)}")
    rated = [target for target in names if target == "label" or target.partition(".")[0] == "rating"]
    if rated and "completion" not in names:
        raise UserError(
            f"--column: {rated[0]} says something of a completion; name it: --column completion=COLUMN"
        )
    kinds = {"demonstration", "completion", "chosen", "completion_1"} & names.keys()
    if len(kinds - {"demonstration"}) > 1:
        raise UserError(f"--column: choose one of {', '.join(sorted(kinds))}")
