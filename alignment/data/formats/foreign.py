"""What the foreign formats share: rows of JSON in and out, chosen and rejected, and the account of losses."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from alignment.data.files import FOREIGN_SUFFIXES, Paths, Rejects, atomic_output, data_files, decode_rows
from alignment.data.lines import open_output
from alignment.data.pairs import agreed_pairs, judgment_votes, pair_votes
from alignment.data.records import Completion, Judgment, Message, Record, check_record, record_id, shown
from alignment.errors import UserError

Row = dict[str, Any]
WRITABLE = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json")


def read_foreign(
    paths: Paths, decode: Callable[[bytes, str], Record], rejects: Rejects | None = None
) -> Iterator[Record]:
    """Checked records from .json (an array or lines), .jsonl, .gz, .zst and .parquet files.

    decode: one row of JSON and its place ("FILE, line N") to a record, or UserError.
    """

    return decode_rows(data_files(paths, FOREIGN_SUFFIXES), checked(decode), rejects)


def checked(decode: Callable[[bytes, str], Record]) -> Callable[[bytes, str], Record]:
    """The same importer of a row, and the rules of the format after it."""

    def decode_and_check(row: bytes, where: str) -> Record:
        try:
            record = decode(row, where)
        except OverflowError:
            raise UserError(f"{where}: it has a number that is too large to count or to rate with") from None
        check_record(record, where)
        return record

    return decode_and_check


def write_foreign(
    records: Iterable[Record],
    path: str | os.PathLike[str],
    rows_of: Callable[[Record], list[Row]],
    decode: Callable[[bytes, str], Record],
    overwrite: bool = False,
) -> Counter[str]:
    """Write each record's rows; return how many of each field the format could not hold.

    What is lost is what does not come back when the rows are read again.
    Raises UserError if the file exists without `overwrite`, or if no record gives a row.
    """
    with json_output(path, overwrite) as put:
        return put_rows(records, put, path, rows_of, decode)


def put_rows(
    records: Iterable[Record],
    put: Callable[[bytes], object],
    path: str | os.PathLike[str],
    rows_of: Callable[[Record], list[Row]],
    decode: Callable[[bytes, str], Record],
) -> Counter[str]:
    """Hand the lines of each record's rows to `put`, for `write_foreign`; `path` is for its errors."""
    lost: Counter[str] = Counter()
    rows_written = 0
    for record in records:
        lines = [msgspec.json.encode(row) for row in rows_of(record)]
        for line in lines:
            put(line)
        rows_written += len(lines)
        lost.update(losses(record, [decode(line, "a written row") for line in lines]))
    if not rows_written:
        raise UserError(f"{path}: no record has what this format holds ({_listed(lost)})")
    return lost


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{field}: {count}" for field, count in counts.most_common()) or "there is no record"


@contextlib.contextmanager
def json_output(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Callable[[bytes], None]]:
    """A function that writes one row of JSON; the file, an array for .json else lines, appears at the end."""
    target = Path(path)
    if not target.name.endswith(WRITABLE):
        raise UserError(f"{target}: the name must end in {', '.join(WRITABLE)}")
    array = target.name.endswith(".json")
    with atomic_output(target, overwrite) as temporary, open_output(temporary) as out:
        before = b"[\n" if array else b""

        def put(row: bytes) -> None:
            nonlocal before
            out.write(before + row)
            before = b",\n" if array else b"\n"

        yield put
        out.write(b"\n]\n" if array else b"\n")


def by_keys(keys: Iterable[str]) -> str:
    """By what a row was recognised: 'the keys "chosen" and "rejected"'."""
    names = [f'"{shown(key)}"' for key in keys]
    if len(names) == 1:
        return f"the key {names[0]}"
    return f"the keys {', '.join(names[:-1])} and {names[-1]}"


def reply(turns: list[Message]) -> Completion:
    """A completion of these turns: `content` for one plain assistant message, else `messages`."""
    if len(turns) == 1 and _is_plain(turns[0]):
        return Completion(content=turns[0].content)
    return Completion(messages=turns)


