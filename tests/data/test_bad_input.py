"""What bad input gets: a sentence with file and line, or the row set aside; and the old output stays."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from alignment.cli.data import app
from alignment.data import files
from alignment.data.files import read_records
from alignment.errors import UserError

GOOD = {"instruction": "Name a bird.", "input": "", "output": "The wren."}
LINE = json.dumps(GOOD)
OLD = b"what an earlier run wrote\n"


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


def numbered(count: int) -> bytes:
    """Rows that compress badly enough to be cut in the middle."""
    return lines(*(json.dumps(GOOD | {"output": f"{number * 2654435761:x}"}) for number in range(count)))


def record(**fields: Any) -> str:
    turns = [{"role": "user", "content": "Hello"}]
    row = {"v": 1, "prompt": turns, "completions": [{"content": "a"}, {"content": "b"}]}
    return json.dumps(row | fields)


# name: the bytes of the file, the sentence about the first fault, the rows that are right
BAD_LINES: dict[str, tuple[bytes, str, int]] = {
    "half a line": (lines(LINE, LINE) + LINE[:30].encode(), "line 3: not valid JSON: Input data", 2),
    "half a line in between": (lines(LINE, LINE[:30], LINE), "line 2: not valid JSON", 2),
    "NUL in a text": (lines(LINE, LINE.replace("wren", "w\x00ren")), "line 2: not valid JSON.*NUL bytes", 1),
    "a block of NUL": (lines(LINE, "\x00" * 4096, LINE), "line 2: not valid JSON.*NUL bytes", 2),
    "a lone surrogate": (lines(LINE, LINE.replace("wren", "\\ud83d")), "line 2: not valid JSON.*halves", 1),
    "half a character": (lines(LINE) + lines(LINE).replace(b"wren", b"\xf0\x9f"), "line 2: .*utf-8", 1),
    "NaN": (lines(LINE, LINE.replace('""', "NaN")), "line 2: not valid JSON.*NaN and Infinity are", 1),
    "a key twice": (
        lines(LINE, LINE[:-1] + ', "output": "The owl."}'), 'line 2: the key "output" is there twice;', 1,
    ),
    "a column that changes type": (
        lines(LINE, LINE.replace('""', '{"a": 1}'), LINE), "line 2: .*input.*(str|text).*object", 2,
    ),
    "a row that is no object": (lines(LINE, "[1, 2]", '"text"', "null"), "line 2: expected object, got", 1),
    "nested a hundred thousand deep": (
        lines(LINE, f'{LINE[:-1]}, "x": {"[" * 100_000}{"]" * 100_000}}}'), "line 2: nested too", 1,
    ),
    "a key with a line end": (
        lines(LINE, LINE.replace('"instruction"', '"instruc\\ntion"')), "line 2: .*mean \"instruc.*tion", 1,
    ),
    "a missing key": (lines(LINE, '{"input": "", "output": "a"}'), 'line 2: the key "instruction" is', 1),
    "a rank below one": (
        lines(record(), record(judgments=[{"ranks": [0, 1]}])), r"line 2: judgments\[0\]\.ranks has", 1,
    ),
    "a rank too many": (
        lines(record(), record(judgments=[{"ranks": [1, 2, 3]}])),
        r"line 2: judgments\[0\]\.ranks has 3 entries for 2 completions", 1,
    ),
    "a comparison with what is not there": (
        lines(record(), record(judgments=[{"comparisons": [{"a": 0, "b": 2}]}])), "line 2: .*completion 2", 1,
    ),
    "an unknown role": (
        lines(record(), record(prompt=[{"role": "wizard", "content": "a"}])), "line 2: .*wizard", 1,
    ),
    "an unknown key": (lines(record(), record(ranking=[1])), 'line 2: unknown key "ranking"', 1),
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the output of an earlier run."""
    monkeypatch.chdir(tmp_path)
    Path("out.jsonl").write_bytes(OLD)
    Path("out.rejected.jsonl").write_bytes(OLD)
    return tmp_path


