"""2,000 damaged files through every importer: a sentence or a true account, and never half an output."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from mutations import Damaged, damaged, damaged_bytes

from alignment.cli.data import convert
from alignment.data.detect import detect, first_rows
from alignment.data.files import read_records, write_records
from alignment.data.formats import FORMATS
from alignment.data.records import Record
from alignment.errors import UserError

Toy = Callable[..., list[Record]]
FILES = 2_200  # of which some changes change nothing: 2,070 differ
SAMPLES = sorted((Path(__file__).parent / "samples").iterdir())
OLD = b"what an earlier run wrote\n"
ACCOUNT = re.compile(
    r"^([\d,]+) rows read from .*: (?:([\d,]+) of them became )?([\d,]+) records? \w+ .*, ([\d,]+) set aside",
    re.MULTILINE,
)


def formats_of_samples() -> dict[str, list[list[dict[str, Any]]]]:
    """For each format the rows of its samples, a list a file."""
    found: dict[str, list[list[dict[str, Any]]]] = {}
    for path in SAMPLES:
        found.setdefault(detect(path).format, []).append(first_rows(path))
    return found


ROWS = formats_of_samples()


@pytest.mark.parametrize("name", sorted(ROWS))
def test_damaged_files(name: str, tmp_path: Path) -> None:
    ends: Counter[str] = Counter()
    for number in range(-(-FILES // len(ROWS))):
        dice = Random(f"{name} {number}")
        case = damaged(dice.choice(ROWS[name]), dice)
        ends[ended(case, name, dice, tmp_path, f"{name} {number}: {case.what}{case.suffix}")] += 1
    # A fuzz that only ever meets one end tests nothing of the other.
    assert ends["converted"] > 5, ends
    assert ends["refused"] > 5, ends


def ended(case: Damaged, name: str, dice: Random, folder: Path, title: str) -> str:
    """Convert a damaged file; check all that holds whatever the end is; return the end."""
    folder.mkdir(exist_ok=True)
    to = dice.choice(list(FORMATS)) if dice.random() < 0.15 else "native"
    source = folder / f"in{case.suffix}"
    target = folder / ("out.parquet" if dice.random() < 0.05 else "out.jsonl")
    listing = folder / "out.rejected.jsonl"
    source.write_bytes(case.data)
    for path in (target, listing):
        path.write_bytes(OLD)
    auto, skip = dice.random() < 0.2, dice.random() < 0.9
    said = io.StringIO()
    sentence = None
    try:
        with contextlib.redirect_stdout(said):
            convert(
                str(source), target, "auto" if auto else name, to, overwrite=True,
                on_error="skip" if skip else "raise",
            )  # fmt: skip
    except UserError as error:
        sentence = str(error)
    except Exception as error:
        error.add_note(title)
        raise
    if sentence is None:
        records = check_account(said.getvalue(), case, listing, title)
        if to == "native":
            assert len(list(read_records(target))) == records, title
        assert target.read_bytes() not in (OLD, b""), title
    else:
        assert "\n" not in sentence, title
        assert [path.read_bytes() for path in (target, listing)] == [OLD, OLD], f"{title}: {sentence}"
    hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert not hidden, f"{title}: {hidden}"
    for path in folder.iterdir():
        path.unlink()
    return "converted" if sentence is None else "refused"


def check_account(said: str, case: Damaged, listing: Path, title: str) -> int:
    """The number of records, of an account that adds up with the rows that went in and those set aside."""
    account = ACCOUNT.search(said)
    assert account is not None, f"{title}: {said}"
    read, taken, records, aside = (int((n or "0").replace(",", "")) for n in account.groups())
    assert read == (taken or records) + aside, title
    entries = listed(listing) if listing.exists() else []
    assert aside == len(entries), title
    whole = not any("the rest of the file" in entry["where"] for entry in entries)
    if case.rows is not None and whole:
        assert read == case.rows, f"{title}: {account.group()}"
    return records


def listed(path: Path) -> list[dict[str, str]]:
    """What was set aside; each with its place, reason and row."""
    entries = [msgspec.json.decode(line, type=dict[str, str]) for line in path.read_bytes().splitlines()]
    assert all(entry.keys() == {"where", "reason", "row"} and entry["reason"] for entry in entries)
    return entries


@pytest.mark.parametrize("form", ["table", "parquet"])
def test_damaged_tables_and_parquet_files(form: str, tmp_path: Path, toy_records: Toy) -> None:
    folder = tmp_path / "whole"
    folder.mkdir()
    if form == "parquet":
        write_records(folder / "native.parquet", toy_records(60))
    paths = [path for path in SAMPLES if path.suffix in (".csv", ".tsv")] + list(folder.iterdir())
    ends: Counter[str] = Counter()
    for number in range(200):
        dice = Random(f"{form} {number}")
        path = dice.choice(paths) if form == "table" else folder / "native.parquet"
        case = damaged_bytes(path, dice)
        title = f"{path.name} {number}: {case.what}"
        ends[ended(case, detect(path).format, dice, tmp_path / "work", title)] += 1
    assert min(ends["converted"], ends["refused"]) > 5, ends


def test_every_format_has_a_sample() -> None:
    assert ROWS.keys() == FORMATS.keys()
