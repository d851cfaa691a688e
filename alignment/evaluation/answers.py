"""The prompts of an evaluation and the answers to them: read from files, or sampled from models and kept.

Answers of a model are sampled in parts of `PART` prompts, and a part is on disk before the next begins, so
an evaluation that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.backend.generation.settings import GenerationSection
from alignment.data.files import SUFFIXES, read_records, write_records
from alignment.data.records import Completion, Message, Record, Source, message_dict, record_id
from alignment.errors import UserError

PART = 256


@dataclass(frozen=True)
class Prompt:
    """One prompt; `key` is a hash of its text, the same in every file.

    reference: the record's first demonstration, if it has one; tags: its `meta.tags`.
    """

    id: str
    messages: list[dict[str, Any]]
    key: str
    reference: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """One completion; whether it ended by itself and the ids as sampled, None where that is not known."""

    text: str
    finished: bool | None = None
    token_ids: list[int] | None = None


Answers = list[list[Answer]]  # [prompt][sample]


def is_file(path: str) -> bool:
    """Whether a candidate is a file of completions."""
    return path.endswith(SUFFIXES)


def is_endpoint(path: str) -> bool:
    """Whether a candidate is a model behind an address; what is neither this nor a file is a model here."""
    return path.startswith(("http://", "https://"))


def prompt_key(messages: Sequence[dict[str, Any]]) -> str:
    """A hash of the prompt's turns, 24 hex digits."""
    turns = json.dumps([[m["role"], m["content"]] for m in messages], ensure_ascii=False)
    return hashlib.blake2b(turns.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def read_prompts(paths: Sequence[str], most: int | None) -> tuple[list[Prompt], int]:
    """The first `most` different prompts of the files, and how many repeated ones were passed over.

    Raises UserError when the files hold no prompt.
    """
    prompts: dict[str, Prompt] = {}
    repeated = 0
    for record in read_records(paths):
        messages = [message_dict(m) for m in record.prompt]
        if not messages:
            continue
        key = prompt_key(messages)
        if key in prompts:
            repeated += 1
            continue
        if most is not None and len(prompts) == most:
            break
        prompts[key] = Prompt(record_id(record), messages, key, _reference(record), _tags(record))
    if not prompts:
        raise UserError(f"{', '.join(paths)}: no record has a prompt")
    return list(prompts.values()), repeated


def _reference(record: Record) -> str | None:
    return record.completions[record.demonstrations[0]].text if record.demonstrations else None


def _tags(record: Record) -> tuple[str, ...]:
    tags = record.meta.get("tags", [])
    return tuple(str(tag) for tag in (tags if isinstance(tags, list) else [tags]))


def read_answers(path: str, name: str, prompts: Sequence[Prompt], samples: int) -> Answers:
    """`samples` answers to each prompt from a file of records, matched by the prompt's text.

    Where completions name `name` as their source (as completions.jsonl of an evaluation does), only those
    count. Raises UserError when a prompt has too few.
    """
    found: dict[str, list[Completion]] = {}
    for record in read_records(path):
        key = prompt_key([message_dict(m) for m in record.prompt])
        found.setdefault(key, []).extend(record.completions)
    if any(c.source and c.source.name == name for cs in found.values() for c in cs):
        found = {k: [c for c in cs if c.source and c.source.name == name] for k, cs in found.items()}
    lacking = [p.id for p in prompts if len(found.get(p.key, ())) < samples]
    if lacking:
        raise UserError(
            f"models.{name}: {path} has fewer than {samples} completions for {len(lacking)} of "
            f"{len(prompts)} prompts, the first of them {lacking[0]}; use the prompts that it was made from"
        )
    return [[_answer(c) for c in found[p.key][:samples]] for p in prompts]


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

    `model` gives (model, tokenizer) and is called only if something is to be made. Part i is sampled with
    the seed `settings.seed + i`, whatever was made before it. `progress` gets the number of answers of each
    batch or part that is done.
    """
    answers: Answers = []
    for number, start in enumerate(range(0, len(prompts), PART)):
        part = prompts[start : start + PART]
        file = folder / f"part-{number:05}.jsonl"
        if not file.exists():
            from alignment.backend.generation import generate

            loaded, tokenizer = model()
            seeded = settings.model_copy(update={"seed": settings.seed + number})
            rows = generate(
                loaded, tokenizer, [p.messages for p in part], seeded, n=samples, progress=progress
            )
            made = [[Answer(g.text, g.finished, list(g.token_ids)) for g in row] for row in rows]
            write_records(file, answer_records(part, {name: made}, {name: _parameters(seeded)}))
        else:
            progress(len(part) * samples)
        answers += [[_answer(c) for c in record.completions] for record in read_records(file)]
    return answers


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
    asked = ChatApi(address, model, **api.model_dump())
    warped = {"top_p": settings.top_p} if settings.top_p < 1 else {}
    replies = asked.ask(
        [prompt.messages for prompt in prompts],
        Journal(journal),
        progress,
        samples,
        temperature=settings.temperature,
        max_tokens=settings.max_new_tokens,
        seed=settings.seed,
        **warped,
    )
    return [[Answer(reply.text, reply.finished) for reply in row] for row in replies]


def answer_records(
    prompts: Sequence[Prompt], answers: dict[str, Answers], params: dict[str, dict[str, Any]]
) -> Iterator[Record]:
    """One record a prompt with the completions of every model, each with its source: ready to be labelled."""
    for i, prompt in enumerate(prompts):
        completions = [
            Completion(
                id=f"{name}-{k}",
                content=answer.text,
                source=Source("model", name, params.get(name, {})),
                meta={"finished": answer.finished, "token_ids": answer.token_ids},
            )
            for name, rows in answers.items()
            for k, answer in enumerate(rows[i])
        ]
        yield Record([Message(**m) for m in prompt.messages], id=prompt.id, completions=completions)


def _answer(completion: Completion) -> Answer:
    return Answer(completion.text, completion.meta.get("finished"), completion.meta.get("token_ids"))


def _parameters(settings: GenerationSection) -> dict[str, Any]:
    return settings.model_dump(exclude={"token_budget"})
