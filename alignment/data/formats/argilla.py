"""Argilla's exports, in the four shapes that its versions write (https://github.com/argilla-io/argilla).

| shape | from | row |
|---|---|---|
| records | 2.x to_json | id, fields, metadata, suggestions, responses {q: [{value, user_id, status}]} |
| columns | 2.x to_datasets | the fields, q.responses, q.responses.users, q.responses.status, q.suggestion |
| feedback | 1.x | fields, responses [{user_id, status, values {q: {value}}}], suggestions, external_id |
| dataset | 1.x on the hub | the fields, q [{user_id, value, status}], q-suggestion, external_id, metadata |

(argilla/src/argilla/records/_resource.py and _io/_generic.py; argilla-v1, feedback/schemas/records.py and
integrations/huggingface/dataset.py.) Further keys and suggestions are kept in meta.argilla; metadata is meta.

Which fields are replies: those that a ranking names, and those called response, completion, answer, output,
reply, generation, chosen, rejected and the like, with a number or without. Which are the prompt: those called
prompt, instruction, question, query, input, context, system, chat, …; else the only text that is left.
Where that leaves it open, the row is refused. A chat that ends with the assistant, without other replies, is
a prompt and its reply.

Every annotator who submitted is one judgment. A ranking is its ranks; a rating belongs to the reply that the
question names ("quality-response-1", "rating_2"), or to the only one; a label that names a reply, or an
integer answer to a question such as "choose-best", prefers that reply; a text is the rationale (of a question
called reason, comment, …) or a reply to imitate (called correction, response, …). Every other answer stays in
the judgment's meta.argilla.answers. Drafts and discarded responses are in meta.argilla.unvoted, and vote not.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from alignment.data.files import Paths, Rejects
from alignment.data.formats import annotation, foreign
from alignment.data.formats.argilla_shapes import Answers, open_row, shape_of, shaped
from alignment.data.formats.foreign import Row
from alignment.data.formats.kept import decode_object, keep, note, notes_of, restore
from alignment.data.records import Completion, Judgment, Record, record_id, shown
from alignment.errors import UserError

NAME = "argilla"
RANKING = "ranking"
VOTED = ("submitted", None)


def read(paths: Paths, rejects: Rejects | None = None) -> Iterator[Record]:
    """One record a row, with a judgment for each annotator who submitted."""
    return foreign.read_foreign(paths, decode, rejects)


def recognise(row: Row) -> str | None:
    """Why a row is Argilla's, in a person's words, or None."""
    shape = shape_of(row)
    return shape[1] if shape else None


def decode(line: bytes, where: str) -> Record:
    """One row as a record. Raises UserError."""
    row = decode_object(line, where)
    shape = shape_of(row)
    if shape is None:
        raise UserError(
            f'{where}: neither "fields" with "responses", nor columns such as "QUESTION.responses" or a '
            "question's list of user_id, value and status; is this an Argilla export?"
        )
    opened = open_row(row, shape[0], where)
    names = annotation.find_fields(opened.fields, _ranked_names(opened.answers), where)
    record = Record([], id=opened.id, meta={key: v for key, v in opened.metadata.items() if key != NAME})
    marks: Row = {"shape": shape[0]} if shape[0] != "records" else {}
    replies = names.completions
    asked = {name: opened.fields[name] for name in names.prompt}
    record.prompt = annotation.prompt_turns(opened.fields, names.prompt, where)
    record.completions = [annotation.completion_of(opened.fields[n], f"{where}: {n}") for n in replies]
    if not replies and record.prompt and record.prompt[-1].role == "assistant":
        record.completions = [foreign.reply([record.prompt.pop()])]
        marks["chat"] = names.prompt[-1]
    elif len(asked) > 1:
        marks["asked"] = asked
    elif names.prompt != ["prompt"]:
        marks["prompt"] = names.prompt
    labels = replies or ["response"] * len(record.completions)
    if replies != usual_names(len(replies)):
        marks["completions"] = replies
    if shape[0] in ("records", "feedback"):
        used = {*names.prompt, *replies}
        marks["fields"] = {key: value for key, value in opened.fields.items() if key not in used}
        marks["suggestions"] = opened.suggestions
        statuses = {"status" in answers.rest for answers in opened.answers}
        marks["no_status"] = statuses == {False}
    note(record, NAME, marks)
    _judge(record, opened.answers, labels, where)
    keep(record, NAME, row, _usual_row(record))
    return record


def _ranked_names(responses: list[Answers]) -> set[str]:
    """What the rankings name."""
    values = [value for answers in responses for value in answers.values.values()]
    return {name for value in values for name, _ in ranking_of(value) or ()}


def ranking_of(value: Any) -> list[tuple[str, int | None]] | None:
    """(name, rank) in a ranking's answer, a list of {value, rank} or both as lists; None in other answers."""
    if isinstance(value, dict) and {"rank", "value"} <= value.keys() and isinstance(value["value"], list):
        ranks = value["rank"] if isinstance(value["rank"], list) else []
        value = [{"value": name, "rank": rank} for name, rank in zip(value["value"], ranks, strict=False)]
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(entry, dict) and isinstance(entry.get("value"), str) for entry in value):
        return None
    return [(entry["value"], entry.get("rank")) for entry in value] if "rank" in value[0] else None


