"""A human evaluation, end to end: two files of completions, blind tasks in chromium, two people, a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from labeling_helpers import add_people, run_label

from alignment.data.files import write_records
from alignment.data.records import Completion, Message, Record, Source
from alignment.evaluation import stage
from labeling_app.store.database import Store

expect = pytest.importorskip("playwright.sync_api").expect
NAMES = ("zebra-model", "walrus-model")


def answers(path: Path, name: str) -> Path:
    """The zebra answers the first three of four questions better."""
    records = []
    for number in range(4):
        good = (name == NAMES[0]) == (number < 3)
        completion = Completion(content="A good answer." if good else "Hm.", source=Source("model", name))
        prompt = [Message("user", f"Question {number}?")]
        records.append(Record(prompt, id=f"q{number}", completions=[completion]))
    write_records(path, records)
    return path


def prefer(page: Any, wanted: str) -> None:
    """Say of each task, by key, that the output with this text is the better one."""
    for _ in range(4):
        before = page.locator(".rb").get_attribute("data-task")
        bodies = [text.strip() for text in page.locator(".rb-body").all_inner_texts()]
        page.keyboard.press(str(bodies.index(wanted) + 1))
        page.keyboard.press("Enter")
        page.wait_for_function("before => document.querySelector('.rb').dataset.task !== before", arg=before)
        page.wait_for_selector(".rb[data-ready]")
    expect(page.get_by_role("heading", name="No tasks left")).to_be_visible()


def test_from_two_files_to_a_win_rate(visit: Any, store: Store, tmp_path: Path) -> None:
    db = f"sqlite:///{tmp_path / 'labels.db'}"
    files = [answers(tmp_path / f"{name}.jsonl", name) for name in NAMES]
    run_label("import", "--compare", *files, "--overlap", "2", "--db", db)
    for login, wanted in (("anna", "A good answer."), ("ben", "Hm.")):  # ben has a taste of his own
        add_people(store, login)
        page = visit(login).open()
        assert not [name for name in ("zebra", "walrus") if name in page.content()]
        prefer(page, wanted)
    out = tmp_path / "compared.jsonl"
    run_label("export", out, "--db", db)

    content = {
        "models": dict.fromkeys(NAMES, str(out)),
        "comparisons": [list(NAMES)],
        "prompts": [str(out)],
        "judge": {"kind": "people", "path": str(out)},
        "run": {"dir": str(tmp_path / "run")},
    }
    report = stage.run(stage.Config.model_validate(content))["metrics"]
    rate = report["win_rate"]["zebra-model_vs_walrus-model"]
    assert (rate["rate"], rate["n"], rate["ties"]) == (0.5, 8, 0)  # anna 3 of 4, ben 1 of 4
    agreement = report["judge"]["agreement"]
    assert (agreement["value"], agreement["n"], agreement["people"]) == (0.0, 4, 2)
    page_text = (tmp_path / "run/report.html").read_text()
    assert "2 people: agreement" in page_text
    stored = [json.loads(line) for line in (tmp_path / "run/verdicts.jsonl").read_text().splitlines()]
    assert sorted(v["outcome"] for v in stored) == [0.0] * 4 + [1.0] * 4
