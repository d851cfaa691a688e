"""Portions: shared out to workers or not, the same results in the same order, and the same account."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_strategies import records

from alignment.data import lines, portions
from alignment.data.files import Rejects, read_records, write_records
from alignment.data.records import Completion, Judgment, Message, Record, decode_record, encode_record
from alignment.data.view_files import packer, view_output
from alignment.data.views import VIEWS
from alignment.errors import UserError

Toy = Callable[..., list[Record]]


@pytest.fixture(params=[1, 3])
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """One process, or three workers over blocks of a few rows."""
    monkeypatch.setattr(portions, "_worker_count", lambda _: request.param)
    monkeypatch.setattr(lines, "_CHUNK", 4000)
    return int(request.param)


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


def lines_of(paths: list[Path], rejects: Rejects) -> bytes:
    found = portions.portions(paths, decode_record, portions.native_lines, rejects)
    return b"".join(portion.content for portion in found)


def test_rows_come_out_in_the_order_of_the_files(tmp_path: Path, toy_records: Toy, workers: int) -> None:
    rows = toy_records(300)
    write_records(tmp_path / "a.jsonl.gz", rows[:150])
    write_records(tmp_path / "b.parquet", rows[150:160])
    write_records(tmp_path / "c.jsonl", rows[160:])
    paths = [tmp_path / name for name in ("a.jsonl.gz", "b.parquet", "c.jsonl")]
    rejects = Rejects()
    assert lines_of(paths, rejects) == b"".join(encode_record(row) + b"\n" for row in rows)
    assert (rejects.rows, rejects.count) == (300, 0)
    found = portions.portions(paths, decode_record, portions.id_hashes, Rejects())
    hashes = next(found).content
    for portion in found:
        hashes.extend(portion.content)
    assert (len(hashes), portions.repeated(hashes), portions.repeated(hashes + hashes)) == (300, 0, 300)


def test_refused_rows_keep_their_place_and_the_first_one_stops(
    tmp_path: Path, toy_records: Toy, workers: int
) -> None:
    good = [encode_record(row) for row in toy_records(200)]
    bad = [b'{"promt": []}' if number % 7 == 3 else line for number, line in enumerate(good)]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(bad))
    rejects = Rejects(tmp_path / "aside.jsonl")
    assert lines_of([path], rejects).count(b"\n") == 200 - rejects.count
    assert rejects.rows == 200
    entries = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text().splitlines()]
    assert [entry["where"] for entry in entries] == [f"{path}, line {k + 1}" for k in range(3, 200, 7)]
    with pytest.raises(UserError, match=r"a\.jsonl, line 4: unknown key"):
        lines_of([path], Rejects(stop=True))
    path.write_bytes(b"{}\n" * 50)
    with pytest.raises(UserError, match=r"no usable row in the dataset \(50 were refused"):
        lines_of([path], Rejects())


def test_who_stops_listening_leaves_no_worker(tmp_path: Path, toy_records: Toy, workers: int) -> None:
    write_records(tmp_path / "a.jsonl", toy_records(500))
    found = portions.portions([tmp_path / "a.jsonl"], decode_record, portions.native_lines, Rejects())
    next(found)
    found.close()  # type: ignore[attr-defined]


def test_a_worker_that_is_killed_is_told(
    tmp_path: Path, toy_records: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(records: Iterator[Record], _: Counter[str]) -> tuple[int, bytes]:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0, b""

    monkeypatch.setattr(portions, "_worker_count", lambda _: 2)
    write_records(tmp_path / "a.jsonl", toy_records(5))
    with pytest.raises(UserError, match=r"killed \(signal 9\); is there enough memory"):
        list(portions.portions([tmp_path / "a.jsonl"], decode_record, killed, Rejects()))


def test_an_interrupted_command_leaves_nothing(tmp_path: Path) -> None:
    text = "word " * 250
    write_records(tmp_path / "a.jsonl", (Record([Message("user", f"{n} {text}")]) for n in range(60_000)))
    before = sorted(tmp_path.iterdir())
    words = "data convert --from native a.jsonl b.jsonl"
    command = [sys.executable, "-m", "alignment.cli", *words.split()]
    run = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # Under a shell's `&` the signal would be ignored, here and in what is started.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list(tmp_path.iterdir())) == len(before):
        assert run.poll() is None
        time.sleep(0.005)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait() != 0
    assert run.stderr is not None
    assert b"Traceback" not in run.stderr.read()  # the pipe ends when no worker holds it any more
    assert sorted(tmp_path.iterdir()) == before


def written(path: Path, rows: list[Record], view: str, group: int) -> Path:
    made = VIEWS[view](rows, turns=list)
    with view_output(path) as put:
        while some := list(islice(made, group)):
            put(packer(path)(some))
    return path


def plain(value: Any) -> Any:
    """Without the nulls that a table has where a row has no such key."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if inner is not None}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def judged(rows: list[Record]) -> list[Record]:
    both = [Judgment(labels=[True, False]), Judgment(ranks=[1, 2])]
    return [Record(row.prompt, id=row.id, completions=row.completions[:2], judgments=both) for row in rows]


