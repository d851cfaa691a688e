"""The four shapes of Argilla's rows, opened into fields and each annotator's answers, and closed again."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from alignment.data.formats.foreign import Row
from alignment.errors import UserError

_OWN = {
    "id", "external_id", "status", "_server_id", "inserted_at", "updated_at", "metadata", "vectors", "score",
}  # fmt: skip


class Answers(NamedTuple):
    """One annotator's response: question -> value. `rest` holds its further keys, the status among them."""

    user: str | None
    status: str | None
    values: Row
    rest: Row


class Opened(NamedTuple):
    """A row in one form, whichever its shape."""

    id: str | None
    fields: Row
    metadata: Row
    suggestions: Any
    answers: list[Answers]


def shape_of(row: Row) -> tuple[str, str] | None:
    """(shape, by what it is told), or None for a row that is not Argilla's."""
    if isinstance(row.get("fields"), dict):
        for key in ("responses", "suggestions"):
            if isinstance(row.get(key), list):
                return "feedback", f'the keys "fields" and "{key}", a list'
            if isinstance(row.get(key), dict):
                return "records", f'the keys "fields" and "{key}", by question'
        if "responses" in row or "suggestions" in row:
            return ("feedback" if "external_id" in row else "records"), 'the keys "fields" and "responses"'
        return None
    for key in row:
        question = key.removesuffix(".responses")
        if question != key and any(f"{key}.{more}" in row for more in ("users", "status")):
            return "columns", f'the column "{key}" with its ".users" and ".status"'
        if key.endswith(".suggestion") and f"{key}.agent" in row:
            return "columns", f'the column "{key}" with its ".agent"'
    for key, value in row.items():
        if f"{key}-suggestion-metadata" in row or (f"{key}-suggestion" in row and "external_id" in row):
            return "dataset", f'the column "{key}" with its "-suggestion"'
        entries = _entries(value)
        if entries and all({"user_id", "value", "status"} <= entry.keys() for entry in entries):
            return "dataset", f'the column "{key}" of user_id, value and status'
    return None


def open_row(row: Row, shape: str, where: str) -> Opened:
    """A row's id, fields, metadata, suggestions and answers. Raises UserError."""
    metadata = row.get("metadata")
    if isinstance(metadata, str):  # 1.x writes it to the hub as JSON
        try:
            metadata = json.loads(metadata)
        except json.JSONDecodeError:
            metadata = None
    named = row.get("external_id") if shape in ("feedback", "dataset") else row.get("id")
    answers = _OPEN[shape](row, where)
    fields = row["fields"] if shape in ("records", "feedback") else _field_columns(row, shape)
    return Opened(
        named if isinstance(named, str) and named else None,
        fields,
        metadata if isinstance(metadata, dict) else {},
        row.get("suggestions"),
        answers,
    )


def _field_columns(row: Row, shape: str) -> Row:
    marks: tuple[str, ...] = (".responses", ".users", ".status", ".suggestion", ".agent", ".score")
    if shape == "dataset":
        marks = ("-suggestion", "-suggestion-metadata")
    questions = {key.removesuffix(marks[0]) for key in row if key.endswith(marks[0])}
    asked = questions if shape == "dataset" else set()
    return {
        key: value
        for key, value in row.items()
        if key not in _OWN and key not in asked and not key.endswith(marks) and not _entries(value)
    }


def _entries(value: Any) -> list[Row]:
    """A list of objects, or an object of lists (`datasets` makes them), as a list of objects; else []."""
    if isinstance(value, dict) and "user_id" in value and all(isinstance(v, list) for v in value.values()):
        value = [dict(zip(value, entry, strict=False)) for entry in zip(*value.values(), strict=False)]
    if isinstance(value, list) and all(
        isinstance(e, dict) and "value" in e and "user_id" in e for e in value
    ):
        return value
    return []


def _user(value: Any) -> str | None:
    return None if value in (None, "", "None") else str(value)


def _status(entry: Row, where: str) -> str | None:
    status = entry.get("status")
    if status is not None and not isinstance(status, str):
        raise UserError(f'{where}: the "status" of a response must be a text, such as "submitted"')
    return status


