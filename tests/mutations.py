"""Damage for files of rows: what disks, editors, exporters and people do to them, from a seeded dice."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

ODD_VALUES: list[Any] = [
    None, True, 0, -1, 3.5, 10**400, 2**63, 1e308, float("nan"), float("inf"), -float("inf"),
    "", " ", "\x00", "\ud800", "a\udc00b", "\\u0000", "1", "true", "A", "tie", "null", "2.0", "x" * 70_000,
    [], {}, [[]], [{}], [None], [""], {"": ""}, {"role": "user"}, {"from": "alien", "value": 3}, [[["a"]]],
    {"role": "alien", "content": None}, [{"role": "user", "content": [{"type": "text", "text": 5}]}],
]  # fmt: skip


class Damaged(NamedTuple):
    """A damaged file: its suffix and bytes, what was done, and its number of rows where that is sure."""

    suffix: str
    data: bytes
    what: str
    rows: int | None


def damaged_bytes(path: Path, dice: Random) -> Damaged:
    """The file itself, damaged anywhere."""
    change = dice.choice(BYTES)
    return Damaged("".join(path.suffixes), change(path.read_bytes(), dice), change.__name__, None)


def damaged(rows: list[dict[str, Any]], dice: Random) -> Damaged:
    """The rows as a file, damaged in their values, their text or their bytes."""
    kind = dice.choice(("values", "values", "values", "text", "bytes", "file"))
    rows = json.loads(json.dumps(rows))
    dice.shuffle(rows)
    if kind == "values":
        done = [dice.choice(VALUES) for _ in range(dice.randint(1, 3))]
        for change in done:
            change(rows, dice)
        return _written(rows, dice, "+".join(change.__name__ for change in done), len(rows))
    if kind == "text":
        lines = [json.dumps(row) for row in rows]
        change = dice.choice(TEXTS)
        number = dice.randrange(len(lines))
        lines[number] = change(lines[number], dice)
        return Damaged(".jsonl", "\n".join(lines).encode() + b"\n", change.__name__, len(lines))
    whole = _written(rows, dice, "", None)
    if kind == "bytes":
        change_bytes = dice.choice(BYTES)
        return whole._replace(data=change_bytes(whole.data, dice), what=change_bytes.__name__)
    change_bytes = dice.choice(FILES)
    data = change_bytes(json.dumps(rows).encode() if dice.random() < 0.3 else whole.data, dice)
    return whole._replace(data=data, what=change_bytes.__name__)


def _written(rows: list[Any], dice: Random, what: str, count: int | None) -> Damaged:
    suffix = dice.choice((".jsonl", ".jsonl", ".jsonl", ".json", ".jsonl.gz", ".json.gz"))
    lines = [json.dumps(row, ensure_ascii=dice.random() < 0.5) for row in rows]
    text = "\n".join(lines) + "\n" if ".jsonl" in suffix else "[" + ",\n".join(lines) + "]"
    data = text.encode("utf-8", "surrogatepass")
    return Damaged(suffix, gzip.compress(data, 1) if suffix.endswith(".gz") else data, what, count)


# Values: each changes the rows in place, at a place somewhere in one of them.


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key or index) inside a value."""
    inside = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    found = [(value, key) for key, _ in inside]
    for _, inner in inside:
        if isinstance(inner, dict | list):
            found += _places(inner)
    return found


def _place(rows: list[Any], dice: Random) -> tuple[Any, Any]:
    row = dice.randrange(len(rows))
    if not isinstance(rows[row], dict | list) or dice.random() < 0.02:
        return rows, row
    # A key of the row itself as often as one of the many that may be deeper.
    top = [(rows[row], key) for key in (rows[row] if isinstance(rows[row], dict) else range(len(rows[row])))]
    places = top if dice.random() < 0.5 else _places(rows[row])
    return dice.choice(places) if places else (rows, row)


def odd_value(rows: list[Any], dice: Random) -> None:
    holder, key = _place(rows, dice)
    holder[key] = copy.deepcopy(dice.choice(ODD_VALUES))


def wrapped(rows: list[Any], dice: Random) -> None:
    holder, key = _place(rows, dice)
    holder[key] = dice.choice(([holder[key]], {"value": holder[key]}, [[holder[key]], [holder[key]]]))


def unwrapped(rows: list[Any], dice: Random) -> None:
    holder, key = _place(rows, dice)
    value = holder[key]
    if isinstance(value, list) and value:
        holder[key] = dice.choice(value)
    elif isinstance(value, dict) and value:
        holder[key] = dice.choice(list(value.values()))


def as_text(rows: list[Any], dice: Random) -> None:
    holder, key = _place(rows, dice)
    holder[key] = json.dumps(holder[key])


def dropped(rows: list[Any], dice: Random) -> None:
    holder, key = _place(rows, dice)
    if holder is not rows:
        del holder[key]


def renamed(rows: list[Any], dice: Random) -> None:
    holder, key = _place(rows, dice)
    if isinstance(holder, dict):
        holder[dice.choice((key.upper(), key + "s", key[:-1], " " + key, "\x00", ""))] = holder.pop(key)


