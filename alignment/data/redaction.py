"""Personal data in records: where it is, and a copy of the record without it.

Every text of a record is looked at: turns of prompt and completions with their names, parts and tool calls,
tools, rationales, the judges' names, texts in `meta` and `params`. Ids, roles and times are not, and stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec

from alignment.data.personal import REGION, Names, find_personal, masked, redact
from alignment.data.records import Record, with_id

# Keys of the format whose values are no texts, and the open ones, below which any key may stand.
_FIXED = {"v", "id", "role", "kind", "license", "at", "guideline", "tool_call_id", "parent"}
_OPEN = {"meta", "params", "parts", "tool_calls", "tools"}
_ENCODED = re.compile(r"(?:data:[^,]{0,100},)?[A-Za-z0-9+/=_-]{200,}\s*")  # an image or another file


class Place(NamedTuple):
    """A finding in a record: its kind, the field, and the found text with all but its first letter hidden."""

    kind: str
    field: str
    masked: str


class Redactor:
    """Finds and replaces personal data in records, with the same settings for all of them.

    A judge's name that is personal becomes [EMAIL-1], [EMAIL-2], …: numbered, so that judges stay apart.
    """

    def __init__(self, region: str | None = REGION, names: Names | None = None) -> None:
        self._find = partial(find_personal, region=region, names=names)
        self._redact = partial(redact, region=region, names=names)
        self._judges: dict[str, str] = {}

    def places(self, record: Record) -> list[Place]:
        """Every finding in the record."""
        return [
            Place(finding.kind, field, masked(text[finding.start : finding.end]))
            for field, text in record_texts(record)
            for finding in self._find(text)
        ]

    def redacted(self, record: Record) -> Record:
        """The record with a placeholder for each finding; its id is what it was before."""
        if not self.places(record):
            return record
        plain = msgspec.to_builtins(with_id(record))
        return msgspec.convert(self._clean(plain, ""), Record)

    def _clean(self, value: Any, key: str, open_: bool = False) -> Any:
        if isinstance(value, dict):
            return {
                k: v if _is_fixed(k, key, open_) else self._clean(v, k, open_ or k in _OPEN)
                for k, v in value.items()
            }
        if isinstance(value, list):
            return [self._clean(item, key, open_) for item in value]
        if isinstance(value, str):
            return self._judge(value) if key == "by" and not open_ else self._clean_text(value, open_)
        if _is_long_number(value, open_) and self._find(str(value)):
            return self._redact(str(value))
        return value

    def _clean_text(self, text: str, open_: bool) -> str:
        if open_ and _ENCODED.fullmatch(text):
            return text
        clean = self._redact(text)
        inner = _json(text) if open_ and clean != text else None
        # Arguments of a tool call are JSON in a string, and stay so even where a number was replaced.
        return clean if inner is None else json.dumps(self._clean(inner, "", True), ensure_ascii=False)

    def _judge(self, name: str) -> str:
        found = self._find(name)
        if not found:
            return name
        return self._judges.setdefault(name, f"[{found[0].kind}-{len(self._judges) + 1}]")


def record_texts(record: Record) -> Iterator[tuple[str, str]]:
    """(field, text) of every text in the record; the field is "completions.content", "meta", …"""
    return _texts(msgspec.to_builtins(record), "", "", False)


def _texts(value: Any, field: str, key: str, open_: bool) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for k, inner in value.items():
            if not _is_fixed(k, key, open_):
                # An open field is one place: its inner keys can be anything.
                below = field if open_ else f"{field}.{k}" if field else k
                yield from _texts(inner, below, k, open_ or k in _OPEN)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, field, key, open_)
    elif isinstance(value, str):
        if value and not (open_ and _ENCODED.fullmatch(value)):
            yield field, value
    elif _is_long_number(value, open_):
        yield field, str(value)


def _is_fixed(key: str, parent: str, open_: bool) -> bool:
    return key in _FIXED and (not open_ or parent == "tool_calls")


def _is_long_number(value: Any, open_: bool) -> bool:
    """A card can be a number in a tool's arguments."""
    return open_ and isinstance(value, int) and value >= 10**11


def _json(text: str) -> Any:
    """The object or list that a text holds as JSON, else None."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
