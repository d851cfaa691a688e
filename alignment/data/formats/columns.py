"""Columns of any name: CSV, TSV, JSONL, JSON and Parquet, with a mapping from what we need to what is there.

`--from columns --column prompt=question --column demonstration=answer`; the left side is one of

| target | is |
|---|---|
| prompt | the user's turn, or a list of messages (as JSON text, too) |
| system | the system's turn before it |
| context | further text of the user's turn, after an empty line |
| demonstration | an answer to imitate |
| completion | an answer that nobody wrote to imitate |
| label | whether the completion is good: true, false, 1, 0, yes, no, good, bad; empty: not judged |
| rating, rating.NAME | a number for the completion, on the scale NAME |
| chosen, rejected | two answers, the first the better one |
| completion_1, completion_2, … | answers to compare |
| preference | the better of these: its number, letter or column; 0, tie, both or equal; empty: not judged |
| preference_from_0 | the same, where the numbers count from 0 |
| preference_signed | of two: below 0 the first is better, above 0 the second, by that strength; 0 is a tie |
| judge | who judged |
| id | the record's id |
| tags | words, a list or separated by commas, for meta.tags |
| meta.NAME | anything, for meta.NAME |

Columns that the mapping does not name are kept in meta.columns for the way back. Without a mapping, the usual
names are looked for (question and answer, prompt and response, instruction, context and response, …).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from alignment.data.files import Paths, Rejects
from alignment.data.formats import compared, foreign
from alignment.data.formats.column_names import NUMBERED, PREFERENCES, Names, is_conversation, usual_names
from alignment.data.formats.column_preferences import prefer, preferred
from alignment.data.formats.kept import keep, note, notes_of, part, restore
from alignment.data.pairs import best_completion, judgment_votes
from alignment.data.records import Completion, Judgment, Message, Record, nearest, record_id, shown
from alignment.errors import UserError

Row = foreign.Row
NAME = "columns"
_GOOD, _BAD = ("true", "1", "yes", "good", "1.0"), ("false", "0", "no", "bad", "0.0")
_messages = msgspec.json.Decoder(list[Message])


def recognise(row: Row) -> str | None:
    """By which usual names of columns this row can be read, or None."""
    names = usual_names(row)
    if names is None or not all(_is_said(row[column]) for column in names.values()):
        return None
    *others, last = [f'"{column}" ({target})' for target, column in names.items()]
    return f"the columns {', '.join(others)} and {last}"


def _is_said(value: Any) -> bool:
    """Whether this can be in a column: a text, a number, nothing, or a list of messages."""
    return is_conversation(value) if isinstance(value, list) else not isinstance(value, dict)


def read(paths: Paths, rejects: Rejects | None = None, names: Names | None = None) -> Iterator[Record]:
    """One record a row. names: target to column; None looks for the usual names in each row."""
    return foreign.read_foreign(paths, decoder(names), rejects)


def decode(line: bytes, where: str) -> Record:
    """One row with usual names as a record. Raises UserError."""
    return decoder(None)(line, where)


def decoder(names: Names | None) -> Callable[[bytes, str], Record]:
    """The `decode` of a mapping."""

    def decode_mapped(line: bytes, where: str) -> Record:
        row = compared.decode_row(line, where)
        used = names or usual_names(row)
        if used is None:
            keys = ", ".join(f'"{shown(key)}"' for key in list(row)[:12])
            raise UserError(f"{where}: which of the columns {keys} is what? --column prompt=COLUMN …")
        record = _record(row, used, where)
        note(record, NAME, {"names": used})
        for usual in _written(record, used)[:1]:
            keep(record, NAME, row, usual)
        return record

    return decode_mapped


def _record(row: Row, names: Names, where: str) -> Record:
    asked = names["prompt"]
    if asked not in row:
        raise UserError(f'{where}: the column "{asked}" is missing{nearest(asked, set(row))}')

    def text(target: str) -> str:
        return compared.text(row.get(names[target]), where, names[target]) if target in names else ""

    system, context = text("system"), text("context")
    record = Record(_turns(row[asked], where, asked, "user"), id=text("id") or None)
    if context:
        if [message.role for message in record.prompt] != ["user"] or record.prompt[0].parts:
            raise UserError(f"{where}: a context goes with a prompt that is one text")
        note(record, NAME, {"context": context})
        record.prompt[0].content += f"\n\n{context}"
    if system:
        record.prompt = [Message("system", system), *record.prompt]
    record.completions, record.demonstrations = _answers(row, names, where)
    judgment = _judgment(row, names, where, len(record.completions))
    if judgment is not None:
        record.judgments = [judgment]
    _note_meta(record, row, names)
    return record


def _answers(row: Row, names: Names, where: str) -> tuple[list[Completion], list[int] | None]:
    """The completions, and which of them are to imitate; a column that is null or not there gives none."""
    numbers = sorted(int(match[1]) for target in names if (match := NUMBERED.fullmatch(target)))
    numbered = [f"completion_{number}" for number in numbers]
    targets = ["chosen", "rejected", *numbered, "completion", "demonstration"]
    wanted = [target for target in targets if target in names]
    found = [target for target in wanted if row.get(names[target]) is not None]
    for target in set(wanted) - set(found):
        if found and target not in ("demonstration", "completion"):
            raise UserError(f'{where}: the column "{names[target]}" ({target}) is missing or null')
    completions = [
        foreign.reply(_turns(row[names[target]], where, names[target], "assistant")) for target in found
    ]
    return completions, [found.index("demonstration")] if "demonstration" in found else None


def _turns(value: Any, where: str, column: str, role: str) -> list[Message]:
    """A text as one turn of the role; a list of messages, as JSON text too, as it is."""
    if value == [] and role == "user":  # plain text has no prompt
        return []
    encoded = msgspec.json.encode(value) if isinstance(value, list) else None
    if isinstance(value, str) and value.startswith("[{") and value.rstrip().endswith("]"):
        encoded = value.encode()
    if encoded is not None:
        try:
            turns = _messages.decode(encoded)
        except msgspec.DecodeError as error:
            if isinstance(value, list):
                raise UserError(f'{where}: "{column}" is no list of messages: {error}') from None
            turns = []
        if turns and (role == "user" or any(turn.role == role for turn in turns)):
            return turns
    return [Message(role, compared.text(value, where, column))]  # type: ignore[arg-type]


def _judgment(row: Row, names: Names, where: str, count: int) -> Judgment | None:
    judgment = Judgment(by=compared.name(row.get(names.get("judge", ""))))
    if "chosen" in names and count > 1:
        judgment.ranks = [1, 2, *[None] * (count - 2)]
    for target in PREFERENCES:
        if target in names and count > 1:
            prefer(judgment, row.get(names[target]), names, target, where)
    rest: list[Any] = [None] * (count - 1)
    if "label" in names and (label := _label(row.get(names["label"]), where, names["label"])) is not None:
        judgment.labels = [label, *rest]
    ratings = {}
    for target, column in names.items():
        if target == "rating" or target.startswith("rating."):
            value = compared.number(row.get(column), where, column)
            if value is not None:
                ratings[target.partition(".")[2] or "rating"] = [value, *rest]
    if ratings:
        judgment.ratings = ratings
    if count == 0 and (judgment.labels or judgment.ratings):
        raise UserError(f"{where}: a judgment without a completion")
    return None if judgment == Judgment() else judgment


def _label(value: Any, where: str, column: str) -> bool | None:
    word = compared.text(value, where, column).strip().lower()
    if word in _GOOD or word in _BAD:
        return word in _GOOD
    if word:
        raise UserError(f'{where}: "{column}" is {value!r}; a label is {", ".join(_GOOD[:4] + _BAD[:4])}')
    return None


def _note_meta(record: Record, row: Row, names: Names) -> None:
    for target, column in names.items():
        value = row.get(column)
        if value is None or value == "":
            continue
        if target == "tags":
            if isinstance(value, str) and value.startswith("["):
                value = msgspec.json.decode(value)
            elif isinstance(value, str):
                value = [word.strip() for word in value.split(",") if word.strip()]
            record.meta["tags"] = value
        elif target.startswith("meta."):
            record.meta[target.removeprefix("meta.")] = value


def write(
    records: Iterable[Record],
    path: str | os.PathLike[str],
    overwrite: bool = False,
    names: Names | None = None,
) -> Counter[str]:
    """Rows with these columns (JSON, CSV or TSV by the file's name); return what was lost, field: count.

    names: target to column; None takes those that the records were read with, else the targets' own names.
    Raises UserError where the records then need different columns.
    """
    used = names

    def rows_of(record: Record) -> list[Row]:
        nonlocal used
        own = names or names_of(record)
        if used is None:
            used = own
        elif own != used:
            listed = "; ".join(", ".join(one) for one in (used, own))
            raise UserError(f"{path}: the records need different columns ({listed}); name them with --column")
        return rows(record, used)

    def decode_used(line: bytes, where: str) -> Record:
        return decoder(used)(line, where)

    return compared.write(records, path, rows_of, decode_used, overwrite)


def names_of(record: Record) -> Names:
    """The mapping that the record was read with, else targets to themselves that hold most of it."""
    marked = part(notes_of(record, NAME), "names")
    if isinstance(marked.get("prompt"), str):
        return marked
    targets = ["prompt", "system"]
    if record.demonstrations or not record.completions:
        targets += ["demonstration"]
    elif len(record.completions) == 2:
        targets += ["completion_1", "completion_2", "preference", "judge"]
    elif any(judgment_votes(judgment) for judgment in record.judgments):
        targets += ["chosen", "rejected", "judge"]
    else:
        targets += ["completion", "label", "judge"]
    return {target: target for target in targets}


def rows(record: Record, names: Names | None = None) -> list[Row]:
    """The rows of a record with these columns: one for each demonstration, pair, judgment or completion."""
    used = names or names_of(record)
    found = []
    for usual in _written(record, used):
        row = restore(record, NAME, usual, decoder(used))
        found.append({key: row[key] for key in usual if key in row} | row)  # what was mapped comes first
    return found


def _written(record: Record, names: Names) -> list[Row]:
    base = _base(record, names)
    demonstrations = [_value(record.completions[index]) for index in record.demonstrations or ()]
    if not record.completions:
        found: list[Row] = [{}]
    elif "chosen" in names:
        found = _pair_rows(record)
    elif "completion_1" in names:
        found = _numbered_rows(record, sum(NUMBERED.fullmatch(target) is not None for target in names))
    elif "completion" in names:
        found = _single_rows(record)
    elif "demonstration" in names:
        best = best_completion(record)
        if not demonstrations and best is not None:
            demonstrations = [_value(record.completions[best])]
        found = [{"demonstration": answer} for answer in demonstrations]
    else:
        found = [{}]
    if demonstrations and "demonstration" in names:
        found = [{"demonstration": demonstrations[0]} | row for row in found]
    return [
        {names[target]: value for target, value in (base | row).items() if target in names} for row in found
    ]


def _base(record: Record, names: Names) -> Row:
    """What the rows of a record share: the prompt and what is said of the whole."""
    turns, base = list(record.prompt), Row()
    if "system" in names and len(turns) > 1 and turns[0] == Message("system", turns[0].content):
        base["system"] = turns.pop(0).content
    if turns == [Message("user", turns[0].content if turns else "")]:
        context = notes_of(record, NAME).get("context")
        base["prompt"] = turns[0].content
        if context and "context" in names and turns[0].content.endswith(f"\n\n{context}"):
            base |= {"prompt": turns[0].content.removesuffix(f"\n\n{context}"), "context": context}
    else:
        base["prompt"] = msgspec.to_builtins(turns)
    if record.id is not None and record.id != record_id(msgspec.structs.replace(record, id=None)):
        base["id"] = record.id
    for key, value in record.meta.items():
        base["tags" if key == "tags" else f"meta.{key}"] = value
    return base


def _value(completion: Completion) -> Any:
    return completion.content if completion.messages is None else msgspec.to_builtins(completion.messages)


def _judge(judgment: Judgment) -> Row:
    return {} if judgment.by is None else {"judge": judgment.by}


def _pair_rows(record: Record) -> list[Row]:
    found = []
    for judgment in record.judgments:
        for a, b, p, _ in [] if judgment.all_bad else judgment_votes(judgment):
            if p != 0.5:
                sides = (a, b) if p > 0.5 else (b, a)
                chosen, rejected = [_value(record.completions[index]) for index in sides]
                found.append({"chosen": chosen, "rejected": rejected} | _judge(judgment))
    return found


def _numbered_rows(record: Record, count: int) -> list[Row]:
    if len(record.completions) < count:
        return []
    base = {f"completion_{k + 1}": _value(record.completions[k]) for k in range(count)}
    return [
        base | _judge(judgment) | {target: preferred(judgment, count, target) for target in PREFERENCES}
        for judgment in record.judgments
    ] or [base]


def _single_rows(record: Record) -> list[Row]:
    """A row for each completion that is not to imitate, and for each judge who labelled or rated it."""
    found = []
    for index, completion in enumerate(record.completions):
        if index in (record.demonstrations or ()):
            continue
        base = {"completion": _value(completion)}
        judged = [row for judgment in record.judgments if (row := _single_judgment(judgment, index))]
        found += [base | row for row in judged] or [base]
    return found


def _single_judgment(judgment: Judgment, index: int) -> Row:
    row: Row = {}
    if judgment.labels and judgment.labels[index] is not None:
        row["label"] = judgment.labels[index]
    for scale, values in (judgment.ratings or {}).items():
        if values[index] is not None:
            row["rating" if scale == "rating" else f"rating.{scale}"] = values[index]
    return row | _judge(judgment) if row else {}
