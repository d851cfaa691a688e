"""`alignkit label …`: what is printed, what is refused, what is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from labeling_helpers import make_records, run_label
from sqlalchemy import select

from alignment.data.files import fingerprint, read_records, write_records
from alignment.data.records import Judgment
from alignment.errors import UserError
from labeling_app.store.database import Store
from labeling_app.store.models import tasks


def test_import_users_and_export(tmp_path: Path) -> None:
    write_records(tmp_path / "in.jsonl", [*make_records(3), *make_records(1, outputs=1, start=9)])
    (tmp_path / "guide.md").write_text("Be kind.")
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    output = run_label(
        "import", tmp_path / "in.jsonl", *db, "--overlap", 2, "--guideline", tmp_path / "guide.md"
    )
    assert '"default": 3 tasks added, 0 were there already' in output
    assert "Left out: 1 with fewer than 2 outputs" in output
    assert "0 tasks added, 3 were there" in run_label("import", tmp_path / "in.jsonl", *db)
    assert "anna (reviewer) can sign in" in run_label(
        "user", "add", "Anna", "--role", "reviewer", "--password-stdin", *db, typed="correct horse\n"
    )
    assert run_label("user", "list", *db).startswith("anna\treviewer\tann-")
    assert "signed out everywhere" in run_label(
        "user", "password", "anna", "--password-stdin", *db, typed="battery staple"
    )
    with pytest.raises(UserError, match="no judgments yet"):
        run_label("export", tmp_path / "out.jsonl", *db)
    assert "3 records with 0 judgments" in run_label("export", tmp_path / "out.jsonl", "--all", *db)
    assert list(read_records(tmp_path / "out.jsonl")) == make_records(3)


def test_mistakes_are_one_sentence_and_leave_nothing(tmp_path: Path) -> None:
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    (tmp_path / "bad.jsonl").write_text('{"v":1,"prompt":[],"completoins":[]}\n')
    for arguments, words in (
        (("import", tmp_path / "none.jsonl"), "no such file"),
        (("import", tmp_path / "bad.jsonl"), 'did you mean "completions"'),
        (("export", tmp_path / "out.jsonl"), "no labeling database"),
        (("user", "list"), "no labeling database"),
    ):
        with pytest.raises(UserError, match=words):
            run_label(*arguments, *db)
    assert not (tmp_path / "labels.db").exists()
    with pytest.raises(UserError, match="no terminal"):
        run_label("user", "add", "anna", *db)
    with pytest.raises(UserError, match="8 to 1024"):
        run_label("user", "add", "anna", "--password-stdin", *db, typed="short\n")


def test_serve_says_when_the_port_is_taken(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="try another --port"):
            run_label("serve", "--db", f"sqlite:///{tmp_path}/labels.db", "--port", taken.getsockname()[1])
    assert not (tmp_path / "labels.db").exists()


def test_the_app_never_imports_torch_or_transformers(tmp_path: Path) -> None:
    """In a fresh process: build everything, pages included, and look at what was imported."""
    program = f"""
