"""ShareGPT's rows and LLaMA-Factory's "sharegpt" style: chats, pairs, and labelled replies (KTO).

    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}
    {"conversations": […], "chosen": {"from": "gpt", "value": "…"}, "rejected": {…}}
    {"conversations": […], "kto_tag": true}

Tags: system, human, gpt, function_call (JSON text with name and arguments), observation, and what other
exporters call them (turns.ROLES). `system` and `tools` (JSON text) may be columns; further columns (images,
videos, audios, id, …) are kept. The turns may be in `messages`, `conversation` or `items`, and may be
{role, content}; `chosen` and `rejected` may be a turn, a list of turns or a text; without a conversation
they hold it themselves. LLaMA-Factory's own sample calls the column of the label `label`.

Source: LLaMA-Factory, data/README.md ("Sharegpt Format"), src/llamafactory/data/converter.py and the
samples dpo_en_demo.json, kto_en_demo.json and glaive_toolcall_en_demo.json
(https://github.com/hiyouga/LLaMA-Factory); ShareGPT_V3_unfiltered for the older tags; axolotl for `weight`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from alignment.data.files import Paths, Rejects
from alignment.data.formats import foreign
from alignment.data.formats.kept import notes_of, part
from alignment.data.formats.rows import row_of
from alignment.data.formats.turns import (
    SHAREGPT,
    Spelling,
    Turn,
    completion_of,
    completion_rows,
    messages_of,
    prompt_end,
    read_turns,
    reply_start,
    take_tools,
    tools_row,
    unusual_of,
    write_turns,
)
from alignment.data.pairs import best_completion, label_balance
from alignment.data.records import Completion, Judgment, Message, Record
from alignment.errors import UserError

_NAME = "sharegpt"
_COLUMNS = ("conversations", "conversation", "messages", "items")
_LABELS = ("kto_tag", "label")


def recognise(row: dict[str, Any]) -> str | None:
    """By what a row is of this format, or None."""
    column = next((key for key in (*_COLUMNS, "chosen") if _is_turns(row.get(key))), None)
    if column is None:
        return None
    spelling = _spelling(row[column])
    if spelling.role == "from":
        return f'turns with "from" and "{spelling.text}" in "{column}"'
    if column in ("conversations", "conversation"):
        return f'turns with "role" and "{spelling.text}" in "{column}"'
    if column == "messages" and any(isinstance(row.get(key), bool) for key in _LABELS):
        return 'the key "messages" and a label of true or false'
    if column == "messages" and isinstance(row.get("chosen"), dict) and isinstance(row.get("rejected"), dict):
        return 'the key "messages", with one turn each in "chosen" and "rejected"'
    return None


def _is_turns(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and ("from" in first or "role" in first)


def _spelling(turns: list[Any]) -> Spelling:
    first = turns[0] if turns and isinstance(turns[0], dict) else {}
    role = "from" if "from" in first or "role" not in first else "role"
    texts = ("value", "content", "text") if role == "from" else ("content", "value", "text")
    return Spelling(role, next((key for key in texts if key in first), texts[0]))


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row. The last reply, with what follows it, is the completion; the rest is the prompt.

    A chat's reply is a demonstration; a labelled one has its label; chosen is ranked before rejected. Turns
    by the assistant before a pair begin both its completions. What a record does not say by itself is kept
    in meta.sharegpt, for the way back.
    """
    return foreign.read_foreign(paths, decode, rejects)


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row = row_of(line, where)
    column = next((key for key in _COLUMNS if isinstance(row.get(key), list)), None)
    paired = row.get("chosen") is not None or row.get("rejected") is not None
    if column is None and not (paired and isinstance(row.get("chosen"), list)):
        raise UserError(f"{where}: no list of turns; expected one in {', '.join(_COLUMNS)}")
    spelling = _spelling(row[column or "chosen"] or ([row["chosen"]] if paired else []))
    turns = read_turns(row.pop(column), spelling, f"{where}: {column}") if column else []
    if not turns and not paired:
        raise UserError(f'{where}: "{column}" is empty')
    notes: foreign.Row = {}
    if [column, *spelling] != [_COLUMNS[0], *SHAREGPT]:
        notes["spelling"] = [column or _COLUMNS[0], *spelling]
    system = row.get("system")
    if isinstance(system, str) and system and turns and turns[0].message.role != "system":
        turns.insert(0, Turn(Message("system", row.pop("system"))))
        notes["system"] = True
    label = next((key for key in _LABELS if isinstance(row.get(key), bool)), None)
    if row.get("kto_tag") is not None and label != "kto_tag":
        raise UserError(f'{where}: "kto_tag" must be true or false')
    if paired and label == "kto_tag":
        raise UserError(f'{where}: a row has either "kto_tag", or "chosen" and "rejected"')
    if paired:
        record = _pair(row, turns, spelling, notes, where)
    else:
        record = _answered(turns, None if label is None else row.pop(label), where)
        if label == "label":
            notes["label"] = label
    take_tools(row, record, notes, as_text=spelling.role == "from")
    notes |= {"turns": unusual_of(turns[: len(record.prompt)]), "columns": row}
    notes = {key: value for key, value in notes.items() if value}
    record.meta = {_NAME: notes} if notes else {}
    return record