def repeated(rows: list[Any], dice: Random) -> None:
    holder, key = _place(rows, dice)
    if isinstance(holder, list) and holder is not rows:
        holder.insert(key, holder[key])


def exchanged(rows: list[Any], dice: Random) -> None:
    (one, a), (other, b) = _place(rows, dice), _place(rows, dice)
    values = json.dumps(one[a]), json.dumps(other[b])  # copies: a value may hold the other
    one[a], other[b] = json.loads(values[1]), json.loads(values[0])


def everywhere(rows: list[Any], dice: Random) -> None:
    """One key of all rows gets the same odd value."""
    first = rows[0]
    if isinstance(first, dict) and first:
        key, value = dice.choice(list(first)), dice.choice(ODD_VALUES)
        for row in rows:
            if isinstance(row, dict):
                row[key] = copy.deepcopy(value)


VALUES: list[Callable[[list[Any], Random], None]] = [
    odd_value, odd_value, wrapped, unwrapped, as_text, dropped, dropped, renamed, repeated, exchanged,
    everywhere,
]  # fmt: skip


# Texts: one line of JSON becomes another that is odd or wrong, and is still one line.


def key_twice(line: str, dice: Random) -> str:
    row = json.loads(line)
    key = dice.choice(list(row))
    return f"{{{json.dumps(key)}: {json.dumps(dice.choice(ODD_VALUES))}, {line[1:]}"


def deep(line: str, dice: Random) -> str:
    depth, key = dice.choice((50, 990, 5_000, 100_000)), json.dumps(dice.choice(list(json.loads(line))))
    start, end = dice.choice((("[", "]"), ('{"a":', "}")))
    return (
        f"{{{key}: {start * depth}0{end * depth}, {line[1:]}" if dice.random() < 0.5 else start * depth + line
    )


def half(line: str, dice: Random) -> str:
    return line[: dice.randrange(1, len(line))]


def two_in_one(line: str, dice: Random) -> str:
    return line + dice.choice(("", " ", ",", "}")) + line


def bad_escape(line: str, dice: Random) -> str:
    at = dice.randrange(1, len(line))
    return (
        line[:at] + dice.choice(("\\u12", "\\x41", "\\ud83d", "\\u0000", "\\", "\t", "\x00", '"')) + line[at:]
    )


def huge_number(line: str, dice: Random) -> str:
    key = json.dumps(dice.choice(list(json.loads(line))))
    number = dice.choice(("1e999", "-1e999", "9" * 5_000, "1e-999", "0123", "1.", "+1", "NaN", "-Infinity"))
    return f"{line[:-1]}, {key}: {number}}}" if dice.random() < 0.5 else f'{line[:-1]}, "extra": {number}}}'


TEXTS: list[Callable[[str, Random], str]] = [key_twice, deep, half, two_in_one, bad_escape, huge_number]


# Bytes: anywhere in the file, compressed or not.


def flipped(data: bytes, dice: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut(data: bytes, dice: Random) -> bytes:
    return data[: dice.randrange(len(data))]


def holed(data: bytes, dice: Random) -> bytes:
    start = dice.randrange(len(data))
    return data[:start] + data[start + dice.choice((1, 7, 300)) :]


def zeros(data: bytes, dice: Random) -> bytes:
    start, length = dice.randrange(len(data)), dice.choice((1, 16, 4096))
    return data[:start] + bytes(length) + data[start + dice.choice((0, length)) :]


def sprinkled(data: bytes, dice: Random) -> bytes:
    start = dice.randrange(len(data))
    return (
        data[:start]
        + dice.choice((b"\n", b"\r", b"\xff", b"\xed\xa0\x80", b"[", b"}", b"\x1a"))
        + data[start:]
    )


BYTES: list[Callable[[bytes, Random], bytes]] = [flipped, flipped, cut, holed, zeros, sprinkled]


# Files: the whole of it is of another kind than its name says.


def marked(data: bytes, dice: Random) -> bytes:
    return b"\xef\xbb\xbf" * dice.randint(1, 2) + data


def utf16(data: bytes, dice: Random) -> bytes:
    return data.decode("latin-1").encode(dice.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32")))


def latin1(data: bytes, dice: Random) -> bytes:
    return data.replace(b"e", "é".encode("latin-1"), dice.randint(1, 50))


def twice_packed(data: bytes, dice: Random) -> bytes:
    return gzip.compress(data, 1)


def other_ends(data: bytes, dice: Random) -> bytes:
    return data.replace(b"\n", dice.choice((b"\r\n", b"\r", b"\n\n", b"\n \n")))


def nothing(data: bytes, dice: Random) -> bytes:
    return dice.choice(
        (b"", b"\n\n", b"[]", b"{}", b"[", b"null", b"\x00" * 4096, b"[[[[", b"PAR1", b"\x1f\x8b")
    )


FILES: list[Callable[[bytes, Random], bytes]] = [marked, utf16, latin1, twice_packed, other_ends, nothing]
