"""Anthropic's HH-RLHF: `chosen` and `rejected` transcripts of "\\n\\nHuman: …\\n\\nAssistant: …"."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from alignment.data.files import Paths, Rejects
from alignment.data.formats import foreign
from alignment.data.records import Message, Record, check_duplicate_keys, explain
from alignment.errors import UserError

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLE = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = {"user": "Human", "assistant": "Assistant"}


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    chosen: str
    rejected: str


_decoder = msgspec.json.Decoder(_Row)


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row: the shared turns are the prompt, the rest two completions, the first ranked better.

    Where the transcripts part before the last reply, the completions have several turns. A transcript that
    is not spelled in the usual way is kept as it is in meta.hh_rlhf, for the way back.
    """
    return foreign.read_foreign(paths, decode, rejects)


def recognise(row: dict[str, Any]) -> str | None:
    """By what a row is of this format, or None."""
    texts = [row.get("chosen"), row.get("rejected")]
    if len(row) == 2 and all(isinstance(text, str) and _TURN.search(text) for text in texts):
        return 'the transcripts in "chosen" and "rejected"'
    return None


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    try:
        row = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {explain(error, set(_Row.__struct_fields__))}") from None
    check_duplicate_keys(line, where, msgspec.json.encode(row))
    chosen, rejected = parse(row.chosen, where), parse(row.rejected, where)
    length = foreign.shared_prompt(chosen, rejected, where)
    unusual = {
        side: text
        for side, text, turns in (("chosen", row.chosen, chosen), ("rejected", row.rejected, rejected))
        if render(turns) != text
    }
    return foreign.preference(
        chosen[:length],
        foreign.reply(chosen[length:]),
        foreign.reply(rejected[length:]),
        meta={"hh_rlhf": unusual} if unusual else {},
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
    kept = record.meta.get("hh_rlhf", {})
    for chosen, rejected in foreign.derived_pairs(record):
        row = {}
        for side, completion in (("chosen", chosen), ("rejected", rejected)):
            turns = record.prompt + completion.turns()
            if side in kept and parse(kept[side], "meta") == turns:
                row[side] = kept[side]
            elif _fits(turns):
                row[side] = render(turns)
        if len(row) == 2:
            found.append(row)
    return found


def _fits(turns: list[Message]) -> bool:
    speakers = all(turn.role in _SPEAKER or (turn.role == "system" and not k) for k, turn in enumerate(turns))
    return speakers and parse(render(turns), "a transcript") == turns