def _answered(turns: list[Turn], label: bool | None, where: str) -> Record:
    start = reply_start(messages_of(turns))
    record = Record(messages_of(turns[:start]))
    if start < len(turns):
        record.completions = [completion_of(turns[start:], _NAME)]
    elif label is not None:
        raise UserError(f"{where}: the row has a label, and no turn by the assistant that it could be of")
    if label is not None:
        record.judgments = [Judgment(labels=[label])]
    elif record.completions:
        record.demonstrations = [0]
    return record


def _pair(row: foreign.Row, turns: list[Turn], spelling: Spelling, notes: foreign.Row, where: str) -> Record:
    if row.get("chosen") is None or row.get("rejected") is None:
        raise UserError(f'{where}: "chosen" and "rejected" go together, and one is missing')
    given = [row.pop("chosen"), row.pop("rejected")]
    if type(given[0]) is not type(given[1]):
        raise UserError(f'{where}: "chosen" and "rejected" must both be a turn, a list of turns or a text')
    form = "text" if isinstance(given[0], str) else "turns" if isinstance(given[0], list) else "turn"
    chosen, rejected = (
        [Turn(Message("assistant", side))]
        if isinstance(side, str)
        else read_turns([side] if form == "turn" else side, spelling, f"{where}: {key}")
        for key, side in zip(("chosen", "rejected"), given, strict=True)
    )
    if turns:
        end = prompt_end(messages_of(turns))
        begun = turns[end:]
        notes |= {"form": "" if form == "turn" else form, "begun": len(begun)}
        sides = begun + chosen, begun + rejected
    else:  # the conversation is in the sides
        end = foreign.shared_prompt(messages_of(chosen), messages_of(rejected), where)
        notes["form"] = "whole"
        turns[:] = chosen[:end]
        sides = chosen[end:], rejected[end:]
    return foreign.preference(messages_of(turns[:end]), *(completion_of(side, _NAME) for side in sides))


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row for every demonstration, preference and label; return what was lost, field: count."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[foreign.Row]:
    """The rows of a record: demonstrations, preferences and labels, else the best reply or bare prompt."""
    notes = notes_of(record, _NAME)
    column, spelling = _kept_spelling(notes)
    prompt = write_turns(record.prompt, part(notes, "turns"), spelling)
    if prompt is None:
        return []
    replies = [completion_rows(completion, _NAME, spelling) for completion in record.completions]
    further = part(notes, "columns") | tools_row(record, notes, as_text=spelling.role == "from")
    found = []
    for chosen, rejected in foreign.derived_pairs(record):
        sides = [completion_rows(side, _NAME, spelling) for side in (chosen, rejected)]
        if sides[0] is not None and sides[1] is not None:
            found.append(_pair_row(prompt, (sides[0], sides[1]), (chosen, rejected), column, notes))
    chat = list(record.demonstrations or ())
    for index, reply in enumerate(replies):
        balance = label_balance(record.judgments, index)
        if balance and reply is not None:
            label = "label" if notes.get("label") else "kto_tag"
            found.append({column: prompt + reply, label: balance > 0})
    best = best_completion(record)
    if not chat and not found and best is not None:
        chat = [best]
    found += [{column: prompt + reply} for reply in (replies[index] for index in chat) if reply is not None]
    if not record.completions:
        found = [{column: prompt}]
    return [further | _system_column(row, record, column, notes) for row in found]


def _kept_spelling(notes: foreign.Row) -> tuple[str, Spelling]:
    kept = notes.get("spelling")
    if isinstance(kept, list) and len(kept) == 3 and kept[0] in _COLUMNS and kept[1] in ("from", "role"):
        return kept[0], Spelling(kept[1], str(kept[2]))
    return _COLUMNS[0], SHAREGPT


def _system_column(row: foreign.Row, record: Record, column: str, notes: foreign.Row) -> foreign.Row:
    first = record.prompt[0] if record.prompt else None
    if (
        not notes.get("system")
        or first is None
        or first != Message("system", first.content)
        or column not in row
    ):
        return row
    return row | {"system": first.content, column: row[column][1:]}


def _pair_row(
    prompt: list[foreign.Row],
    sides: tuple[list[foreign.Row], list[foreign.Row]],
    pair: tuple[Completion, Completion],
    column: str,
    notes: foreign.Row,
) -> foreign.Row:
    form, begun = notes.get("form"), notes.get("begun")
    if form == "whole":
        return {"chosen": prompt + sides[0], "rejected": prompt + sides[1]}
    turns = [completion.turns() for completion in pair]
    if not isinstance(begun, int) or turns[0][:begun] != turns[1][:begun]:
        begun = 0
    row: foreign.Row = {column: prompt + sides[0][:begun]}
    plain = [side[begun:] == [Message("assistant", side[-1].content)] for side in turns]
    single = [len(side[begun:]) == 1 for side in turns]
    for key, side, whole in zip(("chosen", "rejected"), turns, sides, strict=True):
        if form == "text" and all(plain):
            row[key] = side[-1].content
        else:
            row[key] = whole[begun] if all(single) and form != "turns" else whole[begun:]
    return row
