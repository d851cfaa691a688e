"""Which languages a dataset is in, told offline by py3langid from the start of each text."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

TOO_SHORT = "too short to tell"
UNSURE = "unsure"
LEAST_LETTERS = 12
LOOKED_AT = 400  # characters
CONFIDENT = 0.5


def language(text: str) -> str:
    """A text's language (ISO 639 code); UNSURE below a probability of 0.5, TOO_SHORT for a few letters.

    Chinese, Japanese and Korean say as much in a third of the letters, so 4 of theirs are enough.
    """
    start = text[:LOOKED_AT]
    letters = sum(3 if ord(character) > 0x2E80 else 1 for character in start if character.isalpha())
    if letters < LEAST_LETTERS:
        return TOO_SHORT
    code, probability = _classifier()(start)
    return UNSURE if probability < CONFIDENT or code in ("zxx", "und") else code


@cache
def _classifier() -> Callable[[str], tuple[str, float]]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    classify: Callable[[str], tuple[str, float]] = LanguageIdentifier.from_model_file(
        MODEL_FILE, norm_probs=True
    ).classify
    return classify
