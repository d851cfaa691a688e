"""Files: every form gives back what went in, the same fingerprint, and writes are atomic."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_strategies import records

from alignment.data import files
from alignment.data.files import (
    SUFFIXES,
    Rejects,
    atomic_output,
    data_files,
    fingerprint,
    read_records,
    rejected_path,
    resolve_data_path,
    write_records,
)
from alignment.data.parquet import arrow_schema
from alignment.data.records import Message, Record, encode_record, features, with_id
from alignment.errors import UserError

Toy = Callable[..., list[Record]]


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(records(), min_size=1, max_size=4))
def test_records_to_file_to_records_is_the_identity(tmp_path: Path, suffix: str, rows: list[Record]) -> None:
    path = tmp_path / f"rows{suffix}"
    written = write_records(path, rows, overwrite=True)
    again = list(read_records(path))
    assert again == [with_id(row) for row in rows]
    assert written.rows == len(rows)
    assert fingerprint(path) == written.fingerprint == files._computed_fingerprint(path)


def test_the_fingerprint_is_of_the_content_not_of_the_form(tmp_path: Path, toy_records: Toy) -> None:
    rows = toy_records(30)
    prints = {write_records(tmp_path / f"a{suffix}", rows).fingerprint for suffix in SUFFIXES}
    assert len(prints) == 1
    assert write_records(tmp_path / "b.jsonl", rows[:-1]).fingerprint not in prints
    assert fingerprint([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]) != fingerprint(tmp_path / "b.jsonl")


def test_an_edited_file_does_not_keep_its_old_fingerprint(tmp_path: Path, toy_records: Toy) -> None:
    path = tmp_path / "a.jsonl"
    before = write_records(path, toy_records(3)).fingerprint
    sidecar = json.loads(Path(f"{path}.fingerprint").read_text())
    assert sidecar["fingerprint"] == before
    assert sidecar["rows"] == 3
    path.write_bytes(path.read_bytes().replace(b"sat on", b"lay on"))  # as many bytes as before
    os.utime(path, ns=(0, 0))
    assert fingerprint(path) == files._computed_fingerprint(path) != before


def test_a_folder_and_a_glob_are_datasets(tmp_path: Path, toy_records: Toy) -> None:
    rows = toy_records(6)
    for part in range(3):
        write_records(tmp_path / "d" / f"part-{part}.jsonl", rows[2 * part : 2 * part + 2])
    (tmp_path / "d" / "x.rejected.jsonl").write_text("not a record")
    (tmp_path / "d" / ".tmp-1-x.jsonl").write_text("half-writ")
    assert list(read_records(tmp_path / "d")) == rows
    assert list(read_records(str(tmp_path / "d" / "part-[01].jsonl"))) == rows[:4]
    assert (
        list(read_records([tmp_path / "d" / "part-2.jsonl", tmp_path / "d" / "part-0.jsonl"]))
        == rows[4:] + rows[:2]
    )


def test_missing_empty_and_strange_paths_are_user_errors(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n \n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "a.parquet").write_text("x")
    for path, said in {
        "none.jsonl": "no such file",
        "none*.jsonl": "no such file",
        "folder": "holds no",
        "a.csv": "must end in",
        "empty.jsonl": "no usable row",
        "a.parquet": "not a Parquet file",
    }.items():
        with pytest.raises(UserError, match=said):
            list(read_records(tmp_path / path))
    with pytest.raises(UserError, match="no data file"):
        read_records([])  # at once, not at the first row
    with pytest.raises(UserError, match="must end in"):
        write_records(tmp_path / "a.csv", [])
    with pytest.raises(UserError, match="no record to write"):
        write_records(tmp_path / "b.jsonl", [])
    assert not (tmp_path / "b.jsonl").exists()


def test_lines_with_a_byte_order_mark_crlf_and_blank_lines(tmp_path: Path, toy_records: Toy) -> None:
    rows = toy_records(2)
    lines = b"\r\n\r\n".join(encode_record(row) for row in rows)
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines)
    assert list(read_records(tmp_path / "a.jsonl")) == rows


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_a_file_that_was_cut_short_is_refused_not_read_halfway(
    tmp_path: Path, toy_records: Toy, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    write_records(path, toy_records(200))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"cut short|damaged"):
        list(read_records(path))


def test_several_zstd_frames_in_one_file_are_all_read(tmp_path: Path, toy_records: Toy) -> None:
    write_records(tmp_path / "a.jsonl.zst", toy_records(5))
    frame = (tmp_path / "a.jsonl.zst").read_bytes()
    (tmp_path / "b.jsonl.zst").write_bytes(frame * 3)
    assert list(read_records(tmp_path / "b.jsonl.zst")) == toy_records(5) * 3


def test_bad_rows_are_set_aside_with_place_and_reason(tmp_path: Path, toy_records: Toy) -> None:
    rows = toy_records(3)
    path = tmp_path / "a.jsonl"
    bad = b'{"prompt": [], "judgements": []}'
    path.write_bytes(
        b"\n".join([encode_record(rows[0]), bad, encode_record(rows[1]), b"{", encode_record(rows[2])])
    )
    with pytest.raises(UserError, match=r'line 2: unknown key "judgements"; did you mean "judgments"'):
        list(read_records(path))
    rejects = Rejects(tmp_path / "out.rejected.jsonl")
    assert list(read_records(path, "skip", rejects)) == rows
    assert rejects.count == 2
    assert list(read_records(path, "skip")) == rows  # without `rejects`, beside the source
    for place in (tmp_path / "out.rejected.jsonl", tmp_path / "a.rejected.jsonl"):
        entries = [json.loads(line) for line in place.read_text().splitlines()]
        assert [entry["where"] for entry in entries] == [f"{path}, line 2", f"{path}, line 4"]
        assert "judgments" in entries[0]["reason"]
        assert entries[0]["row"].strip() == bad.decode()
    assert rejected_path("x/a.jsonl.gz") == Path("x/a.rejected.jsonl")


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path, toy_records: Toy) -> None:
    path = tmp_path / "a.jsonl"
    write_records(path, toy_records(2))
    before = path.read_bytes()

    def broken() -> object:
        yield from toy_records(1, seed=1)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        write_records(path, broken(), overwrite=True)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="exists; choose another name or add --overwrite"):
        write_records(path, toy_records(1))
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.jsonl", "a.jsonl.fingerprint"]


def _folder(path: Path, text: str, error: BaseException | None = None) -> None:
    with atomic_output(path, overwrite=True) as temporary:
        temporary.mkdir()
        (temporary / text).write_text(text)
        if error is not None:
            raise error


def test_atomic_output_replaces_folders_whole(tmp_path: Path) -> None:
    model = tmp_path / "deep" / "model"
    _folder(model, "old")
    _folder(model, "new")
    with pytest.raises(KeyboardInterrupt):
        _folder(model, "half", KeyboardInterrupt())
    assert [entry.name for entry in model.parent.iterdir()] == ["model"]
    assert [entry.name for entry in model.iterdir()] == ["new"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left"):
        _folder(tmp_path / "a", "half", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(PermissionError):
        _folder(tmp_path / "a", "half", PermissionError())
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_the_old_file_and_no_visible_new_one(tmp_path: Path, toy_records: Toy) -> None:
    path = tmp_path / "a.jsonl"
    write_records(path, toy_records(2))
    code = (
        "import os, sys, signal\n"
        "from alignment.data.files import read_records, write_records\n"
        "def rows():\n"
        "    yield from read_records(sys.argv[1])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_records(sys.argv[1], rows(), overwrite=True)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert list(read_records(tmp_path)) == toy_records(2)


def test_the_quickstart_data_is_found_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = tmp_path / "assets" / "quickstart" / "x.jsonl"
    packaged.parent.mkdir(parents=True)
    packaged.write_bytes(encode_record(Record([Message("user", "hi")])))
    monkeypatch.setattr(files, "ASSETS", tmp_path / "assets")
    monkeypatch.chdir(tmp_path)
    assert resolve_data_path("quickstart/x.jsonl") == packaged
    assert data_files("quickstart/x.jsonl") == [packaged]
    local = tmp_path / "quickstart" / "x.jsonl"
    local.parent.mkdir()
    local.write_bytes(packaged.read_bytes())
    assert resolve_data_path("quickstart/x.jsonl") == Path("quickstart/x.jsonl")
    assert resolve_data_path("other/x.jsonl") == Path("other/x.jsonl")


def test_reading_and_writing_hold_no_more_than_a_few_rows(tmp_path: Path) -> None:
    def rows(count: int) -> object:
        return (Record([Message("user", f"{n} " + "word " * 200)]) for n in range(count))

    def peak(count: int) -> int:
        write_records(tmp_path / "a.jsonl", rows(10), overwrite=True)  # type: ignore[arg-type]  # imports
        tracemalloc.start()
        write_records(tmp_path / "a.jsonl", rows(count), overwrite=True)  # type: ignore[arg-type]
        assert sum(1 for _ in read_records(tmp_path / "a.jsonl")) == count
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(6000) < peak(1500) + 200_000  # 6,000 rows are 6 MB


def test_datasets_reads_the_same_files_with_the_published_features(tmp_path: Path, toy_records: Toy) -> None:
    import pyarrow.parquet as pq
    from datasets import load_dataset

    rows = [
        *toy_records(5),
        Record([Message("user", "x", parts=[{"type": "image"}])], id="z", meta={"a": [1]}),
    ]
    assert features().arrow_schema.equals(arrow_schema())
    loaded = []
    for suffix, kind in {".jsonl": "json", ".parquet": "parquet"}.items():
        write_records(tmp_path / f"a{suffix}", rows)
        given_features = {"features": features()} if kind == "json" else {}
        loaded.append(
            load_dataset(
                kind,
                data_files=str(tmp_path / f"a{suffix}"),
                split="train",
                cache_dir=str(tmp_path / "cache"),
                **given_features,
            )
        )
        assert loaded[-1].features == features()
    assert loaded[0].to_list() == loaded[1].to_list()
    assert loaded[0][5]["prompt"][0]["parts"] == [{"type": "image"}]
    assert loaded[0][0]["judgments"][0]["ranks"] == rows[0].judgments[0].ranks
    pq.write_table(loaded[1].with_format("arrow")[:], tmp_path / "back.parquet")
    assert list(read_records(tmp_path / "back.parquet")) == rows
