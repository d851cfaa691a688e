"""What an evaluation left on disk, read again: its verdicts by comparison, its judge, its models.

Prompts are known by a hash of their text, so that those of two runs can be told to be the same whatever
their ids. Reading 100,000 verdicts takes under a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from alignment.errors import UserError
from alignment.evaluation.answers import prompt_key

VERDICTS, REPORT, COMPLETIONS = "verdicts.jsonl", "report.json", "completions.jsonl"
OTHER_JUDGE = (
    "other_judge"  # the `control` of verdicts that do not count: another judge's on the same answers
)


class Outcomes(NamedTuple):
    """The verdicts of one comparison, a row each: prompt (its key), which answer, and 1, 0.5 or 0 for `a`."""

    a: str
    b: str
    prompts: list[str]
    samples: list[int]
    outcomes: NDArray[np.float64]


class Said(NamedTuple):
    """An answer, and the messages before it."""

    messages: list[dict[str, Any]]
    text: str


@dataclass(frozen=True)
class Spoken:
    """What one judge said. scores: (model, prompt's key) -> one for each answer; {} where it gives none."""

    comparisons: dict[str, Outcomes]
    scores: dict[tuple[str, str], list[float]]


@dataclass(frozen=True)
class Stored:
    """A finished evaluation. keys: prompt id -> key. unread: verdicts without an outcome."""

    folder: str
    judge: str
    models: dict[str, str]
    config: dict[str, Any]
    keys: dict[str, str]
    comparisons: dict[str, Outcomes]
    unread: int


class _Verdict(msgspec.Struct):
    a: str
    b: str
    prompt: str
    outcome: float | None
    sample: int = 0
    control: str | None = None
    judge: str | None = None
    score_a: float | None = None
    score_b: float | None = None


class _Message(msgspec.Struct):
    role: str
    content: Any = None


class _Meta(msgspec.Struct):
    follow_ups: list[str] = []


class _Prompt(msgspec.Struct):
    prompt: list[_Message]
    id: str
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Source(msgspec.Struct):
    name: str | None = None


class _Completion(msgspec.Struct):
    content: str | None = None
    messages: list[_Message] | None = None
    source: _Source | None = None


class _Answered(msgspec.Struct):
    id: str
    completions: list[_Completion] = []


class _Whole(_Answered):
    prompt: list[_Message] = []


def read_stored(folder: str | Path) -> Stored:
    """The evaluation in a run directory. Raises UserError where it is none, unfinished, or damaged."""
    place = Path(folder)
    lacking = [name for name in (VERDICTS, REPORT) if not (place / name).is_file()]
    if lacking:
        raise UserError(f"{folder} is not a finished evaluation: it has no {' and no '.join(lacking)}")
    try:
        report = json.loads((place / REPORT).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{place / REPORT} is not JSON ({error}); evaluate again") from None
    config = report.get("config", {})
    keys = _prompt_keys(place / COMPLETIONS)
    rows: dict[tuple[str, str], tuple[list[str], list[int], list[float]]] = {}
    unread = 0
    for verdict in _lines(place / VERDICTS, _Verdict):
        if verdict.control is not None:
            continue
        if verdict.outcome is None:
            unread += 1
            continue
        prompts, samples, outcomes = rows.setdefault((verdict.a, verdict.b), ([], [], []))
        prompts.append(keys.get(verdict.prompt, verdict.prompt))
        samples.append(verdict.sample)
        outcomes.append(verdict.outcome)
    if not rows:
        raise UserError(f"{place / VERDICTS} holds no verdict")
    return Stored(
        str(folder),
        str(report.get("judge", {}).get("name", "unknown")),
        {str(name): str(path) for name, path in config.get("models", {}).items()},
        config,
        keys,
        {f"{a}_vs_{b}": Outcomes(a, b, p, s, np.array(o)) for (a, b), (p, s, o) in rows.items()},
        unread,
    )


def read_judges(run: Stored) -> dict[str, Spoken]:
    """What every judge of a run said, by the judge's name, the one whose verdict counts first."""
    rows: dict[str, dict[tuple[str, str], list[tuple[str, int, float]]]] = {run.judge: {}}
    scores: dict[str, dict[tuple[str, str, int], float]] = {run.judge: {}}
    for v in _lines(Path(run.folder) / VERDICTS, _Verdict):
        if v.outcome is None or v.control not in (None, OTHER_JUDGE):
            continue
        judge = run.judge if v.control is None else str(v.judge)
        key = run.keys.get(v.prompt, v.prompt)
        rows.setdefault(judge, {}).setdefault((v.a, v.b), []).append((key, v.sample, v.outcome))
        for name, score in ((v.a, v.score_a), (v.b, v.score_b)):
            if score is not None:
                scores.setdefault(judge, {})[name, key, v.sample] = score
    found = {}
    for judge, pairs in rows.items():
        by_prompt: dict[tuple[str, str], list[float]] = {}
        for (name, key, _), score in sorted(scores.get(judge, {}).items()):
            by_prompt.setdefault((name, key), []).append(score)
        comparisons = {}
        for (a, b), said in pairs.items():
            keys, samples, outcomes = map(list, zip(*said, strict=True))
            comparisons[f"{a}_vs_{b}"] = Outcomes(a, b, keys, samples, np.array(outcomes))
        found[judge] = Spoken(comparisons, by_prompt)
    return found


def read_texts(run: Stored) -> Iterator[tuple[str, dict[str, list[Said]]]]:
    """(prompt's key, the answers by model) of every prompt, in a stream; of several turns each is an answer.

    Raises UserError where the completions were not kept.
    """
    path = Path(run.folder) / COMPLETIONS
    if not path.is_file():
        raise UserError(f"{run.folder} has no {COMPLETIONS}, so its answers cannot be read again")
    for row in _lines(path, _Whole):
        answers: dict[str, list[Said]] = {}
        for completion in row.completions:
            if completion.source is None or completion.source.name is None:
                continue
            before = [{"role": m.role, "content": m.content} for m in row.prompt]
            for turn in completion.messages or [_Message("assistant", completion.content)]:
                if turn.role == "assistant":
                    said = Said([*before], str(turn.content or ""))
                    answers.setdefault(completion.source.name, []).append(said)
                before.append({"role": turn.role, "content": turn.content})
        yield run.keys[row.id], answers


def same_answers(first: Stored, second: Stored, names: Iterable[tuple[str, str]]) -> bool:
    """Whether these models (name in the first run, in the second) said the same on every common prompt.

    False where a run did not keep its completions.
    """
    pairs = set(names)
    try:
        before = {key: {a: _said(answers, a) for a, _ in pairs} for key, answers in read_texts(first)}
        common = [(before[key], answers) for key, answers in read_texts(second) if key in before]
    except UserError:
        return False
    return bool(common) and all(old[a] == _said(new, b) for old, new in common for a, b in pairs)


def _said(answers: dict[str, list[Said]], name: str) -> list[str]:
    return [said.text for said in answers.get(name, ())]


def find_stored(folders: Iterable[str | Path]) -> list[Stored]:
    """Every finished evaluation in the folders and below, by path. Raises UserError where there is none."""
    found: dict[Path, Path] = {}
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"{folder} is not a folder")
        for path in sorted(Path(folder).rglob(VERDICTS)):
            if (path.parent / REPORT).is_file():
                found.setdefault(path.parent.resolve(), path.parent)
    if not found:
        where = ", ".join(str(folder) for folder in folders)
        raise UserError(f"{where}: no finished evaluation (a folder with {VERDICTS} and {REPORT}) lies there")
    return [read_stored(folder) for folder in found.values()]


def read_lengths(run: Stored) -> dict[tuple[str, str], list[int]]:
    """(model, prompt's key) -> words of each of its answers; empty where the completions were not kept."""
    path = Path(run.folder) / COMPLETIONS
    lengths: dict[tuple[str, str], list[int]] = {}
    if path.is_file():
        for row in _lines(path, _Answered):
            for completion in row.completions:
                if completion.source is not None and completion.source.name is not None:
                    said = completion.messages or [_Message("assistant", completion.content)]
                    words = [len((m.content or "").split()) for m in said if m.role == "assistant"]
                    lengths.setdefault((completion.source.name, run.keys[row.id]), []).extend(words)
    return lengths


def _prompt_keys(path: Path) -> dict[str, str]:
    """id -> hash of the prompt's text; empty where the completions were not kept."""
    if not path.is_file():
        return {}
    return {
        row.id: prompt_key([{"role": m.role, "content": m.content} for m in row.prompt], row.meta.follow_ups)
        for row in _lines(path, _Prompt)
    }


def _lines(path: Path, kind: type[Any]) -> Iterable[Any]:
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise UserError(f"{path}, line {number}: {error}") from None
