"""TRL's column styles, standard (text) and conversational (messages).

| style | columns |
|---|---|
| text | text |
| messages | messages |
| prompt | prompt |
| completion | prompt, completion |
| preference | prompt, chosen, rejected |
| implicit | chosen, rejected: the prompt is their common start |
| unpaired | prompt, completion, label |

`tools` goes with any of them. What the way back needs and a record does not say by itself is in meta.trl:
the style (of text, messages and implicit), `standard` (texts, not messages), and further columns.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from alignment.data.files import Paths, Rejects
from alignment.data.formats import foreign
from alignment.data.formats.rows import columns_of
from alignment.data.formats.turns import reply_start
from alignment.data.pairs import best_completion, label_balance, pair_votes
from alignment.data.records import Completion, Judgment, Message, Record, explain
from alignment.errors import UserError

STYLES = ("text", "messages", "prompt", "completion", "preference", "implicit", "unpaired")
Text = str | list[Message]


class _Row(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    prompt: Text | None = None
    chosen: Text | None = None
    rejected: Text | None = None
    completion: Text | None = None
    label: bool | None = None
    messages: list[Message] | None = None
    text: str | None = None
    tools: list[dict[str, Any]] | None = None


_KNOWN = set(_Row.__struct_fields__)
_CONVERSATIONS = ("prompt", "chosen", "rejected", "completion", "messages")
_decoder = msgspec.json.Decoder(_Row)


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row, whichever style its columns have."""
    return foreign.read_foreign(paths, decode, rejects)


def recognise(row: dict[str, Any]) -> str | None:
    """By what a row is of this format, or None."""
    keys = [key for key in (*_CONVERSATIONS, "text", "label") if row.get(key) is not None]
    if "chosen" in keys and "rejected" in keys:
        sides = [row["chosen"], row["rejected"]]
        if all(_is_side(side, standard=False) for side in sides):  # a prompt beside them is one more column
            return foreign.by_keys(key for key in keys if key in ("prompt", "chosen", "rejected"))
        # Without a prompt, a text under another name may be it.
        fits = keys == ["prompt", "chosen", "rejected"] or row.keys() <= {"chosen", "rejected", "tools", "id"}
        fits = fits and all(isinstance(row[key], str) for key in keys)
    elif "prompt" in keys and "completion" in keys:
        sides = [row["prompt"], row["completion"]]
        fits = any(all(_is_side(side, standard) for side in sides) for standard in (True, False))
        fits = fits and isinstance(row.get("label", True), bool | None)
    elif keys in (["messages"], ["prompt", "messages"]):  # the first turn again, as UltraChat has it
        fits = _is_side(row["messages"], standard=False)
    elif keys == ["prompt"]:
        # A text beside columns of another name: those may be the answers, so it takes a person to say.
        known = row.keys() <= {"prompt", "tools", "id"}
        fits = _is_side(row["prompt"], standard=False) or (isinstance(row["prompt"], str) and known)
    else:
        fits = keys == ["text"] and isinstance(row["text"], str)
    return foreign.by_keys(keys) if fits else None


def _is_side(value: Any, standard: bool) -> bool:
    if standard:
        return isinstance(value, str)
    return isinstance(value, list) and all(isinstance(turn, dict) and "role" in turn for turn in value)


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row, columns = columns_of(line, where, _decoder, _plain, set(Message.__struct_fields__))
    record = _record(row, columns, where)
    record.tools = row.tools
    if columns:
        record.meta.setdefault("trl", {})["columns"] = columns
    return record


def _plain(given: foreign.Row, where: str) -> foreign.Row:
    """The row with its messages' contents as texts, and its tools as a list."""
    for name in _CONVERSATIONS:
        if isinstance(given.get(name), list):
            given[name] = [_plain_message(message) for message in given[name]]
    if isinstance(given.get("tools"), str):  # a JSON text where the dataset was stored as Parquet
        try:
            given["tools"] = msgspec.json.decode(given["tools"])
        except msgspec.DecodeError as error:
            raise UserError(f"{where}: tools: {explain(error)}") from None
    return given


def _plain_message(message: Any) -> Any:
    """A message with its content as text; a content that is a list of parts is kept as `parts`."""
    if not isinstance(message, dict):
        return message
    plain = {key: value for key, value in message.items() if value is not None}
    parts = plain.get("content")
    if isinstance(parts, list):
        texts = [part.get("text") or "" for part in parts if isinstance(part, dict)]
        if all(isinstance(text, str) for text in texts):
            plain |= {"content": "".join(texts), "parts": parts}
    return plain


