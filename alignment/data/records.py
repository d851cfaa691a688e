"""The record: one prompt, the completions offered for it, and the judgments made of them.

One row of a dataset is one `Record`. Raw judgments are kept, per judge; pairs are derived by `views`,
never stored. Everything but `meta`, `params`, `parts`, `tool_calls` and `tools` is closed: an unknown key
is an error that names the file, the line, the key and the nearest known key.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from typing import Any, Literal

import msgspec

from alignment.errors import UserError

Role = Literal["system", "developer", "user", "assistant", "tool"]


def _version() -> Literal[1]:
    return 1


class Message(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One turn. `parts` holds images and the like; `content` stays the text."""

    role: Role
    content: str = msgspec.field(default_factory=str)  # a factory, so that "" is written too
    parts: list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    weight: float | None = None


class Source(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Where a completion comes from: `kind` is model, human, dataset, …"""

    kind: str
    name: str | None = None
    params: dict[str, Any] = {}


class Completion(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A reply: `content` for one assistant message, or `messages` for several turns; never both."""

    id: str | None = None
    content: str | None = None
    messages: list[Message] | None = None
    source: Source | None = None
    license: str | None = None
    rewards: list[float | None] | None = None
    meta: dict[str, Any] = {}

    @property
    def text(self) -> str:
        """The reply as text: `content`, or the content of the last assistant turn ("" if none)."""
        if self.content is not None:
            return self.content
        for message in reversed(self.messages or []):
            if message.role == "assistant":
                return message.content
        return ""

    def turns(self) -> list[Message]:
        """The reply as messages, whichever way it was written."""
        if self.messages is not None:
            return self.messages
        return [Message("assistant", self.content or "")]


class Comparison(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Completion `a` against `b` (indices); `p` = probability that a is better (None: a is better)."""

    a: int
    b: int
    p: float | None = None
    strength: float | None = None


class Judgment(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What one judge said; `by` None is anonymous. Every list has one entry per completion.

    ranks: 1 is best, equal is a tie, None is not judged (never worst).
    presented: the order of completion indices in which the judge saw them.
    """

    by: str | None = None
    ranks: list[int | None] | None = None
    comparisons: list[Comparison] | None = None
    ratings: dict[str, list[float | None]] | None = None
    labels: list[bool | None] | None = None
    all_bad: bool | None = None
    rationale: str | None = None
    at: str | None = None
    seconds: float | None = None
    presented: list[int] | None = None
    guideline: str | None = None
    meta: dict[str, Any] = {}


class Parent(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The record, and which of its completions, that this conversation goes on from."""

    id: str
    completion: int | None = None


class Record(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One row of a dataset."""

    prompt: list[Message]
    v: Literal[1] = msgspec.field(default_factory=_version)  # a factory, so that the version is written
    id: str | None = None
    completions: list[Completion] = []
    demonstrations: list[int] | None = None
    judgments: list[Judgment] = []
    tools: list[dict[str, Any]] | None = None
    parent: Parent | None = None
    meta: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder()
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.?(.*)`)?$", re.DOTALL)
_LONE_SURROGATE = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")
_NO_NUMBER = re.compile(rb"[:\[,]\s*-?(?:NaN|Infinity|nan|inf)\b")
_LOCATED = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)


def encode_record(record: Record) -> bytes:
    """The record as one line of JSON, without the newline; fields at their defaults are left out."""
    return _encoder.encode(record)


def decode_record(line: bytes, where: str) -> Record:
    """One checked record from one line of JSON; `where` ("train.jsonl, line 3") goes into the error.

    Raises UserError on malformed JSON, unknown or duplicate keys, wrong types and broken rules.
    """
    try:
        record = _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: {explain(error)}") from None
    check_duplicate_keys(line, where, _encoder.encode(record))
    check_record(record, where)
    return record


def explain(error: Exception, known: set[str] | None = None) -> str:
    """A msgspec error in a user's words, with the nearest known key where a key is unknown."""
    text = str(error)
    unknown = _UNKNOWN.match(text)
    if unknown:
        key, path = unknown.group(1), unknown.group(2) or ""
        return f'unknown key "{shown(key)}"{_inside(path)}{nearest(key, known or _keys_at(path))}'
    if isinstance(error, msgspec.ValidationError):
        located = _LOCATED.match(text)
        what, path = (located.group(1), located.group(2)) if located else (text, None)
        what = what[:1].lower() + what[1:].replace("`", "")
        return f"{path}: {what}" if path else what
    return f"not valid JSON: {text}"


def explained(reason: str, row: bytes) -> str:
    """Why a row was refused and, where it is no JSON, what in its text may have caused that."""
    if "not valid JSON" not in reason:
        return reason
    try:
        row.decode()
    except UnicodeDecodeError as error:
        return f"{reason} (byte {error.start} is not UTF-8; save the file as UTF-8)"
    if b"\0" in row:
        return f"{reason} (there are NUL bytes in it; a program wrote the row halfway, or not as UTF-8)"
    if _LONE_SURROGATE.search(row):
        return f"{reason} (\\ud800 and its like are halves of characters; put the whole character)"
    if _NO_NUMBER.search(row):
        return f"{reason} (NaN and Infinity are no JSON; put null)"
    return reason


def nearest(key: str, known: set[str]) -> str:
    """'; did you mean "x"?' for a near key, else the list of those that are known."""
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.5)
    if near:
        return f'; did you mean "{shown(near[0])}"?'
    return f"; the keys here are {', '.join(map(shown, sorted(known)))}"


def shown(key: str) -> str:
    """A key of somebody's file as a sentence can show it: on one line, and not endless."""
    plain = key if key.isprintable() else key.encode("unicode_escape").decode()
    return plain if len(plain) <= 80 else f"{plain[:79]}…"


def _inside(path: str) -> str:
    return f" in {path}" if path else ""


def _keys_at(path: str) -> set[str]:
    """The keys that are known at a path such as `completions[0].messages[1]` (or with `[...]`)."""
    holders: dict[str, Any] = {
        "prompt": Message,
        "messages": Message,
        "completions": Completion,
        "source": Source,
        "comparisons": Comparison,
        "judgments": Judgment,
        "parent": Parent,
    }
    names = re.sub(r"\[.*?\]", "", path).split(".")
    return set(holders.get(names[-1], Record).__struct_fields__)


def check_duplicate_keys(line: bytes, where: str, again: bytes = b"") -> None:
    """Raise UserError if an object in this JSON text names a key twice (decoders keep the last, silently).

    again: the decoded row, encoded: where it equals the line, nothing was dropped and nothing is left to do.
    """
    if again == line.rstrip():
        return
    # A dropped entry takes the quotes of its key with it, so equal counts of quotes mean that none was; but
    # encoding a type can add some back: "v" and an empty "content" are the keys it writes unasked.
    if b"\\u0022" not in line:
        quotes = line.count(b'"')
        asked = line.startswith((b'{"v":1,', b'{"v": 1,')) or b'"v":' not in again
        if quotes == again.count(b'"') and asked and b'"content":""' not in again:
            return
        if quotes == _encoder.encode(msgspec.json.decode(line)).count(b'"'):
            return

    def refuse(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise UserError(f'{where}: the key "{shown(key)}" is there twice; keep one')
            seen.add(key)
        return {}

    json.loads(line, object_pairs_hook=refuse)


def check_record(record: Record, where: str) -> None:
    """Raise UserError, naming `where`, if the record breaks a rule of the format."""
    if record.prompt and record.prompt[-1].role == "assistant":
        raise UserError(f"{where}: the prompt ends with the assistant; move that turn into a completion")
    count = len(record.completions)
    if not record.prompt and not count:
        raise UserError(f"{where}: the record has neither a prompt nor completions")
    ids = set()
    for index, completion in enumerate(record.completions):
        if (completion.content is None) == (completion.messages is None):
            raise UserError(f'{where}: completions[{index}] needs either "content" or "messages"')
        if completion.messages is not None and not any(m.role == "assistant" for m in completion.messages):
            raise UserError(f"{where}: completions[{index}].messages has no assistant turn")
        if completion.id is not None:
            if completion.id in ids:
                raise UserError(f'{where}: two completions have the id "{completion.id}"')
            ids.add(completion.id)
    if record.demonstrations is not None:
        _check_indices(record.demonstrations, count, f"{where}: demonstrations")
    for index, judgment in enumerate(record.judgments):
        _check_judgment(judgment, count, where, f"judgments[{index}]")


def _check_judgment(judgment: Judgment, count: int, where: str, name: str) -> None:
    columns: list[tuple[str, list[Any]]] = []
    if judgment.ranks is not None:
        columns.append(("ranks", judgment.ranks))
        for rank in judgment.ranks:
            if rank is not None and rank < 1:
                raise UserError(f"{where}: {name}.ranks has {rank}; the best rank is 1")
    if judgment.labels is not None:
        columns.append(("labels", judgment.labels))
    if judgment.ratings is not None:
        columns += [(f"ratings.{key}", values) for key, values in judgment.ratings.items()]
    for key, values in columns:
        if len(values) != count:
            raise UserError(
                f"{where}: {name}.{key} has {len(values)} entries for {count} completions; "
                "give one for each, null where it was not judged"
            )
    for comparison in judgment.comparisons or ():
        _check_indices([comparison.a, comparison.b], count, f"{where}: {name}.comparisons")
        if comparison.p is not None and not 0 <= comparison.p <= 1:
            raise UserError(f"{where}: {name}.comparisons has p = {comparison.p}; it must be from 0 to 1")
    if judgment.presented is not None:
        _check_indices(judgment.presented, count, f"{where}: {name}.presented")
    if judgment.seconds is not None and judgment.seconds < 0:
        raise UserError(f"{where}: {name}.seconds is {judgment.seconds}; it cannot be negative")


def _check_indices(indices: list[int], count: int, where: str) -> None:
    for index in indices:
        if not 0 <= index < count:
            raise UserError(f"{where} names completion {index}; there are {count}, counted from 0")
    if len(set(indices)) != len(indices):
        raise UserError(f"{where} names a completion twice: {indices}")


def record_id(record: Record) -> str:
    """The record's id; where it has none, a hash (24 hex digits) of its prompt, completions and tools."""
    if record.id is not None:
        return record.id
    turns = [completion.turns() for completion in record.completions]
    content = _encoder.encode([record.prompt, turns, record.tools, record.parent])
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def with_id(record: Record) -> Record:
    """The record itself if it has an id, else a copy that has one."""
    return record if record.id is not None else msgspec.structs.replace(record, id=record_id(record))


def message_dict(message: Message) -> dict[str, Any]:
    """The message as the plain dict that chat templates take: role, content, and whatever else is set."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    for key in ("parts", "name", "tool_calls", "tool_call_id", "weight"):
        value = getattr(message, key)
        if value is not None:
            row[key] = value
    return row


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a record."""
    return msgspec.json.schema(Record)


# The columns of a record in Arrow's types, for Parquet and `datasets`. A dict is a struct, a list holds its
# one entry, and "json" is an open part, kept as JSON text.
_MESSAGE = {
    "role": "string",
    "content": "string",
    "parts": "json",
    "name": "string",
    "tool_calls": "json",
    "tool_call_id": "string",
    "weight": "float64",
}
COLUMNS: dict[str, Any] = {
    "v": "int64",
    "id": "string",
    "prompt": [_MESSAGE],
    "completions": [
        {
            "id": "string",
            "content": "string",
            "messages": [_MESSAGE],
            "source": {"kind": "string", "name": "string", "params": "json"},
            "license": "string",
            "rewards": ["float64"],
            "meta": "json",
        }
    ],
    "demonstrations": ["int64"],
    "judgments": [
        {
            "by": "string",
            "ranks": ["int64"],
            "comparisons": [{"a": "int64", "b": "int64", "p": "float64", "strength": "float64"}],
            "ratings": "json",
            "labels": ["bool"],
            "all_bad": "bool",
            "rationale": "string",
            "at": "string",
            "seconds": "float64",
            "presented": ["int64"],
            "guideline": "string",
            "meta": "json",
        }
    ],
    "tools": "json",
    "parent": {"id": "string", "completion": "int64"},
    "meta": "json",
}


def features() -> Any:
    """The `datasets.Features` of a record: `load_dataset("json", data_files=…, features=features())`."""
    from datasets import Features

    return Features.from_dict(feature_dict())


def feature_dict() -> dict[str, Any]:
    """The same as a plain dict, the way `datasets` writes it into a Parquet file's metadata."""
    return {name: _feature(kind) for name, kind in COLUMNS.items()}


def _feature(kind: Any) -> dict[str, Any]:
    if isinstance(kind, dict):
        return {name: _feature(inner) for name, inner in kind.items()}
    if isinstance(kind, list):
        return {"feature": _feature(kind[0]), "_type": "List"}
    return {"_type": "Json"} if kind == "json" else {"dtype": kind, "_type": "Value"}
