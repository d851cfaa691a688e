"""Judges: callables that say, for each prompt, which of two answers is the better one.

A judge is called with prompts and two lists of answers and gives one `Verdict` each. It has a `name` and a
`statement`, the words with which the report introduces it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from alignment.errors import UserError
from alignment.evaluation.answers import Answer, Prompt, asked

Score = Callable[[list[list[dict[str, Any]]], list[str], list[bool]], list[float]]


class Verdict(NamedTuple):
    """outcome: 1 the first answer is better, 0.5 tie, 0 the second, None where no verdict could be read; the
    scores, where the judge gives any."""

    outcome: float | None
    score_a: float | None = None
    score_b: float | None = None


class Judge(Protocol):
    """What compares answers in pairs."""

    name: str
    statement: str

    def __call__(
        self, prompts: Sequence[Prompt], a: Sequence[Answer], b: Sequence[Answer]
    ) -> list[Verdict]: ...


class ScoreJudge:
    """Compares the scores that each answer gets on its own; equal scores tie. No text is scored twice."""

    def __init__(self, name: str, statement: str, score: Score) -> None:
        self.name, self.statement = name, statement
        self._score = score
        self._known: dict[tuple[str, Any, str, bool], float] = {}

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[Answer], b: Sequence[Answer]) -> list[Verdict]:
        first, second = self.scores(prompts, a), self.scores(prompts, b)
        return [Verdict(0.5 + 0.5 * ((x > y) - (x < y)), x, y) for x, y in zip(first, second, strict=True)]

    def scores(self, prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[float]:
        """One score an answer. An answer of which it is not known whether it ended counts as ended.

        Raises UserError for a score that is not a finite number.
        """
        rows = list(zip(prompts, answers, strict=True))
        keys = [(p.key, a.before, a.text, a.finished is not False) for p, a in rows]
        missing = {k: asked(*row) for k, row in zip(keys, rows, strict=True) if k not in self._known}
        if missing:
            made = self._score(list(missing.values()), [k[2] for k in missing], [k[3] for k in missing])
            self._known.update(zip(missing, made, strict=True))
        for key, prompt in zip(keys, prompts, strict=True):
            if not math.isfinite(self._known[key]):
                raise UserError(
                    f"the judge {self.name} gave {self._known[key]} for an answer to prompt {prompt.id}: "
                    "such a model cannot judge"
                )
        return [self._known[key] for key in keys]


def program_judge() -> ScoreJudge:
    """The programmatic judge of `program.py`, a stated rule that reads the request in the prompt."""
    from alignment.evaluation import program

    def score(prompts: list[list[dict[str, Any]]], texts: list[str], finished: list[bool]) -> list[float]:
        return [program.judge(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]

    return ScoreJudge(
        "program",
        "A program that follows a stated rule. It reads what the prompt asks for (things to mention, number "
        "of sentences) and scores each answer from 0 to 1 by how much of that it does, its length, its "
        "ending, and the absence of repetition and of phrases copied from the prompt. The answer with the "
        "higher score wins; equal scores are a tie. It does not understand the text.",
        score,
    )


def reward_judge(path: str) -> ScoreJudge:
    """A reward model as judge. Raises UserError when `path` holds none."""
    from alignment.backend.scoring import load_scorer

    scorer = load_scorer(path)
    return ScoreJudge(
        f"reward model {path}",
        f"The reward model {path}. It gives each answer a score; the answer with the higher score wins, "
        "equal scores are a tie. A policy that was trained against this very reward model looks better to "
        "it than it is.",
        scorer.score,
    )
