"""Records as people read them, safe for a terminal, and what differs between two datasets."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from record_strategies import records
from rich.console import Console
from typer.testing import CliRunner

from alignment.cli.data import app
from alignment.data.differences import Difference, differences
from alignment.data.files import write_records
from alignment.data.printing import Printer, visible
from alignment.data.records import Comparison, Completion, Judgment, Message, Record, Source, record_id
from alignment.errors import UserError

Toy = Callable[..., list[Record]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_records: Toy) -> Path:
    """A folder with toy.jsonl (12 records) to work in."""
    monkeypatch.chdir(tmp_path)
    write_records("toy.jsonl", toy_records(12))
    return tmp_path


def said(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def refused(*arguments: str) -> str:
    with pytest.raises(UserError) as error:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return str(error.value)


def printed(record: Record, colour: bool = False, **options: bool | int) -> str:
    out = io.StringIO()
    console = Console(
        file=out,
        force_terminal=colour,
        width=100,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
    )
    Printer(console, **options).record(record, "row 1")  # type: ignore[arg-type]
    return out.getvalue()


RICH = Record(
    [
        Message("system", "Be kind."),
        Message("user", "Why is the sky [bold]blue[/bold] :smile:?\nSay it in one line."),
    ],
    id="sky",
    completions=[
        Completion(id="c0", content="Air scatters blue.", source=Source("model", "m1", {"temperature": 0.7})),
        Completion(
            messages=[Message("assistant", "", tool_calls=[{"f": 1}]), Message("assistant", "So it is.")]
        ),
    ],
    demonstrations=[0],
    judgments=[
        Judgment(
            by="ann", ranks=[1, 2], ratings={"help": [5, 3.5]}, rationale="It explains.", presented=[1, 0]
        ),
        Judgment(ranks=[2, None], comparisons=[Comparison(1, 0, 0.8)], labels=[True, None], all_bad=False),
    ],
    meta={"source": "by hand", "long": "x" * 300},
)


def test_a_record_is_printed_with_all_that_it_says() -> None:
    text = printed(RICH)
    assert "record sky  row 1" in text
    assert "    Why is the sky [bold]blue[/bold] :smile:?\n    Say it in one line.\n" in text
    assert '[0] · c0 · model m1 {"temperature":0.7} · demonstration' in text
    assert 'tool_calls [{"f":1}]' in text
    lines = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    head = next(line for line in lines if line[0] == "judge")
    assert head[:4] == ["judge", "rank [0]", "rank [1]", "rating help"]
    assert next(line for line in lines if line[0] == "ann")[1:4] == ["1", "2", "5 3.5"]
    assert next(line for line in lines if line[0] == "(anonymous)")[1:3] == ["2", "–"]
    assert "[1] over [0]" in text
    assert "ann says\n    It explains.\n" in text
    assert "… (--full shows all)" in text
    assert "x" * 300 in printed(RICH, full=True)
    assert "Why is the… (" in printed(RICH, longest=10)


def test_completions_stand_side_by_side() -> None:
    text = printed(RICH, side_by_side=True)
    heads = next(line for line in text.splitlines() if "[0] c0 m1" in line)
    assert "[1]" in heads


ESCAPES = "\x1b[31mred\x1b[0m\x1b]0;title\x07\x9b2J\rover\x08\x7f\u202eevil\u2066"


@given(records(), st.booleans())
@example(Record([Message("user", ESCAPES)], id=ESCAPES, meta={ESCAPES: ESCAPES}), False)
@example(
    Record(
        [Message("user", ESCAPES, name=ESCAPES, parts=[{"x": ESCAPES}])],
        completions=[
            Completion(id=ESCAPES, content=ESCAPES, source=Source(ESCAPES, ESCAPES, {"a": ESCAPES}))
        ],
        judgments=[
            Judgment(by=ESCAPES, ratings={ESCAPES: [1.0]}, at=ESCAPES, rationale=ESCAPES, guideline=ESCAPES)
        ],
    ),
    True,
)
def test_nothing_in_a_record_reaches_the_terminal_as_a_control(record: Record, side_by_side: bool) -> None:
    plain = printed(record, side_by_side=side_by_side, full=True)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", plain)
    coloured = printed(record, colour=True, side_by_side=side_by_side, full=True)
    # Only the printer's own colours, and the same text without them.
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_escapes_are_spelled() -> None:
    assert visible("\x1b[1m\r\n\tü🐈\u202e\x9b") == "\\x1b[1m\\x0d\n\tü🐈\\u202e\\x9b"


def test_show_finds_by_id_row_and_expression(here: Path) -> None:
    assert "record toy-0-0  row 1 of toy.jsonl" in said("show", "toy.jsonl")
    assert "next: alignkit data show toy.jsonl --row 2" in said("show", "toy.jsonl")
    assert "record toy-0-7  row 8" in said("show", "toy.jsonl", "--id", "toy-0-7")
    assert said("show", "toy.jsonl", "--row", "3").count("record toy-") == 1
    out = said("show", "toy.jsonl", "--grep", r"NUMBER (3|1\d)\.", "-i")
    assert re.findall(r"^record (\S+)", out, re.MULTILINE) == ["toy-0-3", "toy-0-10", "toy-0-11"]
    out = said("show", "toy.jsonl", "--grep", "Tell", "--limit", "2")
    assert out.count("record toy-") == 2
    assert "stopped after 2 records" in out
    assert "ann-1" in said("show", "toy.jsonl", "--grep", "^ann-1$", "--limit", "1")
    assert "none of the 12 records matches" in said("show", "toy.jsonl", "--grep", "zebra")


def test_what_cannot_be_shown_is_one_sentence(here: Path) -> None:
    assert "not a regular expression: unterminated character set" in refused(
        "show", "toy.jsonl", "--grep", "["
    )
    assert "there is no record with the id nobody\\x1b" in refused("show", "toy.jsonl", "--id", "nobody\x1b")
    assert "no record in row 99; the last row is 12" in refused("show", "toy.jsonl", "--row", "99")
    assert "--id and --row: give one" in refused("show", "toy.jsonl", "--row", "9", "--id", "a")
    Path("trl.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    assert "convert it first" in refused("head", "trl.jsonl")
    assert "no such file" in refused("diff", "toy.jsonl", "none.jsonl")


def test_head_shows_the_first_with_long_texts_cut(here: Path) -> None:
    write_records(
        "long.jsonl", (Record([Message("user", f"{n} " + "word " * 100)], id=str(n)) for n in range(9))
    )
    out = said("head", "long.jsonl")
    assert re.findall(r"^record (\d)", out, re.MULTILINE) == list("01234")
    assert "… (202 more characters)" in out
    assert said("head", "long.jsonl", "-n", "2").count("record ") == 2


def test_diff_names_what_was_added_removed_and_changed(here: Path, toy_records: Toy) -> None:
    rows = toy_records(12)
    rows[0].judgments = [rows[0].judgments[1], Judgment(by="new", all_bad=True)]
    rows[1].completions[0].content = "Other."
    rows[2].meta = {"a": 1}
    rows[3].prompt = [Message("user", "Other?")]
    later = [*rows[:10], Record([Message("user", "new")], id="new\x1b")]
    write_records("later.jsonl", reversed(later))
    out = said("diff", "toy.jsonl", "later.jsonl")
    assert out.splitlines()[:3] == ["- toy-0-10", "- toy-0-11", "+ new\\x1b"]
    assert "~ toy-0-0: judgments (+1 -1)" in out
    assert "~ toy-0-1: completions[0].content" in out
    assert "~ toy-0-2: meta.a" in out
    assert "~ toy-0-3: prompt" in out
    assert "2 removed, 1 added, 4 changed" in out
    assert "1 changed in judgments (1 added, 1 removed)" in out
    *listed, summary = map(json.loads, said("diff", "toy.jsonl", "later.jsonl", "--json").splitlines())
    assert len(listed) == 7
    assert summary["summary"] | {"fields": {}} == {
        "removed": 2, "added": 1, "changed": 4, "fields": {}, "judgments_added": 1, "judgments_removed": 1,
    }  # fmt: skip
    out = said("diff", "toy.jsonl", "later.jsonl", "--limit", "1")
    assert out.count("\n~ ") == 1
    assert "listed 1 of each kind" in out
    said("diff", "toy.jsonl", "later.jsonl", "--exit-code", code=1)


def test_diff_of_the_same_records_is_empty_in_any_form_and_order(here: Path, toy_records: Toy) -> None:
    write_records("turned.parquet", reversed(toy_records(12)))
    assert "hold the same records" in said("diff", "toy.jsonl", "turned.parquet", "--exit-code")
    assert json.loads(said("diff", "toy.jsonl", "toy.jsonl", "--json"))["summary"]["changed"] == 0


def found(a: list[Record], b: list[Record]) -> list[Difference]:
    return list(differences(lambda: a, lambda: b))


@settings(max_examples=40)
@given(st.lists(records(), max_size=4))
def test_nothing_differs_from_itself(rows: list[Record]) -> None:
    assert found(rows, rows) == []
    if len({record_id(row) for row in rows}) == len(rows):
        assert found(rows, rows[::-1]) == []


@settings(max_examples=40)
@given(st.lists(records(), max_size=4), st.lists(records(), max_size=4), st.randoms(use_true_random=False))
def test_the_way_back_mirrors_the_way_there(a: list[Record], b: list[Record], dice: object) -> None:
    # The same ids on both sides now and then, also twice on one.
    for number, row in enumerate([*a, *b]):
        row.id = f"r{dice.randrange(4)}" if number % 3 else row.id  # type: ignore[attr-defined]
    turned = {"added": "removed", "removed": "added", "changed": "changed"}
    there = found(a, b)
    mirrored = [
        Difference(turned[d.kind], d.id, d.fields, d.judgments_removed, d.judgments_added)
        for d in found(b, a)
    ]
    key = msgspec.json.encode
    assert sorted(map(key, there)) == sorted(map(key, mirrored))
    kinds = [d.kind for d in there]
    assert len(a) - kinds.count("removed") == len(b) - kinds.count("added")
    for difference in there:
        assert (difference.kind == "changed") == bool(difference.fields)


def test_a_repeated_id_is_compared_in_its_order() -> None:
    a = [Record([Message("user", text)], id="x") for text in ("1", "2", "3")]
    assert found(a, a[:2]) == [Difference("removed", "x", [])]
    assert found(a[:2], [a[0], a[2]]) == [Difference("changed", "x", ["prompt"])]


def test_memory_of_diff_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    def rows(count: int, word: str) -> Callable[[], object]:
        return lambda: (Record([Message("user", f"{n} " + word * 500)], id=str(n)) for n in range(count))

    list(differences(rows(3, "a "), rows(3, "b ")))  # type: ignore[arg-type]  # imports
    tracemalloc.start()
    assert sum(1 for _ in differences(rows(4000, "a "), rows(4000, "b "))) == 4000  # type: ignore[arg-type]
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert highest < 1_500_000  # either side is 4 MB of text