@pytest.mark.parametrize("view", VIEWS)
def test_datasets_reads_the_same_table_from_json_and_parquet(
    tmp_path: Path, toy_records: Toy, view: str
) -> None:
    from datasets import load_dataset

    rows = judged(toy_records(40))
    tables = []
    for suffix, kind in {"jsonl": "json", "json": "json", "parquet": "parquet"}.items():
        path = written(tmp_path / f"a.{suffix}", rows, view, 7)
        tables.append(load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "c")))
    assert tables[0].features == tables[1].features == tables[2].features
    assert tables[0].to_list() == tables[1].to_list() == tables[2].to_list() == list(VIEWS[view](rows))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(records(), max_size=6), group=st.integers(1, 3), wait=st.integers(1, 4))
def test_parquet_holds_any_rows_whatever_comes_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Record], group: int, wait: int
) -> None:
    from alignment.data import view_files
    from alignment.data.parquet import parquet_rows

    monkeypatch.setattr(view_files, "_GROUP", wait)
    late = Record(
        [
            Message("user", "q"),
            Message("assistant", "", tool_calls=[{"f": 1}]),
            Message("tool", "4", name="f"),
        ],
        completions=[Completion(content="a"), Completion(messages=[Message("assistant", "b", weight=0.5)])],
        judgments=[Judgment(ranks=[2, 1], labels=[True, False])],
        tools=[{"type": "function"}],
    )
    for view in VIEWS:
        path = tmp_path / f"{view}.parquet"
        path.unlink(missing_ok=True)
        written(path, [*judged([late]), *rows, late], view, group)
        again = [json.loads(row) for _, row in parquet_rows(path)]
        assert plain(again) == plain(
            json.loads(json.dumps(list(VIEWS[view]([*judged([late]), *rows, late]))))
        )
        assert sorted(file.name for file in tmp_path.glob(".*")) == []


def test_a_view_shared_out_is_the_view(tmp_path: Path, toy_records: Toy, workers: int) -> None:
    rows = toy_records(200)
    write_records(tmp_path / "a.jsonl", rows)
    work = portions.view_rows(partial(VIEWS["pairs"], turns=list), packer(Path("x.jsonl")))
    found = list(portions.portions([tmp_path / "a.jsonl"], decode_record, work, Rejects()))
    counts: Counter[str] = Counter()
    expected = list(VIEWS["pairs"](read_records(tmp_path / "a.jsonl"), counts=counts))
    made = b"\n".join(portion.content for portion in found if portion.rows)
    assert [json.loads(line) for line in made.splitlines()] == expected
    assert sum((portion.counts for portion in found), Counter[str]()) == counts
