"""Contamination: training rows that hold an evaluation prompt, told by shared runs of words.

A row is contaminated if one of its turns, or one of its completions, shares a run of `n` words with a turn
of an evaluation prompt; a shorter evaluation turn counts only where a whole training turn is the same.
System turns are left out on both sides. Source: Brown et al. 2020 (GPT-3), appendix C, which takes n = 13.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from alignment.data.records import Message, Record, record_id
from alignment.errors import UserError

N = 13
# Chinese, Japanese and Korean are not spaced: each character is a word.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
_SYSTEM = ("system", "developer")


class Overlap(NamedTuple):
    """Evaluation row `evaluation` and the words that it shares; `place` is where in the training row.

    whole: the training turn holds a whole turn of the evaluation prompt, not a run of its words alone.
    """

    evaluation: str
    shared: str
    place: str
    whole: bool


class Evaluation:
    """What the prompts of an evaluation set are known by: their runs of `n` words.

    Memory: about 200 bytes a word of the evaluation prompts. Raises UserError unless n >= 1.
    """

    def __init__(self, records: Iterable[Record], n: int = N) -> None:
        if n < 1:
            raise UserError(f"--n is {n}; it must be 1 or more words")
        self.n = n
        self.rows = 0
        self._runs: dict[str, str] = {}  # a run of n words -> the id of the first row that has it
        self._turns: dict[str, str] = {}  # a whole turn, of fewer words too
        self._lengths: dict[str, set[int]] = {}  # the first run of a turn -> how many words such turns have
        self._vocabulary: set[str] = set()
        for record in records:
            self.rows += 1
            for turn in _asked(record.prompt):
                self._learn(words(turn.content), record_id(record))

    def _learn(self, turn: list[str], name: str) -> None:
        if turn:
            self._turns.setdefault(" ".join(turn), name)
        if len(turn) >= self.n:
            self._lengths.setdefault(" ".join(turn[: self.n]), set()).add(len(turn))
            self._vocabulary.update(turn)
            for at in range(len(turn) - self.n + 1):
                self._runs.setdefault(" ".join(turn[at : at + self.n]), name)

    def overlap(self, record: Record) -> Overlap | None:
        """A prompt of which the record holds a whole turn, else a run of words, or None."""
        first = None
        for place, turns in [
            ("prompt", record.prompt),
            *((f"completions[{k}]", completion.turns()) for k, completion in enumerate(record.completions)),
        ]:
            for turn in _asked(turns):
                found = self._find(words(turn.content), place)
                if found and found.whole:
                    return found
                first = first or found
        return first

    def _find(self, turn: list[str], place: str) -> Overlap | None:
        if len(turn) < self.n:
            whole = " ".join(turn)
            return Overlap(self._turns[whole], whole, place, True) if whole in self._turns else None
        first = None
        # Only where n words in a row all occur in the evaluation set is the run itself looked up.
        known = 0
        for at, word in enumerate(turn):
            if word not in self._vocabulary:
                known = 0
                continue
            known += 1
            if known >= self.n:
                start = at - self.n + 1
                run = " ".join(turn[start : at + 1])
                for length in self._lengths.get(run, ()):
                    whole = " ".join(turn[start : start + length])
                    if whole in self._turns and start + length <= len(turn):
                        return Overlap(self._turns[whole], run, place, True)
                if first is None and run in self._runs:
                    first = Overlap(self._runs[run], run, place, False)
        return first


def words(text: str) -> list[str]:
    """The words of a text without case, punctuation and width of characters."""
    plain = text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(plain)


def _asked(turns: list[Message]) -> list[Message]:
    return [turn for turn in turns if turn.role not in _SYSTEM]
