"""Answers that are made here: sampled from a model, or asked of one behind an address, and kept.

Answers of a model are sampled in parts of `PART` prompts, turn by turn, and what was made is on disk before
more is, so an evaluation that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignment.backend.generation.settings import GenerationSection
from alignment.data.files import read_records, write_records
from alignment.errors import UserError
from alignment.evaluation.answers import Answer, Answers, Prompt, Talk, answer_records, read_talk, said_so_far
from alignment.evaluation.cost import measured

PART = 256


def answers_wanted(prompts: Sequence[Prompt], samples: int) -> int:
    """How many answers a candidate gives: one for each turn of each sample of each prompt."""
    return samples * sum(prompt.turns for prompt in prompts)


def sample_answers(
    folder: Path,
    prompts: Sequence[Prompt],
    samples: int,
    settings: GenerationSection,
    name: str,
    model: Callable[[], tuple[Any, Any]],
    progress: Callable[[int], Any],
) -> Answers:
    """`samples` answers of a model to each prompt; parts that `folder` already holds are read, not made.

    A follow-up is answered after the sample's own earlier answers. `model` gives (model, tokenizer) and is
    called only if something is to be made. Part i is sampled with the seed `settings.seed + i`, whatever was
    made before it. `progress` gets the number of answers of each batch or part that is done.
    """
    answers: Answers = []
    for number, start in enumerate(range(0, len(prompts), PART)):
        part = prompts[start : start + PART]
        seeded = settings.model_copy(update={"seed": settings.seed + number})

        def reply(
            turn: int, asked: list[Prompt], n: int, number: int = number, how: GenerationSection = seeded
        ) -> Answers:
            file = folder / (f"part-{number:05}.jsonl" if turn == 1 else f"part-{number:05}-{turn}.jsonl")
            if not file.exists():
                _make(file, asked, n, how, name, model, progress)
            else:
                progress(len(asked) * n)
            return [
                [read_talk(prompt, completion)[0] for completion in record.completions]
                for prompt, record in zip(asked, read_records(file), strict=True)
            ]

        answers += _turn_by_turn(part, samples, reply)
    return answers


def _make(
    file: Path,
    asked: list[Prompt],
    n: int,
    settings: GenerationSection,
    name: str,
    model: Callable[[], tuple[Any, Any]],
    progress: Callable[[int], Any],
) -> None:
    from alignment.backend.generation import generate

    loaded, tokenizer = model()
    with measured(file, loaded) as tokens:
        said, ids = [p.messages for p in asked], [p.id for p in asked]
        rows = generate(loaded, tokenizer, said, settings, n=n, progress=progress, names=ids)
        tokens += [len(got.token_ids) for row in rows for got in row]
    made = [[Answer(g.text, g.finished, list(g.token_ids)) for g in row] for row in rows]
    params = settings.model_dump(exclude={"token_budget"})
    write_records(file, answer_records(asked, {name: made}, {name: params}))


def asked_answers(
    url: str,
    prompts: Sequence[Prompt],
    samples: int,
    settings: GenerationSection,
    api: Any,
    journal: Path,
    progress: Callable[[int], Any],
) -> Answers:
    """`samples` answers to each prompt from a model behind an address, `url` being ADDRESS#MODEL.

    What the journal holds is not asked again. api: an ApiSection. Raises UserError as `ChatApi.ask` does.
    """
    from alignment.backend.chat_api import ChatApi, Journal

    address, _, model = url.partition("#")
    if not model:
        raise UserError(f"{url} names no model: write the address, #, and the model's name")
    service, kept = ChatApi(address, model, **api.model_dump()), Journal(journal)
    warped = {"top_p": settings.top_p} if settings.top_p < 1 else {}

    def reply(turn: int, asked: list[Prompt], n: int) -> Answers:
        replies = service.ask(
            [prompt.messages for prompt in asked],
            kept,
            progress,
            n,
            temperature=settings.temperature,
            max_tokens=settings.max_new_tokens,
            seed=settings.seed,
            **warped,
        )
        return [[Answer(got.text, got.finished) for got in row] for row in replies]

    return _turn_by_turn(prompts, samples, reply)


def _turn_by_turn(
    prompts: Sequence[Prompt], samples: int, reply: Callable[[int, list[Prompt], int], Answers]
) -> Answers:
    """`samples` conversations for each prompt. reply(turn, asked, n): n answers to each of `asked`."""
    held: list[list[Talk]] = [[[] for _ in range(samples)] for _ in prompts]
    for turn in range(1, 1 + max(prompt.turns for prompt in prompts)):
        going_on = [
            (prompt, talk)
            for prompt, row in zip(prompts, held, strict=True)
            for talk in row
            if prompt.turns >= turn
        ]
        before = [said_so_far(prompt, talk) for prompt, talk in going_on]
        if turn == 1:  # one question, several answers
            rows = reply(turn, [replace(prompt, follow_ups=()) for prompt in prompts], samples)
            answers = [answer for row in rows for answer in row]
        else:  # a question for each sample, since each goes on from its own answer
            asked = [
                replace(prompt, follow_ups=(), messages=[*prompt.messages, *_messages(said)])
                for (prompt, _), said in zip(going_on, before, strict=True)
            ]
            answers = [row[0] for row in reply(turn, asked, 1)]
        for (_, talk), said, answer in zip(going_on, before, answers, strict=True):
            talk.append(replace(answer, before=said))
    return [[answer for talk in row for answer in talk] for row in held]


def _messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in turns]