def _open_feedback(row: Row, where: str) -> list[Answers]:
    found = []
    if not isinstance(row.get("responses") or [], list):
        raise UserError(f'{where}: "responses" must be a list')
    for entry in row.get("responses") or []:
        values = entry.get("values") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(values or {}, dict):
            raise UserError(f'{where}: every entry of "responses" must be an object with "values"')
        answers = {
            question: said["value"]
            if isinstance(said, dict) and "value" in said and "rank" not in said
            else said
            for question, said in (values or {}).items()
        }
        rest = {key: value for key, value in entry.items() if key not in ("user_id", "values")}
        found.append(Answers(_user(entry.get("user_id")), _status(entry, where), answers, rest))
    return found


def _open_records(row: Row, where: str) -> list[Answers]:
    given = row.get("responses") or {}
    if not isinstance(given, dict):
        raise UserError(f'{where}: "responses" must be an object with a list for every question')
    by_question: dict[str, list[Row]] = {}
    for question, entries in given.items():
        if not isinstance(entries, list) or not all(isinstance(e, dict) and "value" in e for e in entries):
            raise UserError(f"{where}: responses.{question} must be a list of objects with user_id and value")
        by_question[question] = entries
    return _by_user(by_question, where)


def _open_columns(row: Row, where: str) -> list[Answers]:
    by_question: dict[str, list[Row]] = {}
    for key, values in row.items():
        question = key.removesuffix(".responses")
        if question == key or values is None:
            continue
        users, statuses = row.get(f"{key}.users"), row.get(f"{key}.status")
        if not all(column is None or isinstance(column, list) for column in (values, users, statuses)):
            raise UserError(f'{where}: "{key}" and its users and status must be lists')
        columns = [values, users or [None] * len(values), statuses or ["submitted"] * len(values)]
        if len({len(column) for column in columns}) > 1:
            raise UserError(f'{where}: "{key}" and its users and status differ in length')
        by_question[question] = [
            {"value": value, "user_id": user, "status": status}
            for value, user, status in zip(*columns, strict=True)
        ]
    return _by_user(by_question, where)


def _open_dataset(row: Row, where: str) -> list[Answers]:
    return _by_user({key: entries for key, value in row.items() if (entries := _entries(value))}, where)


_OPEN = {
    "feedback": _open_feedback,
    "records": _open_records,
    "columns": _open_columns,
    "dataset": _open_dataset,
}


def _by_user(by_question: dict[str, list[Row]], where: str) -> list[Answers]:
    """Answers by annotator; a second answer of one to the same question begins a further response."""
    found: dict[tuple[Any, ...], Answers] = {}
    for question, entries in by_question.items():
        seen: dict[Any, int] = {}
        for entry in entries:
            user, status = _user(entry.get("user_id")), _status(entry, where)
            turn = seen[user, status] = seen.get((user, status), -1) + 1
            rest = {key: value for key, value in entry.items() if key not in ("user_id", "value")}
            answers = found.setdefault((user, status, turn), Answers(user, status, {}, rest))
            answers.values[question] = entry["value"]
    return list(found.values())


def shaped(
    shape: str, fields: Row, metadata: Row, given: str | None, answers: list[Answers], kept: Row
) -> Row:
    """The row of a shape. What the shape has besides is among the kept columns."""
    if shape == "feedback":
        responses = [
            {"user_id": a.user, "values": {q: {"value": value} for q, value in a.values.items()}, **a.rest}
            for a in answers
        ]
        row: Row = {"fields": fields, "responses": responses, "metadata": metadata}
        row["suggestions"] = kept.get("suggestions", [])
        return row | ({"external_id": given} if given is not None else {})
    by_question: dict[str, list[Row]] = {}
    for a in answers:
        for question, value in a.values.items():
            entry = {"value": value, "user_id": a.user, **a.rest}
            if kept.get("no_status"):
                entry.pop("status", None)
            by_question.setdefault(question, []).append(entry)
    row = {} if given is None else {"external_id" if shape == "dataset" else "id": given}
    if shape == "records":
        row |= {"fields": fields, "metadata": metadata, "suggestions": kept.get("suggestions", {})}
        return row | {"responses": by_question}
    row |= fields
    for question, entries in by_question.items():
        if shape == "dataset":
            row[question] = entries
        else:
            row[f"{question}.responses"] = [entry["value"] for entry in entries]
            row[f"{question}.responses.users"] = [entry["user_id"] for entry in entries]
            row[f"{question}.responses.status"] = [entry.get("status") for entry in entries]
    return row
