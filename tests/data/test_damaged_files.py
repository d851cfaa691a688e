"""Damaged files: a sentence, or a counted row that is set aside, and never half a file."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alignment.data import lines
from alignment.data.arrays import array_rows
from alignment.data.files import (
    SUFFIXES,
    Rejects,
    data_files,
    decode_rows,
    read_records,
    write_records,
)
from alignment.data.records import Record, decode_record
from alignment.errors import UserError

Toy = Callable[..., list[Record]]


ROW = b'{"prompt":[{"role":"user","content":"hi"}]}\n'


def said_of(content: bytes) -> bytes:
    return b'{"prompt":[{"role":"user","content":"' + content + b'"}]}\n'


# file -> rows that can be read, rows set aside, what the first reason says
DAMAGED: dict[str, tuple[bytes, int, int, str]] = {
    "half.jsonl": (ROW * 3 + ROW[:20], 3, 1, "line 4: not valid JSON"),
    "wide.jsonl": ((ROW * 2).decode().encode("utf-16"), 0, 1, "line 1: the file is UTF-16"),
    "wide-unmarked.jsonl": ((ROW * 2).decode().encode("utf-16-le"), 0, 1, "line 1: the file is UTF-16"),
    "nul.jsonl": (ROW + said_of(b"a\0b") + ROW, 2, 1, "line 2: .* NUL bytes"),
    "holes.jsonl": (ROW + b"\0" * 99 + b"\n" + ROW, 2, 1, "line 2: .* NUL bytes"),
    "surrogate.jsonl": (ROW + said_of(rb"\ud800") + ROW, 2, 1, "line 2: .* halves of characters"),
    "low.jsonl": (said_of(rb"\udc00!") + said_of(rb"\ud83d\ude00"), 1, 1, "line 1: .* halves of characters"),
    "raw-surrogate.jsonl": (said_of(b"\xed\xa0\x80") + ROW, 1, 1, "line 1: .* is not UTF-8"),
    "latin.jsonl": (ROW + said_of(b"caf\xe9"), 1, 1, "line 2: .* is not UTF-8"),
    "nan.jsonl": (ROW + ROW[:-2] + b',"meta":{"a":NaN}}\n', 1, 1, "line 2: .*NaN and Infinity"),
    "infinite.jsonl": (ROW + ROW[:-2] + b',"meta":{"a":-Infinity}}\n', 1, 1, "line 2: .*NaN and Infinity"),
    "huge.jsonl": (ROW[:-2] + b',"meta":{"a":' + b"9" * 5000 + b"}}\n" + ROW, 1, 1, "line 1: .*out of range"),
    "deep.jsonl": (ROW[:-2] + b',"meta":{"a":' + b"[" * 9999 + b"]" * 9999 + b"}}\n" + ROW, 1, 1, "deeply"),
    "twice.jsonl": (ROW[:-2] + b',"id":"a","id":"a"}\n' + ROW, 1, 1, 'line 1: the key "id" is there twice'),
    "role.jsonl": (ROW.replace(b"user", b"narrator") + ROW, 1, 1, r"line 1: prompt\[0\].role"),
    "plain.jsonl.gz": (ROW, 0, 1, "damaged"),
    "cut.jsonl.gz": (gzip.compress(ROW * 900)[:-8], 900, 1, "cut short.*before line 901 is whole"),
    "array.json": (b"\xef\xbb\xbf[\n" + b",\n".join([ROW] * 5) + b" ]\n", 5, 0, ""),
    "long-array.json": (b"[" + b",".join([ROW[:-1]] * 30_000) + b"]", 30_000, 0, ""),
    "cut.json": (b"[" + b",".join([ROW] * 5), 4, 1, "row 5: not valid JSON: the text ends inside"),
    "after.json": (b"[" + b",".join([ROW] * 5) + b"] x", 5, 1, "more text after the array of 5 rows"),
    "word.json": (b"[" + ROW + b", nope, " + ROW + b"]", 1, 1, "row 2: not valid JSON"),
    "bytes.json": (b"[" + ROW + b"," + said_of(b"\xff") + b"," + ROW + b"]", 2, 1, "row 2: .* not UTF-8"),
    "deep.json": (b"[" + ROW + b"," + b"[" * 9999 + b"]" * 9999 + b"]", 1, 1, "row 2: nested too deeply"),
    "empty.json": (b"[ ]", 0, 0, ""),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_a_sentence_or_a_counted_row_that_is_set_aside(tmp_path: Path, name: str) -> None:
    content, good, bad, reason = DAMAGED[name]
    path = tmp_path / name
    path.write_bytes(content)
    rejects = Rejects(tmp_path / "aside.jsonl")
    rows = decode_rows([path], decode_record, rejects)
    if good:
        assert sum(1 for _ in rows) == good
    else:
        with pytest.raises(UserError, match="no usable row"):
            next(rows)
    assert (rejects.rows, rejects.count) == (good + bad, bad)
    if bad:
        assert re.search(reason, rejects.reasons[0])
        assert len((tmp_path / "aside.jsonl").read_text().splitlines()) == bad
        with pytest.raises(UserError, match=reason) as error:
            list(decode_rows([path], decode_record))
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.recursive(st.none() | st.floats(allow_nan=False) | st.text(), st.lists), max_size=8),
    indent=st.sampled_from([None, 1]),
    size=st.integers(1, 40),
)
def test_an_array_gives_its_entries_wherever_the_text_is_cut_into_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[object], indent: int | None, size: int
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=size % 2 == 0), encoding="utf-8")
    monkeypatch.setattr(lines, "_CHUNK", size)
    assert [json.loads(text) for _, text in array_rows(path)] == rows


def test_a_line_that_is_no_row_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST", 1 << 20)
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW + said_of(b"x" * (3 << 20)) + ROW)
    with pytest.raises(UserError, match=r"line 2: longer than .* \(what comes before line 2 is"):
        list(read_records(path))
    monkeypatch.setattr(lines, "LONGEST", 1 << 28)
    assert len(list(read_records(path))) == 3


def test_links_that_lead_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROW)
    (tmp_path / "above").symlink_to(tmp_path)
    assert data_files(str(tmp_path / "**" / "*.jsonl")) == [tmp_path / "a.jsonl"]
    (tmp_path / "self.jsonl").symlink_to("self.jsonl")
    with pytest.raises(UserError, match=r"self\.jsonl: Too many levels of symbolic links"):
        list(read_records(tmp_path))


def test_a_parquet_file_that_is_damaged_inside_keeps_the_rows_before(
    tmp_path: Path, toy_records: Toy
) -> None:
    path = tmp_path / "a.parquet"
    write_records(path, toy_records(12_000))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(content)
    rejects = Rejects()
    rows = sum(1 for _ in read_records(path, "skip", rejects))
    assert 0 < rows < 12_000
    assert (rejects.rows, rejects.count) == (rows + 1, 1)
    assert "the file is damaged after row" in rejects.reasons[0]


def test_shards_whose_column_changes_its_type(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = [{"role": "user", "content": "hi"}]
    pq.write_table(pa.table({"id": ["a"], "prompt": [turn]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"id": [7], "prompt": [turn]}), tmp_path / "2.parquet")
    rejects = Rejects()
    assert len(list(read_records(tmp_path, "skip", rejects))) == 1
    assert re.search(r"2\.parquet, row 1: id: expected str.*got int", rejects.reasons[0])


def test_every_one_of_many_refused_rows_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW + b"{}\n" * 30_000)
    assert len(list(read_records(path, "skip"))) == 1
    assert len((tmp_path / "a.rejected.jsonl").read_bytes().splitlines()) == 30_000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_leaves_the_old_file(
    tmp_path: Path, toy_records: Toy, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    write_records(path, toy_records(3))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    # A limit on the size of a file stands in for a full disk: the write fails in the library that makes it.
    code = (
        "import resource, signal, sys, os\n"
        "from alignment.data.files import read_records, write_records\n"
        "from alignment.data.records import Message, Record\n"
        "from alignment.errors import UserError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "rows = (Record([Message('user', os.urandom(500).hex())]) for _ in range(20_000))\n"
        "try:\n"
        "    write_records(sys.argv[1], rows, overwrite=True)\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert str(path) in run.stdout
    assert "too large" in run.stdout
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
