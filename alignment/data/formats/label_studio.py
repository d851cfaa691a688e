"""Label Studio's JSON export: tasks with several annotations each; and JSON-MIN, a flat row an annotation.

A task is {id, data, annotations, predictions, meta, …}; an annotation {id, completed_by, created_at,
lead_time, was_cancelled, ground_truth, result}; a result {from_name, to_name, type, value}.
(HumanSignal/label-studio: docs/source/includes/task_format.md, docs/source/tags/ranker.md,
docs/source/templates/generative-pairwise-human-preference.md and generative-llm-ranker.md,
web/libs/editor/…/control/Pairwise.js; JSON-MIN: HumanSignal/label-studio-converter, converter.py.)
Old exports call annotations "completions".

The replies are the entries of a list with ids ({id, title, body}: List and Ranker), else the fields of `data`
called answer1, response_2, text1, chosen and the like. The prompt is what is called prompt, instruction,
question, input, context, chat, …; else the only text that is left; where that leaves it open, the task is
refused. A chat that ends with the assistant, without other replies, is a prompt and its reply.

Every annotation is one judgment: by completed_by, at created_at, seconds = lead_time. Pairwise and Ranker
give the order; a Rating belongs to the reply that it points to, or names; Choices that name a reply, a tie or
neither prefer, tie or call bad; a TextArea is the rationale (called reason, comment, …) or a reply to imitate
(called correction, response, …, or the only thing asked). Other results stay in the judgment's
meta.label_studio.result. Cancelled annotations are in meta.label_studio.unvoted, and vote not.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from alignment.data.files import Paths, Rejects
from alignment.data.formats import annotation, compared, foreign
from alignment.data.formats.foreign import Row
from alignment.data.formats.kept import decode_object, keep, note, notes_of, restore
from alignment.data.formats.label_studio_results import VALUE_KEYS, read_results, usual_results
from alignment.data.records import Completion, Judgment, Record, record_id
from alignment.errors import UserError

NAME = "label_studio"
_CONTENT = ("body", "html", "text", "title")
_FLAT = {
    "id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "was_cancelled",
}  # fmt: skip


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a task (of JSON-MIN: a row), with a judgment for each annotation that was not cancelled."""
    return foreign.read_foreign(paths, decode, rejects)


def recognise(row: Row) -> str | None:
    """Why a row is Label Studio's, in a person's words, or None."""
    if isinstance(row.get("data"), dict):
        for key in ("annotations", "predictions", "completions"):
            if isinstance(row.get(key), list):
                return f'the keys "data" and "{key}"'
    if "annotation_id" in row and ("lead_time" in row or "annotator" in row):
        return (
            'the keys "annotation_id" and "lead_time"'
            if "lead_time" in row
            else 'the keys "annotation_id" and "annotator"'
        )
    return None


def decode(line: bytes, where: str) -> Record:
    """One task or JSON-MIN row as a record. Raises UserError."""
    row = decode_object(line, where)
    if isinstance(row.get("data"), dict):
        record = _task(row, where)
    elif "annotation_id" in row:
        record = _flat(row, where)
    else:
        raise UserError(f'{where}: neither a task with "data" nor a JSON-MIN row with "annotation_id"')
    keep(record, NAME, row, _usual_row(record))
    return record


def _task(row: Row, where: str) -> Record:
    meta = row.get("meta") if isinstance(row.get("meta"), dict) else {}
    record = Record([], id=_text(row.get("id")), meta={k: v for k, v in (meta or {}).items() if k != NAME})
    key = "annotations" if "annotations" in row or "completions" not in row else "completions"
    note(record, NAME, {"key": key if key != "annotations" else ""})
    names = _read_data(record, row["data"], where)
    unvoted = []
    if not isinstance(row.get(key) or [], list):
        raise UserError(f'{where}: "{key}" must be a list')
    for place, given in enumerate(row.get(key) or []):
        if not isinstance(given, dict) or not isinstance(given.get("result") or [], list):
            raise UserError(f'{where}: every entry of "{key}" must be an object with a list "result"')
        if given.get("was_cancelled") or given.get("skipped"):
            unvoted.append({"place": place, "annotation": given})
        else:
            results = [result for result in given.get("result") or [] if isinstance(result, dict)]
            _hear(record, results, names, given, where)
    note(record, NAME, {"unvoted": unvoted})
    _widen(record)
    return record


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, dict | list | bool) else str(value)


def _number(text: str) -> Any:
    """An id as Label Studio writes it: an integer where it is one."""
    return int(text) if re.fullmatch("0|[1-9][0-9]{0,18}", text) else text


