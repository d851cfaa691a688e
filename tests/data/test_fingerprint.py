"""The fingerprint of a dataset: it changes with any edit, and with nothing but an edit."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from record_strategies import records

from alignment.data.files import SUFFIXES, fingerprint, read_records, write_records
from alignment.data.records import Comparison, Completion, Judgment, Message, Parent, Record, Source

EDITS: list[Callable[[Record], object]] = [
    lambda row: setattr(row.prompt[0], "content", row.prompt[0].content + "."),
    lambda row: setattr(row.prompt[0], "name", "n"),
    lambda row: row.prompt.insert(0, Message("system", "")),
    lambda row: row.completions.append(Completion(content="")),
    lambda row: row.completions.reverse(),
    lambda row: setattr(row.completions[0], "source", Source("human")),
    lambda row: setattr(row.completions[0], "rewards", [0.1]),
    lambda row: setattr(row.judgments[0], "ranks", [1, None]),
    lambda row: setattr(row.judgments[0], "by", "b"),
    lambda row: setattr(row.judgments[0], "seconds", 1.5),
    lambda row: setattr(row.judgments[0], "comparisons", [Comparison(0, 1)]),
    lambda row: row.judgments.append(Judgment()),
    lambda row: row.meta.update({"new": None}),
    lambda row: row.meta.update({"a": 1.0}),
    lambda row: setattr(row, "demonstrations", [0]),
    lambda row: setattr(row, "tools", [{"name": "f"}]),
    lambda row: setattr(row, "parent", Parent("p")),
    lambda row: setattr(row, "id", "other"),
]


def base() -> list[Record]:
    pair = [Completion(content="x"), Completion(content="y")]
    return [
        Record(
            [Message("user", f"q{k}")],
            id=f"r{k}",
            completions=[msgspec.structs.replace(one) for one in pair],
            judgments=[Judgment(by="a", ranks=[1, 2])],
            meta={"a": 1, "b": [1]},
        )
        for k in range(3)
    ]


def printed(folder: Path, rows: list[Record]) -> str:
    return write_records(folder / "x.jsonl", rows, overwrite=True).fingerprint


def test_every_single_edit_changes_it(tmp_path: Path) -> None:
    before = printed(tmp_path, base())
    assert printed(tmp_path, base()) == before
    prints = {before}
    for number, edit in enumerate(EDITS, 1):
        rows = base()
        edit(rows[1])
        prints.add(printed(tmp_path, rows))
        assert len(prints) == number + 1, f"edit {number}"
    for rows in (base()[:2], [*base(), base()[0]], base()[::-1]):  # rows fewer, more, and in another order
        assert printed(tmp_path, rows) not in prints


@settings(max_examples=40)
@given(st.lists(records(), min_size=1, max_size=4), st.sampled_from(SUFFIXES), st.sampled_from(SUFFIXES))
def test_neither_form_nor_compression_nor_a_copy_changes_it(
    rows: list[Record], first: str, second: str
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = write_records(folder / f"a{first}", rows)
        assert fingerprint(folder / f"a{first}") == written.fingerprint
        again = write_records(folder / f"b{second}", read_records(folder / f"a{first}"))
        assert again.fingerprint == written.fingerprint
        copy = folder / f"c{first}"
        shutil.copyfile(folder / f"a{first}", copy)  # without its sidecar and its times
        os.utime(copy, (1, 1))
        assert fingerprint(copy) == written.fingerprint


def test_layout_of_the_text_does_not_change_it(tmp_path: Path) -> None:
    before = printed(tmp_path, base())
    lines = (tmp_path / "x.jsonl").read_bytes().splitlines()
    loose = [msgspec.json.format(line, indent=0).replace(b'"id"', b' "\\u0069d"') for line in lines]
    turned = [dict(reversed(msgspec.json.decode(line).items())) for line in loose]
    (tmp_path / "y.jsonl.gz").write_bytes(gzip.compress(b"\n\n".join(map(msgspec.json.encode, turned))))
    assert fingerprint(tmp_path / "y.jsonl.gz") == before