def converted(source: str, *options: str) -> str:
    result = CliRunner().invoke(
        app, ["convert", source, "out.jsonl", "--overwrite", *options], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def refused(source: str, *options: str, target: str = "out.jsonl") -> str:
    """The one sentence of a refusal, and proof that what was there stays and nothing else appears."""
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    with pytest.raises(UserError) as error:
        CliRunner().invoke(app, ["convert", source, target, "--overwrite", *options], catch_exceptions=False)
    assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_told_or_set_aside(here: Path, name: str) -> None:
    data, sentence, right = BAD_LINES[name]
    Path("in.jsonl").write_bytes(data)
    total = len([line for line in data.split(b"\n") if line.strip()])
    with pytest.raises(UserError, match=f"^in.jsonl, {sentence}"):
        raise UserError(refused("in.jsonl"))
    out = converted("in.jsonl", "--on-error", "skip")
    assert f"{total} rows read from in.jsonl: {right} records in out.jsonl, {total - right} set aside" in out
    assert len(list(read_records("out.jsonl"))) == right
    entries = [json.loads(line) for line in Path("out.rejected.jsonl").read_text().splitlines()]
    assert len(entries) == total - right
    assert entries[0]["reason"].startswith(f"{entries[0]['where']}: ")


def test_a_gz_that_is_cut_short(here: Path) -> None:
    data = gzip.compress(numbered(20_000))
    Path("in.jsonl.gz").write_bytes(data[: len(data) * 2 // 3])
    sentence = refused("in.jsonl.gz")
    assert "in.jsonl.gz: the compressed file is cut short" in sentence
    # The rows before the cut are whole; what follows is one refused row, since nobody can count it.
    out = converted("in.jsonl.gz", "--on-error", "skip")
    read = int(out.split(" rows read")[0].rsplit("\n", 1)[-1].replace(",", ""))
    records = list(read_records("out.jsonl"))
    assert len(records) == read - 1 > 12_000
    assert f"{len(records):,} records in out.jsonl, 1 set aside" in out
    entry = json.loads(Path("out.rejected.jsonl").read_text())
    assert f"(what comes before line {len(records) + 1} is whole)" in entry["reason"]


def test_a_short_gz_that_is_cut_short_gives_what_it_has(here: Path) -> None:
    data = gzip.compress(numbered(100))
    Path("in.jsonl.gz").write_bytes(data[:-100])
    assert "cut short" in refused("in.jsonl.gz")
    assert ", 1 set aside" in converted("in.jsonl.gz", "--on-error", "skip")
    assert len(list(read_records("out.jsonl"))) > 10


def test_a_byte_order_mark_is_no_fault(here: Path) -> None:
    Path("in.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(LINE, LINE))
    Path("in.json").write_bytes(b"\xef\xbb\xbf[" + LINE.encode() + b"]")
    Path("in.csv").write_bytes(b"\xef\xbb\xbfinstruction,output\na,b\n")
    assert "2 rows read from in.jsonl: 2 records in out.jsonl, 0 set aside" in converted("in.jsonl")
    for name in ("in.json", "in.csv"):
        assert f"1 rows read from {name}: 1 records in out.jsonl, 0 set aside" in converted(name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["in.jsonl", "in.json", "in.csv"])
def test_utf16_is_told(here: Path, name: str, encoding: str) -> None:
    text = "instruction,output\na,b\n" if name == "in.csv" else f"[{LINE}]" if name == "in.json" else LINE
    Path(name).write_bytes(text.encode(encoding))
    for on_error in ("raise", "skip"):
        assert f"{name}, line 1" in refused(name, "--on-error", on_error) or "UTF-" in refused(name)


def test_a_line_of_100_mb_is_a_row(here: Path) -> None:
    long = json.dumps(GOOD | {"output": "x" * 100_000_000})
    Path("in.jsonl").write_bytes(lines(LINE, long, LINE))
    assert "3 rows read from in.jsonl: 3 records in out.jsonl, 0 set aside" in converted("in.jsonl")
    assert [len(r.completions[0].text) for r in read_records("out.jsonl")] == [9, 100_000_000, 9]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"[]", b"{}\n", b"null"])
@pytest.mark.parametrize("name", ["in.jsonl", "in.json", "in.csv", "in.jsonl.gz", "in.parquet"])
def test_a_file_without_a_row(here: Path, name: str, data: bytes) -> None:
    Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    for options in ([], ["--from", "alpaca"], ["--from", "native"], ["--on-error", "skip"]):
        if not (name in ("in.json", "in.csv") and "native" in options):
            assert name in refused(name, *options)


def test_a_folder_of_mixed_formats(here: Path) -> None:
    Path("folder").mkdir()
    Path("folder/a.jsonl").write_bytes(lines(LINE))
    Path("folder/b.json").write_text(f"[{record()}]")
    assert refused("folder") == (
        "folder/a.jsonl is alpaca and folder/b.json is native; convert the files of one format at a time"
    )
    Path("folder/b.json").unlink()
    Path("folder/c.jsonl").write_bytes(lines(LINE, LINE))
    assert "3 rows read from folder: 3 records" in converted("folder")


def test_symlink_loops(here: Path) -> None:
    Path("a.jsonl").symlink_to("b.jsonl")
    Path("b.jsonl").symlink_to("a.jsonl")
    assert "a.jsonl: " in refused("a.jsonl")
    Path("folder").mkdir()
    Path("folder/in.jsonl").write_bytes(lines(LINE))
    Path("folder/again").symlink_to("../folder")
    Path("folder/loop.jsonl").symlink_to("loop.jsonl")
    assert "loop.jsonl: " in refused("folder")
    Path("folder/loop.jsonl").unlink()
    for source in ("folder", "folder/**/*.jsonl"):
        assert f"1 rows read from {source}: 1 records" in converted(source)


def test_what_is_no_file_of_rows(here: Path) -> None:
    assert "none.jsonl: no such file or folder" in refused("none.jsonl")
    Path("in.txt").write_bytes(lines(LINE))
    assert "in.txt: the name must end in" in refused("in.txt")
    Path("in.parquet").write_bytes(lines(LINE))
    assert "in.parquet: not a Parquet file" in refused("in.parquet")
    Path("in.jsonl").write_bytes(lines(LINE))
    assert "the name must end in" in refused("in.jsonl", target="out.csv")
    assert "in.jsonl" in refused("in.jsonl", target="in.jsonl/out.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("target", ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst", "out.parquet"])
def test_a_full_disk(here: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    Path("in.jsonl").write_bytes(numbered(2_000))

    def on_full_disk(path: Path) -> Path:
        path.symlink_to("/dev/full")
        return path

    class FullSink(files.ParquetSink):
        def __init__(self, path: Path) -> None:
            super().__init__(on_full_disk(path))

    open_output = files.open_output
    monkeypatch.setattr(files, "open_output", lambda path: open_output(on_full_disk(path)))
    monkeypatch.setattr(files, "ParquetSink", FullSink)
    assert f"{target}: No space left on device; nothing was kept" in refused("in.jsonl", target=target)
    assert sorted(os.listdir()) == ["in.jsonl", "out.jsonl", "out.rejected.jsonl"]


def test_an_error_at_the_last_row_keeps_the_old_output(here: Path) -> None:
    Path("in.jsonl").write_bytes(numbered(5_000) + b"{")
    assert "in.jsonl, line 5001" in refused("in.jsonl")
    assert Path("out.jsonl").read_bytes() == OLD


def test_the_file_itself_may_be_replaced(here: Path) -> None:
    Path("out.jsonl").write_bytes(lines(record(), record()))
    Path("out.rejected.jsonl").unlink()
    assert "2 rows read from out.jsonl: 2 records in out.jsonl, 0 set aside" in converted("out.jsonl")
    assert len(list(read_records("out.jsonl"))) == 2
