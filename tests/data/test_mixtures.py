"""Mixtures and samples: shares, seeds, and nothing drawn twice without being asked."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from alignment.cli import app
from alignment.data.files import read_records, write_records
from alignment.data.mixtures import drawn, draws, interleaved, priorities, quotas
from alignment.data.records import Message, Record
from alignment.errors import UserError

sources = st.lists(st.tuples(st.integers(1, 200), st.integers(1, 9)), min_size=1, max_size=5)


@given(sources)
def test_a_mixture_goes_on_until_the_first_source_runs_out(given_: list[tuple[int, int]]) -> None:
    sizes, weights = zip(*given_, strict=True)
    counts = quotas(["s"] * len(sizes), sizes, weights)
    assert all(count <= size for count, size in zip(counts, sizes, strict=True))
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - sum(counts) * weight / sum(weights)) < 1
    # One row more would need a row that is not there.
    most = min(size * sum(weights) // weight for size, weight in zip(sizes, weights, strict=True))
    assert sum(counts) == most


@given(sources, st.integers(1, 500))
def test_a_total_is_kept_to_the_row_where_sources_repeat(given_: list[tuple[int, int]], rows: int) -> None:
    sizes, weights = zip(*given_, strict=True)
    counts = quotas(["s"] * len(sizes), sizes, weights, rows, [True] * len(sizes))
    assert sum(counts) == rows
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - rows * weight / sum(weights)) < 1


def test_decimal_weights_are_exact() -> None:
    assert quotas(["a", "b"], [70, 30], [0.7, 0.3]) == [70, 30]
    assert quotas(["a", "b", "c"], [1000] * 3, [0.1, 0.2, 0.7], 10) == [1, 2, 7]
    with pytest.raises(
        UserError, match="b has 3 rows, and its share of 20 is 10: take at most 6 rows in all"
    ):
        quotas(["a", "b"], [100, 3], [1, 1], 20)
    with pytest.raises(UserError, match="b: the mixture has a share for it, but it has no row"):
        quotas(["a", "b"], [100, 0], [1, 1])


@given(
    st.lists(st.text(max_size=3), min_size=1, max_size=40, unique=True), st.integers(0, 90), st.integers(0, 3)
)
def test_draws_are_nested_and_do_not_depend_on_the_order(ids: list[str], count: int, seed: int) -> None:
    times = draws(priorities(ids, seed), count)
    assert times.sum() == count
    assert times.max() - times.min() <= 1
    assert (draws(priorities(ids, seed), count + 1) >= times).all()
    by_id = dict(zip(ids, times.tolist(), strict=True))
    around = ids[::-1]
    assert dict(zip(around, draws(priorities(around, seed), count).tolist(), strict=True)) == by_id
    assert Counter(drawn(lambda: ids, times)) == {name: n for name, n in by_id.items() if n}


def test_every_row_is_drawn_equally_often_over_seeds() -> None:
    ids = [*(f"r{k}" for k in range(10)), *["same"] * 10]
    often = sum(draws(priorities(ids, seed), 5) for seed in range(2000))
    assert often == pytest.approx(np.full(20, 500), abs=100)
    # The draw of a seed is the same on every machine.
    assert np.flatnonzero(draws(priorities(ids, 0), 5)).tolist() == [3, 5, 6, 15, 17]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=4))
def test_interleaved_streams_keep_their_order_and_their_shares_throughout(counts: list[int]) -> None:
    streams = [[(k, n) for n in range(count)] for k, count in enumerate(counts)]
    rows = list(interleaved(streams, counts))
    for k, stream in enumerate(streams):
        assert [row for row in rows if row[0] == k] == stream
        for end in range(len(rows) + 1):
            got = sum(row[0] == k for row in rows[:end])
            assert abs(got - counts[k] * end / len(rows)) <= len(counts) / 2 + 1 if rows else True


def run(*args: str) -> str:
    outcome = CliRunner().invoke(app, ["data", *args], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def refused(*args: str) -> str:
    outcome = CliRunner().invoke(app, ["data", *args])
    assert isinstance(outcome.exception, UserError), outcome.output
    return str(outcome.exception)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, count in (("a", 70), ("b", 50)):
        rows = [
            Record([Message("user", f"{name} {k}")], id=f"{name}{k}", meta={"tags": [f"t{k % 3}"]})
            for k in range(count)
        ]
        write_records(f"{name}.jsonl", rows)
    return tmp_path


def ids(path: str) -> list[str]:
    return [record.id or "" for record in read_records(path)]


def test_data_mix(here: Path) -> None:
    out = run("mix", "m.jsonl", "a.jsonl=0.7", "b.jsonl=0.3")
    assert "70 of 70 rows of a.jsonl (70.0%)\n30 of 50 rows of b.jsonl (30.0%)\n100 records in m.jsonl" in out
    names = ids("m.jsonl")
    assert len(set(names)) == 100
    assert Counter(name[0] for name in names[:10]) == {"a": 7, "b": 3}
    run("mix", "n.parquet", "b.jsonl=0.3", "a.jsonl=0.7", "--rows", "50")
    assert set(ids("n.parquet")) < set(names)
    run("mix", "s.jsonl", "b.jsonl=0.3", "a.jsonl=0.7", "--rows", "50", "--seed", "1")
    assert set(ids("s.jsonl")) != set(ids("n.parquet"))
    assert "its share of 200 is 140: take at most 100" in refused(
        "mix", "x.jsonl", "a.jsonl=0.7", "b.jsonl=0.3", "--rows", "200"
    )
    out = run("mix", "r.jsonl", "a.jsonl=7", "b.jsonl=3", "--rows", "200", "--repeat")
    assert "140 of 70 rows of a.jsonl (70.0%), each up to 2 times" in out
    assert Counter(Counter(ids("r.jsonl")).values()) == {2: 70 + 10, 1: 40}
    assert "give every source a weight" in refused("mix", "x.jsonl", "a.jsonl", "b.jsonl=1")
    assert "exists" in refused("mix", "m.jsonl", "a.jsonl=1")
    assert not (here / "x.jsonl").exists()


def test_data_sample(here: Path) -> None:
    run("sample", "a.jsonl", "s.jsonl", "--rows", "20", "--seed", "5")
    run("sample", "a.jsonl", "t.jsonl", "--rows", "30", "--seed", "5")
    small, large, all_ = ids("s.jsonl"), ids("t.jsonl"), ids("a.jsonl")
    assert (len(small), len(large)) == (20, 30)
    assert set(small) < set(large)
    assert small == [name for name in all_ if name in set(small)]
    shuffled = list(read_records("a.jsonl"))
    random.Random(0).shuffle(shuffled)
    write_records("u.jsonl", shuffled)
    run("sample", "u.jsonl", "v.jsonl", "--rows", "20", "--seed", "5")
    assert set(ids("v.jsonl")) == set(small)
    assert "70 rows, fewer than the 71" in refused("sample", "a.jsonl", "x.jsonl", "--rows", "71")


def test_data_split_in_three_and_by_strata(here: Path) -> None:
    out = run("split", "a.jsonl", "x.jsonl=0.6", "y.jsonl=0.2", "z.jsonl=0.2", "--stratify", "meta.tags")
    parts = [ids(f"{name}.jsonl") for name in "xyz"]
    assert sorted([name for part in parts for name in part]) == sorted(ids("a.jsonl"))
    assert "prompts by meta.tags:\n  t0: " in out
    for part, expected in zip(parts, (14, 5, 5), strict=True):  # of 24 in t0, to within one
        assert abs(sum(int(name[1:]) % 3 == 0 for name in part) - expected) <= 1
    assert "add up to 1" in refused("split", "a.jsonl", "p.jsonl=0.6", "q.jsonl=0.2")
    assert "its share" in refused("split", "a.jsonl", "p.jsonl=0.6", "q.jsonl")
    assert "--fraction goes with" in refused(
        "split", "a.jsonl", "p.jsonl=0.6", "q.jsonl=0.4", "--fraction", "0.1"
    )
    assert "no record has a value at meta.nothing" in refused(
        "split", "a.jsonl", "p.jsonl", "q.jsonl", "--stratify", "meta.nothing"
    )
    assert not (here / "p.jsonl").exists()
