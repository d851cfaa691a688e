"""`alignkit label …`: what is printed, what is refused, what is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from labeling_helpers import make_records
from typer.testing import CliRunner

from alignment.cli.label import app
from alignment.data.files import read_records, write_records
from alignment.errors import UserError


def run(*arguments: object, typed: str | None = None) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=typed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_import_users_and_export(tmp_path: Path) -> None:
    write_records(tmp_path / "in.jsonl", [*make_records(3), *make_records(1, outputs=1, start=9)])
    (tmp_path / "guide.md").write_text("Be kind.")
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    output = run("import", tmp_path / "in.jsonl", *db, "--overlap", 2, "--guideline", tmp_path / "guide.md")
    assert '"default": 3 tasks added, 0 were there already' in output
    assert "Left out: 1 with fewer than 2 outputs" in output
    assert "0 tasks added, 3 were there" in run("import", tmp_path / "in.jsonl", *db)
    assert "anna (reviewer) can sign in" in run(
        "user", "add", "Anna", "--role", "reviewer", "--password-stdin", *db, typed="correct horse\n"
    )
    assert run("user", "list", *db).startswith("anna\treviewer\tann-")
    assert "signed out everywhere" in run(
        "user", "password", "anna", "--password-stdin", *db, typed="battery staple"
    )
    with pytest.raises(UserError, match="no judgments yet"):
        run("export", tmp_path / "out.jsonl", *db)
    assert "3 records with 0 judgments" in run("export", tmp_path / "out.jsonl", "--all", *db)
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
            run(*arguments, *db)
    assert not (tmp_path / "labels.db").exists()
    with pytest.raises(UserError, match="no terminal"):
        run("user", "add", "anna", *db)
    with pytest.raises(UserError, match="8 to 1024"):
        run("user", "add", "anna", "--password-stdin", *db, typed="short\n")


def test_serve_says_when_the_port_is_taken(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="try another --port"):
            run("serve", "--db", f"sqlite:///{tmp_path}/labels.db", "--port", taken.getsockname()[1])
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