def usual_names(count: int) -> list[str]:
    """The fields of replies where nothing else is known."""
    return [f"response-{index + 1}" for index in range(count)]


def _judge(record: Record, responses: list[Answers], names: list[str], where: str) -> None:
    """Add a judgment for every submitted response; keep the others in meta.argilla.unvoted."""
    unvoted = []
    for place, answers in enumerate(responses):
        if answers.status not in VOTED:
            kept = {"place": place, "user_id": answers.user, "values": answers.values, "rest": answers.rest}
            unvoted.append(kept)
            continue
        first, *more = read_answers(answers.values, names, answers.user, where)
        rest = {key: value for key, value in answers.rest.items() if key != "status" or value != "submitted"}
        if isinstance(rest.get("inserted_at"), str):
            first.judgment.at = rest.pop("inserted_at")
        if answers.values != usual_answers(first.judgment, names) or more:
            rest["answers"] = answers.values
        if rest:
            first.judgment.meta = {NAME: rest}
        for question, text in first.corrections.items():
            written = annotation.corrected(text, answers.user)
            written.meta = {NAME: {"question": question}}
            record.demonstrations = [*(record.demonstrations or []), len(record.completions)]
            record.completions = [*record.completions, written]
        for other in more:
            other.judgment.meta = {NAME: {"joined": True}}
        record.judgments = [*record.judgments, first.judgment, *(other.judgment for other in more)]
    for judgment in record.judgments:
        annotation.widen(judgment, len(record.completions))
    note(record, NAME, {"unvoted": unvoted})


class Heard(msgspec.Struct):
    """What one annotator's answers say: a judgment, and replies that they wrote."""

    judgment: Judgment
    corrections: dict[str, str] = {}


def read_answers(values: Row, names: list[str], by: str | None, where: str) -> list[Heard]:
    """The judgments in one annotator's answers: one, and one more for every further ranking."""
    heard = [Heard(Judgment(by=by))]
    judgment = heard[0].judgment
    for question, value in values.items():
        ranking = ranking_of(value)
        if ranking is None and isinstance(value, list) and len(names) > 1 and _is_order(value, names):
            ranking = [(name, rank) for rank, name in enumerate(value, 1)]
        if ranking is not None:
            ranks = _ranks(ranking, names, f"{where}: {question}")
            if judgment.ranks is None:
                judgment.ranks = ranks
            else:
                heard.append(Heard(Judgment(by=by, ranks=ranks)))
        elif isinstance(value, str):
            if annotation.RATIONALE.search(question):
                if judgment.rationale is None:
                    judgment.rationale = value
            elif not annotation.choose(judgment, question, value, names) and _corrects(
                question, value, names
            ):
                heard[0].corrections = {**heard[0].corrections, question: value}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            picked = len(names) > 1 and value == int(value) and annotation.BEST.search(question)
            if not picked or not annotation.choose(judgment, question, int(value), names):
                annotation.rate(judgment, question, value, names)
    return heard


def _corrects(question: str, value: str, names: list[str]) -> bool:
    meant = annotation.named_completion(value, names) is None or len(value) > 20
    return meant and annotation.CORRECTION.search(question) is not None


def _is_order(value: list[Any], names: list[str]) -> bool:
    found = [annotation.named_completion(name, names) for name in value]
    return None not in found and len(set(found)) == len(found) == len(names)


def _ranks(ranking: list[tuple[str, int | None]], names: list[str], where: str) -> list[int | None]:
    ranks: list[int | None] = [None] * len(names)
    for name, rank in ranking:
        index = annotation.named_completion(name, names)
        if index is None:
            listed = ", ".join(f'"{shown(field)}"' for field in names)
            raise UserError(f'{where}: the ranking names "{name}", which is none of the replies {listed}')
        if rank is not None and (isinstance(rank, bool) or not isinstance(rank, int)):
            raise UserError(
                f'{where}: the rank of "{name}" is {rank!r}; it must be an integer, 1 for the best'
            )
        ranks[index] = rank
    return ranks


