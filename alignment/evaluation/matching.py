"""Whether an answer is the expected one: as SQuAD compares texts, and by the last number, as for GSM8K."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NUMBER = re.compile(r"(?:(?<![\d)])-)?\$?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")


def normalised(text: str) -> str:
    """Lower case, without punctuation and the articles a, an, the, one blank between words.

    Source: SQuAD's evaluate-v1.1.py, `normalize_answer`.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(text: str, answers: Sequence[str]) -> bool:
    """Whether the normalised text is one of the normalised answers."""
    return normalised(text) in {normalised(answer) for answer in answers}


def token_f1(text: str, answers: Sequence[str]) -> float:
    """The best F1 of the text's normalised words against any answer's; 1 where both have none.

    Source: SQuAD's evaluate-v2.0.py, `compute_f1`.
    """
    return max(_f1(normalised(text).split(), normalised(answer).split()) for answer in answers)


def _f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2.0 * shared / (len(found) + len(wanted))


def last_number(text: str) -> Decimal | None:
    """The number after the last "####", or else the last one in the text; None without one.

    1,234 and $1234.00 are the same number; a percent sign or unit after it is not looked at.
    Source: Cobbe et al. 2021 (GSM8K), whose answers end in "#### NUMBER".
    """
    found = _NUMBER.findall(text.rpartition("####")[2]) or _NUMBER.findall(text)
    return Decimal(found[-1].replace(",", "").replace("$", "")) if found else None


def number_match(text: str, answers: Sequence[str]) -> bool:
    """Whether the last number of the text is that of one of the answers."""
    number = last_number(text)
    return number is not None and number in {last_number(answer) for answer in answers}


RULES: dict[str, Callable[[str, Sequence[str]], bool]] = {"text": exact_match, "number": number_match}