def _read_data(record: Record, data: Row, where: str) -> list[str]:
    """Fill in prompt and completions; return what the results may call these."""
    listed = next((key for key, value in data.items() if _is_list(value)), None)
    fields = annotation.find_fields(data, set(), f"{where}: data", apart=listed is not None)
    asked = {name: data[name] for name in fields.prompt}
    record.prompt = annotation.prompt_turns(data, fields.prompt, where)
    chat = ""
    if listed is None and not fields.completions and record.prompt and record.prompt[-1].role == "assistant":
        record.completions = [foreign.reply([record.prompt.pop()])]
        names = [chat := fields.prompt[-1]]  # what the results are about
    elif listed is None:
        names = fields.completions
        record.completions = [annotation.completion_of(data[name], f"{where}: {name}") for name in names]
    else:
        names = [str(item["id"]) for item in data[listed]]
        record.completions = [_listed_completion(item, index) for index, item in enumerate(data[listed])]
    used = {*fields.prompt, *fields.completions, listed}
    note(
        record,
        NAME,
        {
            "chat": chat,
            "asked": asked if len(asked) > 1 and not chat else {},
            "prompt": fields.prompt if len(asked) == 1 and not chat and fields.prompt != ["prompt"] else [],
            "answers": names if listed is None and not chat and names != usual_names(len(names)) else [],
            "list": listed if listed != "items" else "",
            "few": listed is not None and len(names) < 3,
            "spread": listed is None and len(names) > 2,
            "data": {key: value for key, value in data.items() if key not in used},
        },
    )
    return names


def usual_names(count: int) -> list[str]:
    """The fields of replies where nothing else is known."""
    return [f"answer{index + 1}" for index in range(count)]


def _is_list(value: Any) -> bool:
    """Whether a value is what Label Studio's List tag takes: objects with an id and a text."""
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        return False
    return all("id" in item and any(isinstance(item.get(k), str) for k in _CONTENT) for item in value)


def _listed_completion(item: Row, index: int) -> Completion:
    said = [key for key in _CONTENT if isinstance(item.get(key), str)]
    key = next((key for key in said if item[key] and key != "title"), said[0])
    rest = {name: value for name, value in item.items() if name not in ("id", key)}
    if key != "body":
        rest["content_key"] = key
    own = str(item["id"])
    if own != usual_names(index + 1)[-1] and isinstance(item["id"], int):
        rest["id"] = item["id"]
    given = own if own != usual_names(index + 1)[-1] else None
    return Completion(id=given, content=item[key], meta={NAME: rest} if rest else {})


def _hear(record: Record, results: list[Row], names: list[str], given: Row, where: str) -> None:
    """Add the judgment of one annotation."""
    who = given.get("completed_by")
    by = _text(who.get("email") or who.get("id")) if isinstance(who, dict) else _text(who)
    first, *more = read_results(results, names, by, where)
    rest = {key: value for key, value in given.items() if key != "result"}
    judgment = first.judgment
    if isinstance(given.get("created_at"), str):
        judgment.at = rest.pop("created_at")
    if (seconds := _seconds(given.get("lead_time"))) is not None:
        judgment.seconds = seconds
        del rest["lead_time"]
    if by is not None and who == _number(by):
        rest.pop("completed_by")
    if given.get("result") != usual_results(judgment, first.corrections, names) or more:
        rest["result"] = given.get("result")
    if rest:
        judgment.meta = {NAME: rest}
    for control, text in first.corrections.items():
        written = annotation.corrected(text, by)
        written.meta = {NAME: {"control": control}}
        record.demonstrations = [*(record.demonstrations or []), len(record.completions)]
        record.completions = [*record.completions, written]
    for other in more:
        other.judgment.meta = {NAME: {"joined": True}}
    record.judgments = [*record.judgments, judgment, *(other.judgment for other in more)]


def _seconds(value: Any) -> float | None:
    """The time that an annotation took, a text in tables; None for what is none."""
    try:
        seconds = compared.number(value, "", "lead_time")
    except UserError:
        return None
    return seconds if seconds is not None and seconds >= 0 else None


def _widen(record: Record) -> None:
    for judgment in record.judgments:
        annotation.widen(judgment, len(record.completions))


def _entries(value: Any) -> list[Row]:
    """The objects of a control's column: a list of them, one alone, or either as JSON text (in a table)."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return []
    entries = value if isinstance(value, list) else [value]
    return [entry for entry in entries if isinstance(entry, dict)]


def _flat(row: Row, where: str) -> Record:
    """A JSON-MIN row: the data, the controls by name, and one annotation's own columns."""
    results = [
        {"from_name": key, "type": kind, "value": entry}
        for key, value in row.items()
        if key not in _FLAT
        for entry in _entries(value)
        for kind, name in VALUE_KEYS.items()
        if name in entry and "id" not in entry and "role" not in entry
    ]
    controls = {result["from_name"] for result in results}
    data = {key: value for key, value in row.items() if key not in _FLAT and key not in controls}
    record = Record([], id=_text(row.get("id")))
    names = _read_data(record, data, where)
    kept = record.meta.get(NAME, {})
    for key, value in kept.get("data", {}).items():  # a lone choice, and a lone text, are plain texts here
        if isinstance(value, str) and annotation.RATIONALE.search(key):
            results.append({"from_name": key, "type": "textarea", "value": {"text": [value]}})
        elif isinstance(value, str) and annotation.BEST.search(key):
            results.append({"from_name": key, "type": "choices", "value": {"choices": [value]}})
    given = {"created_at": row.get("created_at"), "lead_time": row.get("lead_time"), "result": results}
    _hear(record, results, names, {**given, "completed_by": row.get("annotator")}, where)
    record.meta = {NAME: {**kept, "flat": [key for key in row if key in controls]}}
    _widen(record)
    return record


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One task a record, to be imported or read as an export; return what was lost, field: count."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[Row]:
    """The task of a record; none where a task could not tell the prompt from a reply."""
    row = restore(record, NAME, _usual_row(record), decode)
    try:
        decode(msgspec.json.encode(row), "a row")
    except UserError:
        return []
    return [row]


