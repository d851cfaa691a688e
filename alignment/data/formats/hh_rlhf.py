"""Anthropic's HH-RLHF: `chosen` and `rejected` transcripts of "\\n\\nHuman: …\\n\\nAssistant: …".

Its kin (Dahoas/rm-static, full-hh-rlhf; their cards) have the transcript up to the last "Assistant:" in
`prompt`, and only the replies in the other two. Further columns are kept in meta.hh_rlhf.

Source: https://github.com/anthropics/hh-rlhf, README.md.
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from alignment.data.files import Paths, Rejects
from alignment.data.formats import foreign
from alignment.data.formats.kept import notes_of, part
from alignment.data.formats.rows import columns_of, having
from alignment.data.records import Message, Record
from alignment.errors import UserError

_NAME = "hh_rlhf"
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLE = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = {"user": "Human", "assistant": "Assistant"}


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    chosen: str
    rejected: str


_SIDES = ("chosen", "rejected")
_decoder = msgspec.json.Decoder(_Row)


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: the shared turns are the prompt, the rest two completions, the first ranked better.

    Where the transcripts part before the last reply, the completions have several turns. What is not spelled
    in the usual way is kept as it is in meta.hh_rlhf, for the way back.
    """
    return foreign.read_foreign(paths, decode, rejects)


def recognise(row: dict[str, Any]) -> str | None:
    """By what a row is of this format, or None."""
    texts = [row.get(side) for side in _SIDES]
    if not all(isinstance(text, str) for text in texts):
        return None
    if isinstance(row.get("prompt"), str) and _is_begun(row["prompt"]):
        return 'the transcript in "prompt", with "chosen" and "rejected"'
    if all(_TURN.search(text) for text in texts if text is not None) and "instruction" not in row:
        return 'the transcripts in "chosen" and "rejected"'
    return None


def _is_begun(prompt: Any) -> bool:
    """Whether this is a transcript that waits for the assistant's reply."""
    return (
        isinstance(prompt, str) and bool(_TURN.search(prompt)) and prompt.rstrip().endswith("\n\nAssistant:")
    )


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row, columns = columns_of(line, where, _decoder, functools.partial(having, needed=_SIDES))
    texts = {"chosen": row.chosen, "rejected": row.rejected}
    kept: foreign.Row = {}
    begun = columns.get("prompt")
    if (
        isinstance(begun, str)
        and _is_begun(begun)
        and not any(text.startswith(begun.rstrip()) for text in texts.values())
    ):
        kept["prompt"] = columns.pop("prompt")
        texts = {side: begun + text for side, text in texts.items()}
    chosen, rejected = (parse(text, where) for text in texts.values())
    length = foreign.shared_prompt(chosen, rejected, where)
    for side, turns in (("chosen", chosen), ("rejected", rejected)):
        if render(turns) != texts[side]:
            kept[side] = texts[side]
    if columns:
        kept["columns"] = columns
    return foreign.preference(
        chosen[:length],
        foreign.reply(chosen[length:]),
        foreign.reply(rejected[length:]),
        meta={_NAME: kept} if kept else {},
    )


def parse(text: str, where: str) -> list[Message]:
    """A transcript's turns; text before the first speaker is a system turn."""
    before, *rest = _TURN.split(text)
    turns = [Message("system", before.strip())] if before.strip() else []
    for speaker, content in zip(rest[::2], rest[1::2], strict=True):
        turns.append(Message(_ROLE[speaker], content.removeprefix(" ")))  # type: ignore[arg-type]
    if not rest:
        raise UserError(f'{where}: no turn begins with "Human:" or "Assistant:" after an empty line')
    return turns


def render(turns: list[Message]) -> str:
    """The transcript of turns by user and assistant; a system turn comes first, without a speaker."""
    return "".join(
        turn.content if turn.role == "system" else f"\n\n{_SPEAKER[turn.role]}: {turn.content}"
        for turn in turns
    )


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row for every preference in a record; return what was lost, field: count."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """The rows of a record; none where a turn is by neither user nor assistant, or would not be read back."""
    found = []
    kept = notes_of(record, _NAME)
    begun = kept.get("prompt")
    for chosen, rejected in foreign.derived_pairs(record):
        row: foreign.Row = {}
        for side, completion in (("chosen", chosen), ("rejected", rejected)):
            turns = record.prompt + completion.turns()
            if side in kept and parse(kept[side], "meta") == turns:
                row[side] = kept[side]
            elif _fits(turns):
                row[side] = render(turns)
        if isinstance(begun, str) and all(text.startswith(begun) for text in row.values()):
            row = {"prompt": begun} | {side: text.removeprefix(begun) for side, text in row.items()}
        if row.keys() >= set(_SIDES):
            found.append(part(kept, "columns") | row)
    return found


def _fits(turns: list[Message]) -> bool:
    speakers = all(turn.role in _SPEAKER or (turn.role == "system" and not k) for k, turn in enumerate(turns))
    return speakers and parse(render(turns), "a transcript") == turns
