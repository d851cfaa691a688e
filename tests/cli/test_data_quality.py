"""`alignkit data duplicates, contamination, personal, completions, report` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alignment.cli.data import app
from alignment.data.files import read_records, write_records
from alignment.data.records import Completion, Judgment, Message, Record
from alignment.errors import UserError

Toy = Callable[..., list[Record]]
MAIL = "ann@example.org"
LONG = "please write a short story about a very old tree that stands on a hill beside the sea"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_records: Toy) -> Path:
    """A folder with toy.jsonl: 40 rows, one prompt thrice and one e-mail address among them."""
    monkeypatch.chdir(tmp_path)
    rows = toy_records(36)
    for k, text in enumerate((LONG, LONG.upper(), f"{LONG}!")):
        judged = [Judgment(by="x", ranks=[1])] if k == 1 else []
        rows.append(
            Record(
                [Message("user", text)],
                id=f"story-{k}",
                completions=[Completion(content="A story.")],
                judgments=judged,
            )
        )
    rows.append(Record([Message("user", f"Write to {MAIL} for me.")], id="mail"))
    write_records("toy.jsonl", rows)
    return tmp_path


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError) as error:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert sorted(Path().rglob("*")) == before
    return str(error.value)


def lines(path: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_duplicates_are_listed_and_one_of_each_kept(here: Path) -> None:
    out = said("duplicates", "toy.jsonl")
    assert "40 rows in toy.jsonl: 1 clusters with the same prompt" in out
    assert "leaves out 1 rows with 0 judgments" in out
    assert "next: alignkit data duplicates toy.jsonl --out CLEAN.jsonl" in out
    said("duplicates", "toy.jsonl", "--completions", "--out", "clean.jsonl", "--list", "list.jsonl")
    # The judged row stays, though it is the second.
    assert lines("list.jsonl") == [{"kept": "story-1", "rows": ["story-0", "story-1"]}]
    assert [r.id for r in read_records("clean.jsonl")][-3:] == ["story-1", "story-2", "mail"]
    assert "exists" in refused("duplicates", "toy.jsonl", "--out", "clean.jsonl")
    assert "--near" in refused("duplicates", "toy.jsonl", "--near", "--completions")


def test_near_duplicates_are_listed(here: Path) -> None:
    out = said("duplicates", "toy.jsonl", "--near", "--threshold", "0.9", "--list", "near.jsonl")
    assert "alike by 0.9 or more" in out
    assert {"kept": "story-1", "rows": ["story-0", "story-1", "story-2"]} in lines("near.jsonl")
    assert "threshold" in refused("duplicates", "toy.jsonl", "--near", "--threshold", "2")


def test_contaminated_rows_are_listed_and_left_out(here: Path) -> None:
    write_records("eval.jsonl", [Record([Message("user", f"Now {LONG}.")], id="e")])
    out = said("contamination", "toy.jsonl", "eval.jsonl", "--out", "clean.jsonl", "--list", "hits.jsonl")
    assert "3 of 40 rows of toy.jsonl (7.50%)" in out
    hits = lines("hits.jsonl")
    assert [hit["id"] for hit in hits] == ["story-0", "story-1", "story-2"]
    assert {hit["evaluation"] for hit in hits} == {"e"}
    assert hits[0]["shared"] == " ".join(LONG.split()[:13])
    assert len(list(read_records("clean.jsonl"))) == 37
    assert "0 of 37" in said("contamination", "clean.jsonl", "eval.jsonl")


def test_personal_data_is_hidden_and_redacted(here: Path) -> None:
    out = said("personal", "toy.jsonl")
    assert "1 findings in 1 of 40 rows" in out
    assert "EMAIL in prompt.content: 1" in out
    assert MAIL not in out
    out = said("personal", "toy.jsonl", "--redact", "clean.jsonl", "--list", "found.jsonl")
    assert "40 records in clean.jsonl, replaced: EMAIL: 1" in out
    assert lines("found.jsonl") == [
        {"id": "mail", "kind": "EMAIL", "field": "prompt.content", "masked": "a" + "•" * 12}
    ]
    before, after = list(read_records("toy.jsonl")), list(read_records("clean.jsonl"))
    assert [row.id for row in before] == [row.id for row in after]
    assert before[:-1] == after[:-1]
    assert after[-1].prompt[0].content == "Write to [EMAIL] for me."
    assert "0 findings" in said("personal", "clean.jsonl")
    assert "--region" in refused("personal", "toy.jsonl", "--region", "XX")


def test_completions_are_counted(here: Path) -> None:
    rows = list(read_records("toy.jsonl"))
    rows[0].completions[0].content = ""
    write_records("faulty.jsonl", rows)
    out = said("completions", "faulty.jsonl", "--list", "faults.jsonl")
    assert "  empty: 1 (" in out
    assert lines("faults.jsonl") == [{"id": rows[0].id, "completion": 0, "fault": "empty"}]


def test_the_report_is_one_page(here: Path) -> None:
    write_records("eval.jsonl", [Record([Message("user", LONG)], id="e")])
    out = said("report", "toy.jsonl", "--out", "page.html", "--eval", "eval.jsonl", "--json")
    assert "the page about 40 records of toy.jsonl is page.html" in out
    assert '"contaminated": 3' in out
    html = Path("page.html").read_text()
    assert "3 rows (7.5%) hold prompts of eval.jsonl" in html
    assert "exists" in refused("report", "toy.jsonl", "--out", "page.html")
    said("report", "toy.jsonl", "--out", "page.html", "--overwrite")