def _usual_row(record: Record) -> Row:
    kept = notes_of(record, NAME)
    data, names = _usual_data(record)
    given = record.id if record.id != record_id(msgspec.structs.replace(record, id=None)) else None
    row: Row = {} if given is None else {"id": _number(given)}
    annotations = _annotations(record, names)
    if "flat" in kept:
        return row | _flat_columns(data, annotations[0] if annotations else {"result": []})
    meta = {key: value for key, value in record.meta.items() if key != NAME}
    return (
        row | {"data": data, kept.get("key", "annotations"): annotations} | ({"meta": meta} if meta else {})
    )


def _usual_data(record: Record) -> tuple[Row, list[str]]:
    """A task's data, and what its results call the replies."""
    kept = notes_of(record, NAME)
    own = [completion for completion in record.completions if "control" not in notes_of(completion, NAME)]
    asked = kept.get("asked")
    data: Row = dict(kept.get("data", {}))
    if kept.get("chat") and len(own) == 1:
        data[kept["chat"]] = msgspec.to_builtins(record.prompt + own[0].turns())
        return data, [kept["chat"]]
    if asked and annotation.prompt_turns(asked, list(asked), "meta") == record.prompt:
        data |= asked
    elif record.prompt:
        data[next(iter(kept.get("prompt") or asked or ["prompt"]))] = annotation.field_value(record.prompt)
    plain = all(completion.content is not None for completion in own)
    if own and plain and not kept.get("spread") and (len(own) > 2 or kept.get("few")):
        items = [_item(completion, index) for index, completion in enumerate(own)]
        data[kept.get("list", "items")] = items
        return data, [str(item["id"]) for item in items]
    names = kept.get("answers", [])
    names = names if len(names) == len(own) else usual_names(len(own))
    return {**data, **{n: annotation.field_value(c.turns()) for n, c in zip(names, own, strict=True)}}, names


def _item(completion: Completion, index: int) -> Row:
    rest = dict(notes_of(completion, NAME))
    key = rest.pop("content_key", "body")
    return {"id": completion.id or usual_names(index + 1)[-1], key: completion.content, **rest}


def _annotations(record: Record, names: list[str]) -> list[Row]:
    """The annotations of a task, cancelled ones again in their places."""
    found: list[Row] = []
    written = [completion for completion in record.completions if "control" in notes_of(completion, NAME)]
    for judgment in record.judgments:
        rest = dict(notes_of(judgment, NAME))
        if rest.pop("joined", False) and found:
            continue  # a further order in the same annotation: its results are with the first
        own = [c for c in written if (c.source.name if c.source else None) == judgment.by]
        entry: Row = {} if judgment.by is None else {"completed_by": _number(judgment.by)}
        entry |= {"created_at": judgment.at} if judgment.at is not None else {}
        entry |= {"lead_time": judgment.seconds} if judgment.seconds is not None else {}
        raw = rest.pop("result", None)
        entry = {key: value for key, value in entry.items() if key not in rest}
        found.append({**entry, **rest, "result": _results(judgment, own, names, raw)})
    for entry in notes_of(record, NAME).get("unvoted", []):
        found.insert(entry["place"], entry["annotation"])
    return found


def _results(judgment: Judgment, written: list[Completion], names: list[str], raw: Any) -> Any:
    """The results as they were read, where they still say this judgment; else what it says now."""
    usual = usual_results(judgment, {notes_of(c, NAME)["control"]: c.text for c in written}, names)
    if not isinstance(raw, list):
        return usual
    kept = [result for result in raw if isinstance(result, dict)]
    try:
        heard = read_results(kept, names, judgment.by, "meta")[0]
    except UserError:
        return usual
    if usual_results(heard.judgment, heard.corrections, names) == usual:
        return raw
    silent = [result for result in kept if _silent(result, names)]
    return [*silent, *usual]


def _silent(result: Row, names: list[str]) -> bool:
    """Whether a result alone says nothing that the record holds."""
    heard = read_results([result], names, None, "meta")[0]
    return heard.judgment == Judgment() and not heard.corrections


def _flat_columns(data: Row, entry: Row) -> Row:
    controls: dict[str, list[Any]] = {}
    for result in entry["result"]:
        if result.get("from_name") not in data:
            controls.setdefault(result["from_name"], []).append(result["value"])
    columns = {"annotator": entry.get("completed_by")} | {
        k: entry.get(k) for k in ("created_at", "lead_time")
    }
    return {**data, **controls, **columns}
