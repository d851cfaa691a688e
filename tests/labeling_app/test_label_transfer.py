"""Records in and out: nothing of a record is lost, an import twice is an import once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from labeling_helpers import add_people, make_records
from sqlalchemy import func, select

from alignment.data.files import read_records, write_records
from alignment.data.records import Completion, Judgment, Message, Record
from alignment.data.views import pairs_view
from alignment.errors import UserError
from labeling_app import exports, imports
from labeling_app.store import audit, judging, queue
from labeling_app.store.database import Store, utcnow
from labeling_app.store.judging import Answer
from labeling_app.store.models import audit_log, completions, projects, tasks


def judge(store: Store, person, answer: Answer, number: int = 0) -> None:
    with store.write() as tx:
        task = queue.lease_task(tx, person["id"], utcnow())
        judging.submit(
            tx, person, task["public_id"], f"submit-key-{person['id']}-{number}", 1, answer, utcnow()
        )


def export(store: Store, path: Path, **options) -> list[Record]:
    exports.export_records(store, path, overwrite=True, **options)
    return list(read_records(path))


def test_an_export_gives_back_the_records_and_what_people_said(any_store: Store, tmp_path: Path) -> None:
    anna, ben = add_people(any_store, "anna", "ben")
    imports.import_records(any_store, make_records(3), overlap=2)
    judge(any_store, anna, Answer([2, 1, 1], seconds=0.0), 1)
    judge(any_store, ben, Answer([None] * 3, all_bad=True), 1)
    judge(any_store, anna, Answer([1, 2, 3]), 2)
    got = export(any_store, tmp_path / "out.jsonl")
    assert [record.id for record in got] == ["record-0", "record-1"]
    assert [msgspec.structs.replace(record, judgments=[]) for record in got] == make_records(2)
    first, second = got[0].judgments
    assert (first.by, first.ranks, first.all_bad, first.seconds) == ("ann-anna", [2, 1, 1], False, 0.0)
    assert sorted(first.presented) == [0, 1, 2]
    assert (first.guideline, first.meta, first.at[-1]) == ("v1", {}, "Z")
    assert (second.by, second.ranks, second.all_bad) == ("ann-ben", None, True)

    counts: Counter[str] = Counter()
    pairs = list(pairs_view(read_records(tmp_path / "out.jsonl"), counts=counts))
    said = [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in pairs]
    assert sorted(said) == [
        ("Answer 0.1", "Answer 0.0"),
        ("Answer 0.2", "Answer 0.0"),
        ("Answer 1.0", "Answer 1.1"),
        ("Answer 1.0", "Answer 1.2"),
        ("Answer 1.1", "Answer 1.2"),
    ]
    assert len(export(any_store, tmp_path / "all.jsonl", everything=True)) == 3


def test_every_field_of_a_record_survives(any_store: Store, tmp_path: Path) -> None:
    line = """{"v":1,"id":"x","prompt":[{"role":"system","content":"be brief","name":"s"},{"role":"user",
    "content":"nul \\u0000, \\u2028, 🦊"}],"completions":[{"id":"c0","content":"",
    "license":"MIT","rewards":[0.5,null],
    "meta":{"a":[1]}},{"messages":[{"role":"assistant","content":"","tool_calls":[{"id":"1","type":"function",
    "function":{"name":"f","arguments":"{}"}}]},{"role":"tool","content":"42","tool_call_id":"1"},{"role":
    "assistant","content":"It is 42.","weight":0.5}],
    "source":{"kind":"model","name":"m","params":{"t":0.7}}}],
    "demonstrations":[1],"judgments":[{"by":"old","ranks":[2,1],"comparisons":[{"a":1,"b":0,"p":0.9}],
    "ratings":{"help":[1.5,null]},"labels":[false,true],"rationale":"because","meta":{"k":1}}],
    "tools":[{"type":"function","function":{"name":"f"}}],"parent":{"id":"y","completion":0},
    "meta":{"source":"test"}}"""
    (tmp_path / "in.jsonl").write_text(line.replace("\n", ""))
    (record,) = read_records(tmp_path / "in.jsonl")
    imports.import_records(any_store, [record])
    assert export(any_store, tmp_path / "out.jsonl") == [record]
    (person,) = add_people(any_store, "anna")
    judge(any_store, person, Answer([1, 1]))
    (again,) = export(any_store, tmp_path / "out.jsonl")
    assert [judgment.by for judgment in again.judgments] == ["old", "ann-anna"]


def test_an_import_twice_is_an_import_once(any_store: Store) -> None:
    assert imports.import_records(any_store, make_records(5)).added == 5
    done = imports.import_records(any_store, [*make_records(7), *make_records(2)])
    assert (done.added, done.present) == (2, 7)
    assert imports.import_records(any_store, make_records(2), project="other").added == 2
    with any_store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(tasks)) == 9
        assert connection.scalar(select(func.count()).select_from(completions)) == 27


def test_records_that_repeat_a_task_within_one_import_are_counted_apart(store: Store) -> None:
    """Not as if they had been there before: their own judgments are left out, and that is said."""
    one, two = make_records(2)
    again = msgspec.structs.replace(one, judgments=[Judgment(by="somebody", ranks=[1, 2, 3])])
    done = imports.import_records(store, [one, two, again])
    assert (done.added, done.present) == (2, 0)
    assert done.left_out == {"the prompt and outputs of an earlier one, whose task they share": 1}
    done = imports.import_records(store, [one, two, again])
    assert (done.added, done.present, done.left_out) == (0, 3, {})


def test_an_export_can_be_imported_again(store: Store, tmp_path: Path) -> None:
    (person,) = add_people(store, "anna")
    imports.import_records(store, make_records(1))
    judge(store, person, Answer([1, 2, 3]))
    got = export(store, tmp_path / "out.jsonl")
    assert imports.import_records(store, got).present == 1
    other = Store(f"sqlite:///{tmp_path}/other.db", create=True)
    imports.import_records(other, got)
    assert export(other, tmp_path / "other.jsonl") == got
    other.close()


def test_the_same_id_with_other_content_is_refused_whole(store: Store) -> None:
    imports.import_records(store, make_records(1))
    changed = make_records(3)
    changed[0].completions[1].content = "something else"
    with pytest.raises(UserError, match='record "record-0" is in project "default" with another prompt'):
        imports.import_records(store, reversed(changed))
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(tasks)) == 1


def test_what_cannot_be_ranked_is_counted(store: Store) -> None:
    image = Record(
        prompt=[Message("user", "what is it?", parts=[{"type": "image"}])],
        completions=[Completion(content="a"), Completion(content="b")],
    )
    odd = [*make_records(1, outputs=1), *make_records(1, outputs=9, start=1), image]
    with pytest.raises(UserError, match="nothing to rank"):
        imports.import_records(store, odd)
    done = imports.import_records(store, [*odd, *make_records(1, start=5)])
    assert done.added == 1
    assert sum(done.left_out.values()) == 3


def test_records_without_an_id_get_one_that_lasts(store: Store, tmp_path: Path) -> None:
    record = Record(
        prompt=[Message("user", "q")], completions=[Completion(content="a"), Completion(content="b")]
    )
    imports.import_records(store, [record])
    assert imports.import_records(store, [record]).present == 1
    (got,) = export(store, tmp_path / "out.jsonl", everything=True)
    assert got.id is not None


def test_overlap_and_guideline_can_change_later(store: Store) -> None:
    (anna, ben) = add_people(store, "anna", "ben")
    imports.import_records(store, make_records(2))
    judge(store, anna, Answer([1, 2, 3]))
    with store.read() as connection:
        assert connection.scalars(select(tasks.c.status).order_by(tasks.c.id)).all() == ["done", "open"]
    imports.import_records(store, make_records(2), overlap=2, guideline="New words.")
    judge(store, ben, Answer([1, 2, 3]))
    with store.read() as connection:
        rows = connection.execute(select(tasks.c.status, tasks.c.n_judgments).order_by(tasks.c.id)).all()
        assert rows == [("done", 2), ("open", 0)]
        project = connection.execute(select(projects)).mappings().one()
        assert (project["overlap"], project["guideline"], project["guideline_version"]) == (
            2,
            "New words.",
            2,
        )
        audit.verify(connection)


def test_only_the_newest_revision_is_exported(store: Store, tmp_path: Path) -> None:
    (person,) = add_people(store, "anna")
    imports.import_records(store, make_records(1))
    start = utcnow()
    with store.write() as tx:
        task = queue.lease_task(tx, person["id"], start)
        late = start + 3 * queue.LEASE
        for revision, ranks in ((1, [1, 2, 3]), (2, [3, 2, 1])):
            answer = Answer(ranks)
            judging.submit(tx, person, task["public_id"], f"submit-key-{revision}", revision, answer, late)
    (record,) = export(store, tmp_path / "out.jsonl")
    (judgment,) = record.judgments
    assert (judgment.ranks, judgment.meta) == ([3, 2, 1], {"late": True})


def test_a_late_judgment_says_so(store: Store, tmp_path: Path) -> None:
    (person,) = add_people(store, "anna")
    imports.import_records(store, make_records(1))
    start = utcnow()
    with store.write() as tx:
        task = queue.lease_task(tx, person["id"], start)
        judging.submit(
            tx, person, task["public_id"], "submit-key", 1, Answer([1, 2, 3]), start + 3 * queue.LEASE
        )
    (record,) = export(store, tmp_path / "out.jsonl")
    assert isinstance(record.judgments[0], Judgment)
    assert record.judgments[0].meta == {"late": True}


def test_exports_name_their_project_and_never_overwrite(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are: none"):
        export(store, tmp_path / "out.jsonl")
    imports.import_records(store, make_records(1), project="one")
    with pytest.raises(UserError, match="no judgments yet"):
        export(store, tmp_path / "out.jsonl")
    imports.import_records(store, make_records(1), project="two")
    with pytest.raises(UserError, match="--project; there are: one, two"):
        export(store, tmp_path / "out.jsonl")
    with pytest.raises(UserError, match='no project "three"'):
        export(store, tmp_path / "out.jsonl", project="three")
    export(store, tmp_path / "out.jsonl", project="two", everything=True)
    with pytest.raises(UserError, match="exists"):
        exports.export_records(store, tmp_path / "out.jsonl", "two", everything=True)
    with store.read() as connection:
        last = connection.execute(select(audit_log).order_by(audit_log.c.id.desc())).mappings().first()
    assert (last["action"], '"rows":1' in last["after"]) == ("export", True)


def test_thousands_of_records(store: Store, tmp_path: Path) -> None:
    records = make_records(1234)
    write_records(tmp_path / "in.jsonl.gz", records)
    imports.import_records(store, read_records(tmp_path / "in.jsonl.gz"))
    assert export(store, tmp_path / "out.jsonl.zst", everything=True) == records