def _is_plain(message: Message) -> bool:
    """Whether the assistant says it, and there is nothing but its content."""
    return (
        message.role == "assistant"
        and message.parts is None
        and message.name is None
        and message.tool_calls is None
        and message.tool_call_id is None
        and message.weight is None
    )


def preference(prompt: list[Message], chosen: Completion, rejected: Completion, **fields: Any) -> Record:
    """A record of one pair: the first completion is the better one."""
    return Record(prompt, completions=[chosen, rejected], judgments=[Judgment(ranks=[1, 2])], **fields)


def shared_prompt(chosen: list[Message], rejected: list[Message], where: str) -> int:
    """How many turns at the start of two conversations are their prompt.

    The longest common start that leaves each an assistant turn and does not itself end with one: where
    the conversations part at an earlier reply, the later turns belong to the completions.
    """
    length = min(_last_reply(chosen, where, "chosen"), _last_reply(rejected, where, "rejected"))
    same = 0
    while same < length and chosen[same] == rejected[same]:
        same += 1
    while same and chosen[same - 1].role == "assistant":
        same -= 1
    return same


def _last_reply(messages: list[Message], where: str, side: str) -> int:
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "assistant":
            return index
    raise UserError(f'{where}: "{side}" has no turn by the assistant')


def derived_pairs(record: Record) -> list[tuple[Completion, Completion]]:
    """Every (chosen, rejected) that some judge of the record stated."""
    pairs = agreed_pairs(pair_votes(record))
    return [(record.completions[pair.chosen], record.completions[pair.rejected]) for pair in pairs]


def losses(record: Record, again: list[Record]) -> Counter[str]:
    """The fields of a record, with counts, that are in none of the records read back from its rows."""
    if len(again) == 1 and msgspec.structs.replace(again[0], id=record.id) == record and _hashed(record):
        return Counter()
    kept = {item for other in again for item in _items(other)}
    return Counter(field for field, value in _items(record) if (field, value) not in kept)


def _hashed(record: Record) -> bool:
    """Whether the id says nothing that the content does not say."""
    return record.id is None or record.id == record_id(msgspec.structs.replace(record, id=None))


def _items(record: Record) -> set[tuple[str, bytes]]:
    """Everything that a record says, as (field, value); orders of completions as their single preferences."""
    found: set[tuple[str, bytes]] = set()

    def add(field: str, *value: Any) -> None:
        found.add((field, msgspec.json.encode(value)))

    def add_set(field: str, holder: msgspec.Struct, names: tuple[str, ...], *key: Any) -> None:
        for name in names:
            value = getattr(holder, name)
            if value not in (None, {}, []):
                add(f"{field}{name}", value, *key)

    if not _hashed(record):
        add("id", record.id)
    add("prompt", record.prompt)
    add_set("", record, ("tools", "parent"))
    for key, value in record.meta.items():
        add(f"meta.{key}", value)
    turns = [completion.turns() for completion in record.completions]
    for index, completion in enumerate(record.completions):
        add("completion", turns[index])
        add_set("completion.", completion, ("id", "source", "license", "rewards", "meta"), turns[index])
    for index in record.demonstrations or ():
        add("demonstration", turns[index])
    for judgment in record.judgments:
        for a, b, p, _ in judgment_votes(judgment):
            better, worse = (turns[a], turns[b]) if p > 0.5 else (turns[b], turns[a])
            tied = sorted(map(msgspec.json.encode, (better, worse)))
            add("tie", *tied) if p == 0.5 else add("preference", better, worse, max(p, 1 - p))
        for index, label in enumerate(judgment.labels or ()):
            if label is not None:
                add("label", turns[index], label)
        for comparison in judgment.comparisons or ():
            add_set("comparison.", comparison, ("strength",), turns[comparison.a], turns[comparison.b])
        add_set("judgment.", judgment, _JUDGMENT_FIELDS)
    return found


_JUDGMENT_FIELDS = (
    "by", "ratings", "all_bad", "rationale", "at", "seconds", "presented", "guideline", "meta",
)  # fmt: skip
