"""The prompts of an evaluation and the answers to them, read from files and written.

A prompt may have follow-ups, as MT-Bench's do: the second turn is asked after a candidate's own first answer.
A conversation of T turns gives T answers, one after another in the row of its prompt, and each carries what
was said before it. In files it is one completion of several messages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from alignment.data.detect import check_native
from alignment.data.files import SUFFIXES, read_records
from alignment.data.records import Completion, Message, Record, Source, message_dict, record_id
from alignment.errors import UserError


class FollowUp(NamedTuple):
    """A later turn of the user's, and the reference for its answer."""

    text: str
    reference: str | None = None


@dataclass(frozen=True)
class Prompt:
    """One prompt; `key` is a hash of its text, the same in every file.

    reference: the record's first demonstration, if it has one; tags: its `meta.tags`, or MT-Bench's category;
    follow_ups: what is asked next, from `meta.follow_ups` or MT-Bench's turns.
    """

    id: str
    messages: list[dict[str, Any]]
    key: str
    reference: str | None = None
    tags: tuple[str, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()

    @property
    def turns(self) -> int:
        """Answers of one sample."""
        return 1 + len(self.follow_ups)


@dataclass(frozen=True)
class Answer:
    """One completion; whether it ended by itself and the ids as sampled, None where that is not known.

    before: the (role, text) turns between the prompt and this answer, the candidate's own earlier answers
    among them; empty for a first answer.
    """

    text: str
    finished: bool | None = None
    token_ids: list[int] | None = None
    before: tuple[tuple[str, str], ...] = ()

    @property
    def turn(self) -> int:
        """1 for a first answer, 2 for the answer to the first follow-up, …"""
        return 1 + len(self.before) // 2


Talk = list[Answer]  # the answers of one conversation, by turn
Answers = list[list[Answer]]  # [prompt][answer]: the turns of the first sample, those of the second, …


def asked(prompt: Prompt, answer: Answer) -> list[dict[str, Any]]:
    """The messages that `answer` replies to."""
    return [*prompt.messages, *({"role": role, "content": text} for role, text in answer.before)]


def said_so_far(prompt: Prompt, talk: Talk) -> tuple[tuple[str, str], ...]:
    """`before` of the next answer of a conversation: all that follows the prompt, the next follow-up last."""
    if not talk:
        return ()
    last = talk[-1]
    return (*last.before, ("assistant", last.text), ("user", prompt.follow_ups[last.turn - 1].text))


def talks(prompt: Prompt, row: Sequence[Answer]) -> list[Talk]:
    """The answers to a prompt, apart by sample."""
    return [list(row[i : i + prompt.turns]) for i in range(0, len(row), prompt.turns)]


def is_file(path: str) -> bool:
    """Whether a candidate is a file of completions."""
    return path.endswith(SUFFIXES)


def is_endpoint(path: str) -> bool:
    """Whether a candidate is a model behind an address; what is neither this nor a file is a model here."""
    return path.startswith(("http://", "https://"))


def prompt_key(messages: Sequence[dict[str, Any]], follow_ups: Sequence[str] = ()) -> str:
    """A hash of the prompt's turns, 24 hex digits; its follow-ups count as turns of the user's."""
    said = [[m["role"], m["content"]] for m in messages] + [["user", text] for text in follow_ups]
    turns = json.dumps(said, ensure_ascii=False)
    return hashlib.blake2b(turns.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def record_key(record: Record) -> str:
    """The key of the prompt that a record has."""
    follow_ups = [turn.text for turn in _follow_ups(record)]
    return prompt_key([message_dict(m) for m in record.prompt], follow_ups)


def read_prompts(paths: Sequence[str], most: int | None) -> tuple[list[Prompt], int]:
    """The first `most` different prompts of the files, and how many repeated ones were passed over.

    Raises UserError when the files hold no prompt.
    """
    check_native(paths)
    prompts: dict[str, Prompt] = {}
    repeated = 0
    for record in read_records(paths):
        messages = [message_dict(m) for m in record.prompt]
        if not messages:
            continue
        key = record_key(record)
        if key in prompts:
            repeated += 1
            continue
        if most is not None and len(prompts) == most:
            break
        prompts[key] = Prompt(
            record_id(record), messages, key, _reference(record), _tags(record), _follow_ups(record)
        )
    if not prompts:
        raise UserError(f"{', '.join(paths)}: no record has a prompt")
    return list(prompts.values()), repeated


def _reference(record: Record) -> str | None:
    if record.demonstrations:
        return record.completions[record.demonstrations[0]].text
    return next(iter(_mt_bench(record).get("reference") or ()), None)


def _tags(record: Record) -> tuple[str, ...]:
    tags = record.meta.get("tags", _mt_bench(record).get("category", []))
    return tuple(str(tag) for tag in (tags if isinstance(tags, list) else [tags]))


def _follow_ups(record: Record) -> tuple[FollowUp, ...]:
    """`meta.follow_ups`, a list of texts; or the later turns of a question of MT-Bench with their references.

    Raises UserError for follow-ups that are no texts.
    """
    noted = record.meta.get("mt_bench", {})
    texts = record.meta.get("follow_ups", noted.get("turns", [])[1:])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"record {record_id(record)}: meta.follow_ups is a list of texts, one a turn")
    references = list(_mt_bench(record).get("reference") or ())[1:]
    references += [None] * (len(texts) - len(references))
    return tuple(FollowUp(text, given) for text, given in zip(texts, references, strict=False))


def _mt_bench(record: Record) -> dict[str, Any]:
    """What else MT-Bench says of its question: category and reference (see data/formats/mt_bench.py)."""
    columns: dict[str, Any] = record.meta.get("mt_bench", {}).get("columns", {})
    return columns


def read_answers(path: str, name: str, prompts: Sequence[Prompt], samples: int) -> Answers:
    """`samples` answers to each prompt from a file of records, matched by the prompt's text.

    Where completions name `name` as their source (as completions.jsonl of an evaluation does), only those
    count. For a prompt with follow-ups a completion is a conversation. Raises UserError when a prompt has too
    few, and for a conversation that is not the prompt's.
    """
    found: dict[str, list[Completion]] = {}
    for record in read_records(path):
        found.setdefault(record_key(record), []).extend(record.completions)
    if any(c.source and c.source.name == name for cs in found.values() for c in cs):
        found = {k: [c for c in cs if c.source and c.source.name == name] for k, cs in found.items()}
    lacking = [p.id for p in prompts if len(found.get(p.key, ())) < samples]
    if lacking:
        what = "no answer" if samples == 1 else f"fewer than {samples} answers"
        raise UserError(
            f"models.{name}: {path} has {what} to {len(lacking)} of {len(prompts)} prompts, the first "
            f"{lacking[0]}; set `prompts` to the file that it was made from, or max_prompts to fewer"
        )
    try:
        return [[a for c in found[p.key][:samples] for a in read_talk(p, c)] for p in prompts]
    except UserError as error:
        raise UserError(f"models.{name}: {path}: {error}") from None


def read_talk(prompt: Prompt, completion: Completion) -> Talk:
    """The answers of one completion, by turn. Raises UserError if its turns are not those of the prompt."""
    if prompt.turns == 1:
        return [Answer(completion.text, completion.meta.get("finished"), completion.meta.get("token_ids"))]
    said = [(message.role, message.content) for message in completion.turns()]
    finished, ids = (completion.meta.get(key) or [None] * prompt.turns for key in ("finished", "token_ids"))
    talk: Talk = []
    for role, text in said[::2]:
        if role != "assistant" or len(talk) == prompt.turns:
            break
        before = said_so_far(prompt, talk)
        if before and before[-1] != said[2 * len(talk) - 1]:
            break
        talk.append(Answer(text, finished[len(talk)], ids[len(talk)], before))
    if len(talk) != prompt.turns or len(said) != 2 * prompt.turns - 1:
        raise UserError(
            f"prompt {prompt.id} has {prompt.turns} turns: each of its completions needs `messages` of an "
            "answer, the prompt's next turn word for word, the next answer, and so on"
        )
    return talk


def answer_records(
    prompts: Sequence[Prompt], answers: dict[str, Answers], params: dict[str, dict[str, Any]]
) -> Iterator[Record]:
    """One record a prompt with the completions of every model, each with its source: ready to be labelled."""
    for i, prompt in enumerate(prompts):
        completions = [
            _completion(talk, f"{name}-{k}", Source("model", name, params.get(name, {})))
            for name, rows in answers.items()
            for k, talk in enumerate(talks(prompt, rows[i]))
        ]
        meta = {"follow_ups": [turn.text for turn in prompt.follow_ups]} if prompt.follow_ups else {}
        messages = [Message(**m) for m in prompt.messages]
        yield Record(messages, id=prompt.id, completions=completions, meta=meta)


def _completion(talk: Talk, name: str, source: Source) -> Completion:
    if len(talk) == 1:
        meta = {"finished": talk[0].finished, "token_ids": talk[0].token_ids}
        return Completion(id=name, content=talk[0].text, source=source, meta=meta)
    turns = [*talk[-1].before, ("assistant", talk[-1].text)]
    return Completion(
        id=name,
        messages=[Message(role, text) for role, text in turns],  # type: ignore[arg-type]
        source=source,
        meta={"finished": [a.finished for a in talk], "token_ids": [a.token_ids for a in talk]},
    )