def usual_answers(judgment: Judgment, names: list[str]) -> Row:
    """A judgment as answers to questions with usual names."""
    ranks = list(zip(names, judgment.ranks or (), strict=False))
    given = [{"value": name, "rank": rank} for name, rank in ranks if rank is not None]
    values: Row = {RANKING: given} if given else {}
    one = len(names) == 1
    for key, ratings in (judgment.ratings or {}).items():
        for name, rating in zip(names, ratings, strict=False):
            if rating is not None:
                values[key if one else f"{key}-{name}"] = int(rating) if rating == int(rating) else rating
    for name, label in zip(names, judgment.labels or (), strict=False):
        if label is not None:
            values["label" if one else f"label-{name}"] = "good" if label else "bad"
    if judgment.comparisons and len(names) > 2:
        best = judgment.comparisons[0].a
        picked = Judgment()
        annotation.choose(picked, "best", names[best] if best < len(names) else "", names)
        values |= {"best": names[best]} if picked.comparisons == judgment.comparisons else {}
    if judgment.all_bad and len(names) > 1:
        values["best"] = "neither"
    if judgment.rationale is not None:
        values["rationale"] = judgment.rationale
    return values


def write(records: Iterable[Record], path: str | os.PathLike[str], overwrite: bool = False) -> Counter[str]:
    """One row a record, in the shape it came in, else as 2.x `to_json` writes it; return what was lost."""
    return foreign.write_foreign(records, path, rows, decode, overwrite)


def rows(record: Record) -> list[Row]:
    """The row of a record; none where Argilla could not tell the prompt from a reply."""
    if record.prompt and record.prompt[-1].role == "assistant":
        return []
    row = restore(record, NAME, _usual_row(record), decode)
    try:
        decode(json.dumps(row).encode(), "a row")
    except UserError:
        return []
    return [row]


def _usual_row(record: Record) -> Row:
    kept = notes_of(record, NAME)
    own = [c for c in record.completions if "question" not in notes_of(c, NAME)]
    names = kept.get("completions")
    if names is None or len(names) != len(own):
        names = usual_names(len(own))
    fields: Row = {}
    if kept.get("chat") and len(own) == 1:
        fields[kept["chat"]] = msgspec.to_builtins(record.prompt + own[0].turns())
        labels = ["response"]
    else:
        asked = kept.get("asked")
        if asked and annotation.prompt_turns(asked, list(asked), "meta") == record.prompt:
            fields |= asked
        elif record.prompt:
            first = next(iter(kept.get("prompt") or asked or ["prompt"]))
            fields[first] = annotation.field_value(record.prompt)
        fields |= {name: annotation.field_value(c.turns()) for name, c in zip(names, own, strict=True)}
        labels = names
    metadata = {key: value for key, value in record.meta.items() if key != NAME}
    given = record.id if record.id != record_id(msgspec.structs.replace(record, id=None)) else None
    answers = _responses(record, labels)
    return shaped(
        kept.get("shape", "records"), {**kept.get("fields", {}), **fields}, metadata, given, answers, kept
    )


def _responses(record: Record, names: list[str]) -> list[Answers]:
    """What the annotators answered, drafts and discarded responses again in their places."""
    found: list[Answers] = []
    written = [c for c in record.completions if "question" in notes_of(c, NAME)]
    for judgment in record.judgments:
        kept = notes_of(judgment, NAME)
        if kept.get("joined") and found and found[-1].user == judgment.by:
            continue  # a further ranking of the same response: its answers are with the first
        values = _values(judgment, names, [c for c in written if c.source and c.source.name == judgment.by])
        rest = {key: value for key, value in kept.items() if key not in ("answers", "joined")}
        rest = {"status": "submitted", **rest}
        if judgment.at and notes_of(record, NAME).get("shape") == "feedback":
            rest["inserted_at"] = judgment.at
        found.append(Answers(judgment.by, rest.get("status"), values, rest))
    for entry in notes_of(record, NAME).get("unvoted", []):
        rest = entry["rest"]
        found.insert(entry["place"], Answers(entry["user_id"], rest.get("status"), entry["values"], rest))
    return found


def _values(judgment: Judgment, names: list[str], written: list[Completion]) -> Row:
    """The answers as they were read, where they still say this judgment; else what it says now."""
    corrections = {notes_of(completion, NAME)["question"]: completion.text for completion in written}
    usual = {**usual_answers(judgment, names), **corrections}
    raw = notes_of(judgment, NAME).get("answers")
    if not isinstance(raw, dict):
        return usual
    try:
        heard = read_answers(raw, names, judgment.by, "meta")[0]
    except UserError:
        return usual
    again = {**usual_answers(heard.judgment, names), **heard.corrections}
    if again == usual:
        return raw
    silent = {q: v for q, v in raw.items() if not _says(q, v, names)}
    return {**silent, **usual}


def _says(question: str, value: Any, names: list[str]) -> bool:
    """Whether an answer alone says something that the record holds."""
    heard = read_answers({question: value}, names, None, "meta")[0]
    return heard.judgment != Judgment() or bool(heard.corrections)
