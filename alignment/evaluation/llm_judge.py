"""A language model as judge, local or behind an address, by a template in a file.

A pairwise judge is asked twice, with the answers in both orders; a verdict that changes with the order is a
tie. A score judge rates each answer alone. Replies from which no verdict can be read count nowhere, and are
counted. How often the answer shown first won is kept: the report says whether the judge looks at places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from alignment.errors import UserError
from alignment.evaluation.answers import Answer, Prompt
from alignment.evaluation.judges import Verdict

TEMPLATES = Path(__file__).parent / "templates"
MEANINGS = {"first": 1.0, "tie": 0.5, "second": 0.0}
PLACES = {"pairwise": ("{prompt}", "{answer_a}", "{answer_b}"), "score": ("{prompt}", "{answer}")}

GOES_ON = (
    "\n\n[The conversation goes on. Each answer below is the whole of one, with what was asked next. Judge "
    "it as a whole, and above all its last reply.]"
)

# Questions (a list of messages each) -> the texts of the replies
Ask = Callable[[list[list[dict[str, str]]]], list[str]]


@dataclass(frozen=True)
class Template:
    """What a judge is told and how its reply is read; see templates/*.yaml.

    verdict: a regular expression with one group, whose last match in the reply counts. meaning: of what it
    matched, "first", "second" or "tie". scale: the least and the greatest score.
    """

    name: str
    kind: str
    user: str
    verdict: re.Pattern[str]
    system: str = ""
    meaning: dict[str, str] = field(default_factory=dict)
    scale: tuple[float, float] = (0.0, 0.0)

    @property
    def needs_reference(self) -> bool:
        return "{reference}" in self.user

    def question(self, prompt: Prompt, turn: int = 1, **answers: str) -> list[dict[str, str]]:
        """The messages that ask for a verdict. Braces in the texts are no places to be filled.

        turn: which of a conversation the answers are; for a later one they tell all of it (`conversation`).
        """
        asked = told(prompt.messages) + (GOES_ON if turn > 1 else "")
        reference = "\n\n".join(text for text in references(prompt, turn) if text)
        filled = {"prompt": asked, "reference": reference, **answers}
        pattern = re.compile("|".join(re.escape("{" + name + "}") for name in filled))
        user = pattern.sub(lambda match: filled[match[0][1:-1]], self.user)
        system = [{"role": "system", "content": self.system.strip()}] if self.system else []
        return [*system, {"role": "user", "content": user.strip()}]

    def read(self, reply: str) -> float | None:
        """1 first, 0.5 tie, 0 second; or the score; None where the reply holds no verdict."""
        found = self.verdict.findall(reply)
        if not found:
            return None
        if self.kind == "pairwise":
            return MEANINGS[self.meaning[found[-1]]] if found[-1] in self.meaning else None
        score = float(found[-1])
        return score if self.scale[0] <= score <= self.scale[1] else None


def load_template(name: str) -> Template:
    """A template of the package ("pairwise", "pairwise_reference", "score") or from a YAML file.

    Raises UserError for a file that is none.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else TEMPLATES / f"{name}.yaml"
    if not path.is_file():
        own = ", ".join(sorted(p.stem for p in TEMPLATES.glob("*.yaml")))
        raise UserError(f"there is no judge template {name!r}: give a YAML file or one of {own}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a YAML file: {error}") from None
    problem = _problem(content)
    if problem:
        raise UserError(f"{path}: {problem}")
    return Template(
        name=path.stem,
        kind=content["kind"],
        user=content["user"],
        verdict=re.compile(content["verdict"], re.MULTILINE),
        system=content.get("system", ""),
        meaning={str(key): value for key, value in content.get("meaning", {}).items()},
        scale=tuple(content.get("scale", (0.0, 0.0))),
    )


def _problem(content: Any) -> str | None:
    """What is wrong with the content of a template file, in words."""
    keys = {"kind", "system", "user", "verdict", "meaning", "scale"}
    if not isinstance(content, dict) or not {"kind", "user", "verdict"} <= content.keys():
        return "a judge template has at least kind, user and verdict"
    if content.keys() - keys:
        return f"unknown key {sorted(content.keys() - keys)[0]!r}; known are {', '.join(sorted(keys))}"
    if content["kind"] not in PLACES:
        return f"kind is pairwise or score, not {content['kind']!r}"
    for place in PLACES[content["kind"]]:
        if place not in str(content["user"]):
            return f"user lacks {place}, so the judge would not see it"
    try:
        groups = re.compile(str(content["verdict"])).groups
    except re.error as error:
        return f"verdict is no regular expression: {error}"
    if groups != 1:
        return f"verdict must have one group in parentheses, which is what is read; it has {groups}"
    if content["kind"] == "pairwise":
        meaning = content.get("meaning")
        if not isinstance(meaning, dict) or not set(meaning.values()) <= MEANINGS.keys() or len(meaning) < 2:
            return "meaning says of each verdict whether it is first, second or tie"
    elif not isinstance(content.get("scale"), list) or len(content["scale"]) != 2:
        return "scale names the least and the greatest score, such as [1, 10]"
    return None


def told(messages: Sequence[dict[str, Any]]) -> str:
    """A prompt as text: a single turn as it is, several with their roles."""
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)


def conversation(answer: Answer) -> str:
    """An answer as a judge reads it: after a follow-up, with the earlier answers and what was asked next."""
    headings = {"assistant": "[Reply]", "user": "[Asked next]"}
    said = "\n\n".join(f"{headings[role]}\n{text}" for role, text in answer.before)
    return f"{said}\n\n[Last reply]\n{answer.text}" if said else answer.text


def references(prompt: Prompt, turn: int) -> list[str | None]:
    """The reference answers of a conversation's turns up to `turn`."""
    return [prompt.reference, *(follow_up.reference for follow_up in prompt.follow_ups)][:turn]


class LlmJudge:
    """Compares two answers by what a language model says of them."""

    def __init__(self, name: str, template: Template, ask: Ask) -> None:
        self.name, self.template, self._ask = name, template, ask
        how = (
            "It sees both answers, in both orders; a verdict that changes with the order is a tie."
            if template.kind == "pairwise"
            else f"It scores each answer alone from {template.scale[0]:g} to {template.scale[1]:g}; the "
            "higher score wins, equal scores are a tie."
        )
        self.statement = f"The language model {name}, asked by the template {template.name}. {how}"
        self.asked = self.unread = self.changed = 0
        # (prompt's key, whether the answer shown first won: 1, 0.5, 0) of every reply that could be read
        self.first_won: list[tuple[str, float]] = []

    def __call__(self, prompts: Sequence[Prompt], a: Sequence[Answer], b: Sequence[Answer]) -> list[Verdict]:
        """One verdict each; an outcome of None where no verdict could be read."""
        if self.template.needs_reference:
            lacking = [
                p.id for p, answer in zip(prompts, a, strict=True) if not all(references(p, answer.turn))
            ]
            if lacking:
                raise UserError(
                    f"prompt {lacking[0]} has no reference answer (a demonstration) for each turn, which the "
                    f"template {self.template.name} shows the judge"
                )
        return self._by_score(prompts, a, b) if self.template.kind == "score" else self._paired(prompts, a, b)

    def _paired(self, prompts: Sequence[Prompt], a: Sequence[Answer], b: Sequence[Answer]) -> list[Verdict]:
        questions = []
        for prompt, x, y in zip(prompts, a, b, strict=True):
            for first, second in ((x, y), (y, x)):
                texts = {"answer_a": conversation(first), "answer_b": conversation(second)}
                questions.append(self.template.question(prompt, x.turn, **texts))
        read = self._readings(questions)
        verdicts = []
        for i, prompt in enumerate(prompts):
            one, two = read[2 * i], read[2 * i + 1]  # of the first-shown: a, then b
            self.first_won += [(prompt.key, value) for value in (one, two) if value is not None]
            if one is None or two is None:
                verdicts.append(Verdict(None))
                continue
            self.changed += one != 1 - two
            verdicts.append(Verdict(one if one == 1 - two else 0.5))
        return verdicts

    def _by_score(self, prompts: Sequence[Prompt], a: Sequence[Answer], b: Sequence[Answer]) -> list[Verdict]:
        pairs = [(p, answer) for p, x, y in zip(prompts, a, b, strict=True) for answer in (x, y)]
        read = self._readings(
            [self.template.question(p, answer.turn, answer=conversation(answer)) for p, answer in pairs]
        )
        return [
            Verdict(None, x, y) if x is None or y is None else Verdict(0.5 + 0.5 * ((x > y) - (x < y)), x, y)
            for x, y in zip(read[::2], read[1::2], strict=True)
        ]

    def _readings(self, questions: list[list[dict[str, str]]]) -> list[float | None]:
        read = [self.template.read(reply) for reply in self._ask(questions)]
        self.asked += len(read)
        self.unread += sum(value is None for value in read)
        return read