import sys
from labeling_app import api, auth, exports, guard, imports, render, server
from labeling_app.store.database import Store
render.render("$x$")
server.create_app(Store("sqlite:///{tmp_path}/labels.db", create=True))
print([name for name in ("torch", "transformers", "trl", "datasets", "evaluate") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_any_format_is_told_and_personal_data_is_warned_of(tmp_path: Path) -> None:
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    row = {
        "chosen": "\n\nHuman: Mail ann@example.org\n\nAssistant: Done.",
        "rejected": "\n\nHuman: Mail ann@example.org\n\nAssistant: No.",
    }
    (tmp_path / "hh.jsonl").write_text(json.dumps(row) + "\n")
    said = run_label("import", tmp_path / "hh.jsonl", *db)
    assert "is hh-rlhf" in said
    assert "Warning: these records seem to hold personal data: 1 EMAIL" in said
    assert "ann@example.org" not in said
    said = run_label("import", tmp_path / "hh.jsonl", "--redact", "--project", "clean", *db)
    assert "replaced by placeholders: 1 EMAIL" in said
    run_label("export", tmp_path / "out.jsonl", "--all", "--project", "clean", *db)
    (record,) = read_records(tmp_path / "out.jsonl")
    assert record.prompt[0].content == "Mail [EMAIL]"


def test_the_queue_goes_by_what_an_ensemble_disputes(tmp_path: Path) -> None:
    db = f"sqlite:///{tmp_path}/labels.db"
    records = make_records(3, outputs=2)
    for record, gap in zip(records, (0.1, 5.0, 1.0), strict=True):
        record.completions[0].rewards = [gap, 0.0]
        record.completions[1].rewards = [0.0, gap]
        record.meta["urgency"] = -gap
    write_records(tmp_path / "in.jsonl", records)

    def order() -> list[str]:
        with Store(db).read() as connection:
            wanted = select(tasks.c.external_id).order_by(tasks.c.priority.desc(), tasks.c.id)
            return list(connection.scalars(wanted))

    run_label("import", tmp_path / "in.jsonl", "--priority-from", "rewards", "--db", db)
    assert order() == ["record-1", "record-2", "record-0"]
    run_label("import", tmp_path / "in.jsonl", "--priority-from", "meta.urgency", "--db", db)
    assert order() == ["record-0", "record-2", "record-1"]
    with pytest.raises(UserError, match="no number"):
        run_label("import", tmp_path / "in.jsonl", "--priority-from", "meta.tags", "--db", db)


def test_gold_and_practice_tasks_have_a_known_answer(tmp_path: Path) -> None:
    db = f"sqlite:///{tmp_path}/labels.db"
    records = make_records(2)
    write_records(tmp_path / "in.jsonl", records)
    with pytest.raises(UserError, match="exactly one"):
        run_label("import", tmp_path / "in.jsonl", "--gold", "--db", db)
    assert not (tmp_path / "labels.db").exists()
    for kind, start in (("gold", 10), ("practice", 20)):
        known = make_records(2, start=start)
        for record in known:
            record.judgments = [Judgment(ranks=[1, 2, 3], rationale="Because.")]
        write_records(tmp_path / f"{kind}.jsonl", known)
        said = run_label("import", tmp_path / f"{kind}.jsonl", f"--{kind}", "--db", db)
        assert f"2 tasks added, 0 were there already.\nThey are {kind} tasks" in said
    with Store(db).read() as connection:
        rows = connection.execute(select(tasks.c.is_gold, tasks.c.is_practice, tasks.c.gold)).all()
    answer = {"ranks": [1, 2, 3], "explanation": "Because."}
    assert rows == [(True, False, answer)] * 2 + [(False, True, answer)] * 2
    run_label("import", tmp_path / "in.jsonl", "--db", db)
    run_label("export", tmp_path / "out.jsonl", "--all", "--db", db)
    assert len(list(read_records(tmp_path / "out.jsonl"))) == 2
    run_label("export", tmp_path / "gold.out.jsonl", "--all", "--gold", "--db", db)
    assert len(list(read_records(tmp_path / "gold.out.jsonl"))) == 6


def test_accounts_tokens_webhooks_and_invitations(tmp_path: Path) -> None:
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    write_records(tmp_path / "in.jsonl", make_records(1))
    run_label("import", tmp_path / "in.jsonl", *db)
    run_label("user", "add", "anna", "--role", "admin", "--password-stdin", *db, typed="correct horse\n")
    link = run_label("invite", "--role", "reviewer", "--address", "https://labels.example.org/", *db)
    assert link.startswith("https://labels.example.org/invite/")
    with pytest.raises(UserError, match="last active admin"):
        run_label("user", "close", "anna", *db)
    run_label("user", "add", "ben", "--password-stdin", *db, typed="correct horse\n")
    run_label("user", "role", "ben", "admin", *db)
    run_label("user", "close", "anna", *db)
    assert "(closed)" in run_label("user", "list", *db)
    run_label("user", "open", "anna", *db)
    assert "(closed)" not in run_label("user", "list", *db)

    made = run_label("token", "add", "loop", "--write", "--project", "default", *db).strip()
    assert made.startswith("akl_")
    listed = run_label("token", "list", *db)
    assert "1\tloop\treads and writes default\tuntil -" in listed
    assert made not in listed
    run_label("token", "revoke", 1, *db)
    assert "revoked 2" in run_label("token", "list", *db)
    said = run_label("webhook", "add", "https://loop.example.org/hook", *db)
    assert "secret" in said
    listed = run_label("webhook", "list", *db)
    assert "1\tdefault\thttps://loop.example.org/hook\t0 waiting" in listed
    assert said.split()[-1] not in listed
    run_label("webhook", "remove", 1, *db)
    assert run_label("webhook", "list", *db) == ""
    assert "whole: " in run_label("audit", *db)


def test_forgetting_asks_first_and_backups_come_back(tmp_path: Path) -> None:
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    write_records(tmp_path / "in.jsonl", make_records(2))
    run_label("import", tmp_path / "in.jsonl", *db)
    run_label("import", tmp_path / "in.jsonl", "--project", "other", *db)
    run_label("user", "add", "anna", "--password-stdin", *db, typed="correct horse\n")
    run_label("export", tmp_path / "out.jsonl", "--all", "--project", "other", *db)
    assert "2 projects, 4 tasks, 1 annotators, 0 judgments" in run_label("backup", tmp_path / "copy.db", *db)
    with pytest.raises(UserError, match="--yes"):
        run_label("forget", "anna", *db)
    with pytest.raises(UserError, match="several projects have a task"):
        run_label("forget-task", "record-0", "--yes", *db)
    held = fingerprint(tmp_path / "out.jsonl")
    (tmp_path / "runs" / "reward").mkdir(parents=True)
    state = {"data": {"out.jsonl": held}, "parents": {}}
    (tmp_path / "runs" / "reward" / "run.json").write_text(json.dumps(state))
    runs = ("--runs", tmp_path / "runs")
    said = run_label("forget-task", "record-0", "--project", "other", "--yes", *runs, *db)
    assert f"such a model: 1.\n  {tmp_path}/runs/reward\n" in said
    assert f"out.jsonl\t{fingerprint(tmp_path / 'out.jsonl')}\tother" in said
    assert "No export held any of it" in run_label("forget", "anna", "--yes", *db)
    assert "forgotten-ann-" in run_label("user", "list", *db)
    run_label("audit", *db)
    run_label("restore", tmp_path / "copy.db", "--db", f"sqlite:///{tmp_path}/new.db")
    assert "anna\tannotator" in run_label("user", "list", "--db", f"sqlite:///{tmp_path}/new.db")


def test_a_project_is_made_changed_and_shown(tmp_path: Path) -> None:
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    (tmp_path / "form.yaml").write_text("dimensions: [{name: truth, high: 7}]\nrationale: required\n")
    for name in ("consent", "warning", "guide"):
        (tmp_path / f"{name}.md").write_text(f"The {name}.")
    form = ("--form", tmp_path / "form.yaml")
    made = run_label("project", "add", "essays", "--asks", "ratings", "--overlap", 3, *form, *db)
    assert made == 'Project "essays" is made. It asks for ratings.\n'
    before = ("--consent", tmp_path / "consent.md", "--warning", tmp_path / "warning.md", "--practice", 5)
    said = run_label(
        "project",
        "set",
        "essays",
        *before,
        "--practice-needed",
        0.8,
        "--gold-rate",
        0.1,
        "--gold-feedback",
        *db,
    )
    for word in ("consent", "warning", "practice_tasks", "practice_needed", "gold_rate", "gold_feedback"):
        assert word in said
    shown = yaml.safe_load(run_label("project", "show", "essays", *db))
    assert (shown["asks"], shown["overlap"], shown["consent"], shown["gold_rate"]) == (
        "ratings",
        3,
        "The consent.",
        0.1,
    )
    assert shown["form"]["dimensions"] == [{"name": "truth", "high": 7}]
    more = ("--clear", "consent", "--rename", "texts", "--close", "--guideline", tmp_path / "guide.md")
    run_label("project", "set", "essays", *more, *db)
    shown = yaml.safe_load(run_label("project", "show", "texts", *db))
    assert (shown["consent"], shown["active"], shown["guideline"]) == (None, False, "The guide.")
    assert run_label("project", "set", "texts", *db) == 'Project "texts": nothing changed.\n'
    write_records(tmp_path / "in.jsonl", make_records(2))
    run_label("import", tmp_path / "in.jsonl", "--project", "texts", *db)
    listed = run_label("project", "list", *db)
    assert listed == (
        "texts\tratings\toverlap 3\t0 of 2 tasks, 0 of 6 judgments\t0 gold, 0 practice\t(closed)\n"
    )
    run_label("audit", *db)


def test_a_project_that_cannot_be(tmp_path: Path) -> None:
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    (tmp_path / "bad.yaml").write_text("dimensions: [{nam: truth}]\n")
    (tmp_path / "list.yaml").write_text("- a\n")
    run_label("project", "add", "one", *db)
    for arguments, words in (
        (("add", "one"), "a project .one. already"),
        (("add", "a/b"), "no name for a project"),
        (("add", "two", "--asks", "votes"), "none of ranking, pair, ratings"),
        (("add", "two", "--asks", "ratings"), "at least one dimension"),
        (("set", "one", "--form", tmp_path / "bad.yaml"), "nam"),
        (("set", "one", "--form", tmp_path / "list.yaml"), "is a mapping"),
        (("set", "one", "--gold-rate", 1.5), "between 0 and"),
        (("set", "one", "--clear", "guideline"), "none of consent"),
        (("set", "none"), "no project"),
        (("show", "none"), "there are: one"),
    ):
        with pytest.raises(UserError, match=words):
            run_label("project", *arguments, *db)
