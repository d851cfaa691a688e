"""Which of several answers a cell prefers, and the cell that says it; the targets stand in columns.py."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from alignment.data.formats import compared
from alignment.data.formats.column_names import NUMBERED, Names
from alignment.data.pairs import judgment_votes
from alignment.data.records import Comparison, Judgment
from alignment.errors import UserError

_TIES = ("tie", "tied", "both", "equal", "same", "draw")
_NUMBER = re.compile(r"([0-9]{1,9})(\.0)?")


def prefer(judgment: Judgment, value: Any, names: Names, target: str, where: str) -> None:
    """Put the preferred one of the numbered completions, or the tie, into the judgment. Raises UserError."""
    column = names[target]
    word = compared.text(value, where, column).strip()
    count = sum(NUMBERED.fullmatch(known) is not None for known in names)
    if target == "preference_signed":
        _prefer_signed(judgment, compared.number(word, where, column), count, where)
        return
    if not word:
        return
    first = 0 if target == "preference_from_0" else 1
    number = _NUMBER.fullmatch(word)
    if word.lower() in _TIES or (first and number and not int(number[1])):
        judgment.ranks = [1] * count
        return
    columns = [names[f"completion_{place}"].lower() for place in range(1, count + 1)]
    if word.lower() in columns:
        best = columns.index(word.lower())
    elif number:
        best = int(number[1]) - first
    else:
        best = "abcdefghi".find(word.lower()) if len(word) == 1 else -1
    if not 0 <= best < count:
        tie = "0" if first else "tie"
        raise UserError(
            f'{where}: "{column}" is {value!r}; give a number from {first} to {first + count - 1}, '
            f"or {tie} for a tie"
        )
    if count == 2:
        judgment.ranks = [2, 2]
        judgment.ranks[best] = 1
    else:  # the others are worse than the best; nobody said that they tie
        judgment.comparisons = [Comparison(best, other) for other in range(count) if other != best]


def doubt(names: Names, rows: list[dict[str, Any]]) -> str | None:
    """A warning where the first rows' preferences are 0 and 1, and 0 may well be the first and no tie."""
    column = names.get("preference", "")
    seen = {str(row[column]).removesuffix(".0") for row in rows if row.get(column) not in (None, "")}
    if seen != {"0", "1"}:
        return None
    return (
        f'"{column}" is 0 or 1 in the first rows, and 0 is read as a tie; where it is the number of an '
        f"answer, counted from 0, say --column preference_from_0={column}"
    )


def _prefer_signed(judgment: Judgment, strength: float | None, count: int, where: str) -> None:
    if count != 2:
        raise UserError(f"{where}: preference_signed goes with two completions, and there are {count}")
    if strength == 0:
        judgment.ranks = [1, 1]
    elif strength is not None:
        better = int(strength > 0)
        judgment.comparisons = [Comparison(better, 1 - better, strength=abs(strength))]


def preferred(judgment: Judgment, count: int, target: str) -> Any:
    """What a column of this target says: which completion beats all others, or a tie; None for neither."""
    votes = [] if judgment.all_bad else judgment_votes(judgment)
    if target == "preference_signed":
        if count != 2 or not votes or (votes[0].a, votes[0].b) != (0, 1):
            return None
        strength = int(votes[0].margin) if votes[0].margin == int(votes[0].margin) else votes[0].margin
        return 0 if votes[0].p == 0.5 else strength if votes[0].p < 0.5 else -strength
    first = 0 if target == "preference_from_0" else 1
    wins: Counter[int] = Counter()
    ties = 0
    for a, b, p, _ in votes:
        if a < count and b < count:
            ties += p == 0.5
            wins[a if p > 0.5 else b] += p != 0.5
    if ties and ties == count * (count - 1) // 2:
        return 0 if first else "tie"
    best = [index for index, times in wins.items() if times == count - 1]
    return best[0] + first if best else None