def _record(row: _Row, columns: dict[str, Any], where: str) -> Record:
    paired = row.chosen is not None and row.rejected is not None
    answered = row.prompt is not None and row.completion is not None
    if not paired and not answered and row.messages is not None and row.label is not None:
        raise UserError(f'{where}: TRL has no "label" beside "messages"; read the file with --from sharegpt')
    _keep_unused(row, columns, paired, answered)
    if row.chosen is not None and row.rejected is not None:
        return _preference(row, row.chosen, row.rejected, columns, where)
    if not answered and row.messages is not None:
        return _conversation(row.messages, where)
    if not answered and row.text is not None:
        return _answer([], Completion(content=row.text), style="text")
    if row.prompt is None:
        raise UserError(f"{where}: none of TRL's columns ({', '.join(sorted(_KNOWN - {'tools', 'label'}))})")
    if row.chosen is not None or row.rejected is not None:
        raise UserError(f'{where}: "chosen" and "rejected" go together, and one is missing')
    standard = isinstance(row.prompt, str)
    prompt = _prompt(row.prompt)
    if row.completion is None:
        return Record(prompt, meta={"trl": {"standard": True}} if standard else {})
    completion = _completion(row.completion, standard, where)
    if row.label is None:
        return _answer(prompt, completion, standard=standard)
    judgment = Judgment(labels=[row.label])
    return Record(
        prompt,
        completions=[completion],
        judgments=[judgment],
        meta={"trl": {"standard": True}} if standard else {},
    )


def _keep_unused(row: _Row, columns: dict[str, Any], paired: bool, answered: bool) -> None:
    """Put the columns that belong to another style than the row's own with those that TRL does not know."""
    if paired:
        own = {"prompt", "chosen", "rejected"}
    elif answered:
        own = {"prompt", "completion", "label", "chosen", "rejected"}
    elif row.messages is not None or row.text is not None:
        own = (
            {"messages", "chosen", "rejected"} if row.messages is not None else {"text", "chosen", "rejected"}
        )
    else:
        own = _KNOWN
    for name in _KNOWN - own - {"tools"}:
        value = getattr(row, name)
        if value is not None:
            columns[name] = _conversational(value) if isinstance(value, list) else value


def _answer(prompt: list[Message], completion: Completion, style: str = "", standard: bool = False) -> Record:
    marks: dict[str, Any] = {"style": style} if style else {}
    if standard:
        marks["standard"] = True
    meta = {"trl": marks} if marks else {}
    return Record(prompt, completions=[completion], demonstrations=[0], meta=meta)


def _prompt(value: Text) -> list[Message]:
    return [Message("user", value)] if isinstance(value, str) else value


def _completion(value: Text, standard: bool, where: str) -> Completion:
    if isinstance(value, str) != standard:
        raise UserError(f"{where}: the columns must all be text, or all be lists of messages")
    return Completion(content=value) if isinstance(value, str) else foreign.reply(value)


def _conversation(messages: list[Message], where: str) -> Record:
    """The last reply, and what follows it, is the completion; all before it is the prompt."""
    if not messages:
        raise UserError(f'{where}: "messages" is empty')
    start = reply_start(messages)
    if start == len(messages):
        return Record(messages, meta={"trl": {"style": "messages"}})
    return _answer(messages[:start], foreign.reply(messages[start:]), style="messages")


def _preference(row: _Row, chosen: Text, rejected: Text, columns: dict[str, Any], where: str) -> Record:
    standard = isinstance(chosen, str)
    if isinstance(row.prompt, str) and not standard:
        # TRL reads these as an implicit prompt too; the text column only repeats the first turn.
        columns["prompt"] = row.prompt
    elif row.prompt is not None:
        if isinstance(row.prompt, str) != standard:
            raise UserError(f"{where}: the columns must all be text, or all be lists of messages")
        meta = {"trl": {"standard": True}} if standard else {}
        sides = [_completion(side, standard, where) for side in (chosen, rejected)]
        return foreign.preference(_prompt(row.prompt), *sides, meta=meta)
    if isinstance(chosen, str) and isinstance(rejected, str):
        start = os.path.commonprefix([chosen, rejected]).removesuffix(" ")  # noqa: RUF071 (texts, not paths)
        sides = [Completion(content=side[len(start) :]) for side in (chosen, rejected)]
        prompt = [Message("user", start)] if start else []
        return foreign.preference(prompt, *sides, meta={"trl": {"style": "implicit", "standard": True}})
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise UserError(f"{where}: the columns must all be text, or all be lists of messages")
    length = foreign.shared_prompt(chosen, rejected, where)
    sides = [foreign.reply(side[length:]) for side in (chosen, rejected)]
    return foreign.preference(chosen[:length], *sides, meta={"trl": {"style": "implicit"}})


