"""Two models' completions for the same prompts become records of two outputs, for a blind comparison.

Each completion keeps its model's name as its source, which no page shows and the export gives back: who won
is to be read from the exported records alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from alignment.data.merge import with_distinct_ids
from alignment.data.records import Completion, Record, Source
from alignment.errors import UserError
from labeling_app import imports
from labeling_app.store import audit


class Compared:
    """The records of a comparison, read when they are asked for, and what did not become one.

    names: of the models; by default the only source that a file names, else the file's own name. Where
    completions in a file name several sources, those of its model count. Prompts are matched by their texts,
    the first completion of the one with the first of the other, the second with the second.
    """

    def __init__(self, first: str, second: str, names: tuple[str, str] | None = None) -> None:
        self._answers = [_answers(first), _answers(second)]
        own = names or (_name(first, self._answers[0]), _name(second, self._answers[1]))
        if own[0] == own[1]:
            raise UserError(f'both files are called "{own[0]}"; tell them apart with --names ONE OTHER')
        self.names = own
        for path, name, answers in zip((first, second), own, self._answers, strict=True):
            _keep_own(path, name, answers)
        both = self._answers[0].keys() & self._answers[1].keys()
        if not both:
            raise UserError(f"{first} and {second} have no prompt in common, so there is nothing to compare")
        self.only_one = sum(len(answers) for answers in self._answers) - 2 * len(both)

    def records(self) -> Iterator[Record]:
        """One record a pair of completions, in the order of the first file."""
        for key, (record, ones) in self._answers[0].items():
            _, others = self._answers[1].get(key, (record, []))
            for number, (one, other) in enumerate(zip(ones, others, strict=False)):
                pair = [_from(one, self.names[0]), _from(other, self.names[1])]
                name = record.id or key[:24]
                yield Record(
                    id=name if number == 0 else f"{name}-{number + 1}",
                    prompt=record.prompt,
                    completions=with_distinct_ids(pair),  # `alignkit generate` calls both c0
                    tools=record.tools,
                    meta=record.meta,
                )


Answers = dict[str, tuple[Record, list[Completion]]]


def _answers(path: str) -> Answers:
    """By prompt: the first record that has it, and the completions of all."""
    found: Answers = {}
    for record in imports.read_any(path):
        turns = [[turn.role, turn.content] for turn in record.prompt]
        found.setdefault(audit.digest(turns), (record, []))[1].extend(record.completions)
    return found


def _sources(answers: Answers) -> set[str]:
    every = (completion for _, completions in answers.values() for completion in completions)
    return {one.source.name for one in every if one.source is not None and one.source.name}


def _name(path: str, answers: Answers) -> str:
    sources = _sources(answers)
    _check_one(path, sources)
    return sources.pop() if sources else Path(path).name.split(".")[0]


def _check_one(path: str, sources: set[str]) -> None:
    if len(sources) > 1:
        listed = ", ".join(sorted(sources)[:8])
        raise UserError(f"{path} has completions of {listed}; say which two to compare with --names")


def _keep_own(path: str, name: str, answers: Answers) -> None:
    """Of a file with several sources, keep the completions of `name`."""
    sources = _sources(answers)
    if name not in sources:
        _check_one(path, sources)
        return
    for key, (record, completions) in list(answers.items()):
        own = [one for one in completions if one.source is not None and one.source.name == name]
        if own:
            answers[key] = (record, own)
        else:
            del answers[key]


def _from(completion: Completion, name: str) -> Completion:
    given = completion.source
    if given is not None and given.name == name:
        return completion
    source = Source(given.kind if given else "model", name, given.params if given else {})
    return msgspec.structs.replace(completion, source=source)
