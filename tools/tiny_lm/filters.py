"""Which of the teacher's texts are kept: plain English, finished, not looping, not told before."""

from __future__ import annotations

import re
from collections import Counter
from hashlib import blake2b

SPACES = re.compile(r"[ \t]+")
WORD = re.compile(r"[A-Za-z']+")
# what a helpful assistant says and a story does not; markdown, lists, code, placeholders, titles
JUNK = re.compile(
    r"as an ai|language model|i'm sorry|i am sorry, but|i cannot|i can't (?:help|assist|provide)|here(?:'s| is| are) (?:a|an|the|some|your|my)"
    r"|sure[,!]|certainly[,!]|of course[,!] here|title:|prompt|smollm|hugging face|assistant|\bthe user\b|paragraph|sentence"
    r"|\[|\]|\{|\}|<|>|\*|#|`|_|\||=|https?:|www\.|\n\s*(?:-|\d+[.)])|^(?:-|\d+[.)])|:\s*$",
    re.IGNORECASE,
)
PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "..."})


def clean(text: str) -> str:
    """Plain quotes and dashes, single spaces, at most one empty line between paragraphs."""
    text = SPACES.sub(" ", text.translate(PLAIN)).strip()
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{2,}", "\n\n", text)


def rejected(text: str, min_words: int = 12) -> str:
    """Why a cleaned text is dropped, or '' to keep it."""
    if not text.isascii():
        return "non-ascii"
    if JUNK.search(text):
        return "junk"
    words = WORD.findall(text.lower())
    if len(words) < min_words:
        return "short"
    if text[-1] not in ".!?\"'" or text[-2:] in (",'", ',"'):
        return "unfinished"
    if not (text[0].isupper() or text[0] in "\"'"):
        return "start"
    if max(len(word) for word in words) > 18 or sum(c.isdigit() for c in text) > 8:
        return "odd"
    grams = Counter(zip(words, words[1:], words[2:], strict=False))
    if len(grams) < 0.8 * (len(words) - 2) or max(grams.values()) > 4:
        return "looping"
    return ""


def keys_of(text: str) -> tuple[bytes, bytes, bytes]:
    """Hashes of all the words, of the opening and of the ending; made in the worker processes."""
    words = WORD.findall(text.lower())
    return _hash(words), _hash(["o", *words[:8]]), _hash(["e", *words[-12:]])


def _hash(words: list[str]) -> bytes:
    return blake2b(" ".join(words).encode(), digest_size=8).digest()


class Seen:
    """Drops exact and near duplicates: the same words, or an opening or ending told too often."""

    def __init__(self, openings: int = 40, endings: int = 8) -> None:
        self.whole: set[bytes] = set()
        self.counts: Counter[bytes] = Counter()
        self.openings, self.endings = openings, endings

    def again(self, keys: tuple[bytes, bytes, bytes]) -> str:
        """Why the text with these keys counts as a duplicate, or '' (and it is remembered)."""
        whole, opening, ending = keys
        if whole in self.whole:
            return "same"
        if self.counts[opening] >= self.openings:
            return "opening"
        if self.counts[ending] >= self.endings:
            return "ending"
        self.whole.add(whole)
        self.counts[opening] += 1
        self.counts[ending] += 1
        return ""