def write(
    records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False, style: str | None = None
) -> Counter[str]:
    """Rows of one style; return what was lost, field: count.

    style: one of STYLES; None takes for each record the one it came with, else the richest it can fill.
    Raises UserError where the records differ in that: a file whose columns vary is of no use to TRL.
    """
    if style is not None and style not in STYLES:
        raise UserError(f"style {style!r}: choose one of {', '.join(STYLES)}")
    used: set[str] = set()

    def rows_of(record: Record) -> list[foreign.Row]:
        own = style or style_of(record)
        found = rows(record, own)
        if found:
            used.add(f"{own}, {'texts' if _is_standard(record, own) else 'messages'}")
        if len(used) > 1:
            raise UserError(
                f"{path}: the records need several styles ({'; '.join(sorted(used))}); "
                "name one with --style, or write one view with `alignkit data view`"
            )
        return found

    return foreign.write_foreign(records, path, rows_of, decode, overwrite)


def style_of(record: Record) -> str:
    """The style that the record came with, else the richest that it can fill."""
    marked = record.meta.get("trl", {}).get("style")
    if marked in STYLES:
        return str(marked)
    if pair_votes(record):
        return "preference"
    if any(judgment.labels for judgment in record.judgments):
        return "unpaired"
    return "completion" if record.completions else "prompt"


def rows(record: Record, style: str) -> list[foreign.Row]:
    """The rows of a record in one style; none where it lacks what the style needs."""
    standard = _is_standard(record, style)
    prompt = _conversational(record.prompt)
    found: list[foreign.Row] = []
    if style in ("preference", "implicit"):
        for pair in foreign.derived_pairs(record):
            sides = [_side(completion, standard) for completion in pair]
            row = {"prompt": _text(record.prompt) if standard else prompt}
            if style == "implicit":
                sides = [row["prompt"] + side for side in sides]
                row = {}
            found.append({**row, "chosen": sides[0], "rejected": sides[1]})
    elif style == "unpaired":
        for index, completion in enumerate(record.completions):
            balance = label_balance(record.judgments, index)
            if balance:
                row = {"prompt": _text(record.prompt) if standard else prompt}
                found.append({**row, "completion": _side(completion, standard), "label": balance > 0})
    elif style == "prompt" or (style == "messages" and not record.completions):
        found = [{style: _text(record.prompt) if standard else prompt}]
    else:
        best = best_completion(record)
        chosen = record.demonstrations or ([] if best is None else [best])
        for completion in [record.completions[index] for index in chosen]:
            side = _side(completion, standard)
            if style == "messages":
                found.append({"messages": prompt + side})
            elif style == "completion":
                found.append({"prompt": _text(record.prompt) if standard else prompt, "completion": side})
            else:
                found.append({"text": _text(record.prompt) + side})
    extra = dict(record.meta.get("trl", {}).get("columns", {}))
    if record.tools is not None:
        extra["tools"] = record.tools
    return [row | extra for row in found]


def _is_standard(record: Record, style: str) -> bool:
    """Whether the rows hold texts: asked for by the record, and possible without losing a role."""
    asked = style == "text" or (style != "messages" and record.meta.get("trl", {}).get("standard", False))
    roles = [message.role for message in record.prompt]
    return asked and roles in ([], ["user"]) and all(c.content is not None for c in record.completions)


def _text(messages: list[Message]) -> str:
    return "".join(message.content for message in messages)


def _side(completion: Completion, standard: bool) -> Any:
    return completion.text if standard else _conversational(completion.turns())


def _conversational(messages: list[Message]) -> list[dict[str, Any]]:
    rows = []
    for message in messages:
        row = msgspec.to_builtins(message)
        if message.parts is not None:
            row["content"] = row.pop("parts")
        rows.append(row)
    return rows
