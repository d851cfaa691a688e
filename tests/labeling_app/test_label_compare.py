"""A blind comparison: two files become tasks, nobody sees which is which, the export alone says who won."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from labeling_helpers import add_people, run_label

from alignment.backend.config import load_config
from alignment.data.files import read_records, write_records
from alignment.data.records import Completion, Message, Record, Source
from alignment.errors import UserError
from alignment.evaluation import stage
from labeling_app.auth import COOKIE
from labeling_app.server import create_app
from labeling_app.store import people
from labeling_app.store.database import Store, utcnow

DOCS = Path(__file__).parents[2] / "docs" / "labeling_admin.md"
SECRETS = ("zebra", "walrus", "temperature")


def answers(path: Path, name: str, prompts: range, samples: int = 1, ids: bool = True) -> Path:
    records = [
        Record(
            id=f"p-{number}" if ids else None,
            prompt=[Message("user", f"Question {number}?")],
            completions=[
                Completion(
                    id=f"{name}-{sample}",
                    # Even questions are answered better by the zebra.
                    content="good" if (name == "zebra") == (number % 2 == 0) else "bad",
                    source=Source("model", name, {"temperature": 0.7}),
                )
                for sample in range(samples)
            ],
        )
        for number in prompts
    ]
    write_records(path, records)
    return path


def test_from_two_files_to_a_win_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = f"sqlite:///{tmp_path}/labels.db"
    a = answers(tmp_path / "a.jsonl", "zebra", range(7))
    b = answers(tmp_path / "b.jsonl", "walrus", range(1, 9), ids=False)
    said = run_label("import", "--compare", a, b, "--db", db)
    assert "zebra against walrus" in said
    assert "3 prompts that only one" in said
    assert '"comparison": 6 tasks added' in said
    assert "0 tasks added, 6 were there" in run_label("import", "--compare", a, b, "--db", db)

    store = Store(db)
    (anna,) = add_people(store, "anna")
    client = TestClient(create_app(store), base_url="http://labels.test")
    with store.write() as tx:
        client.cookies.set(COOKIE, people.start_session(tx, utcnow(), anna["id"]))
    seen = [client.get("/app/").text, client.get("/app/config").text]
    first = set()
    for number in range(6):
        task = client.post("/api/next", json={})
        seen.append(task.text)
        shown = task.json()["task"]
        assert shown["asks"] == "pair"
        texts = [json.dumps(output["turns"]) for output in shown["outputs"]]
        good = next(place for place, text in enumerate(texts) if "good" in text)
        first.add(good)
        body = {"submit_key": f"submit-key-{number:05}", "ranks": [1 + (place != good) for place in (0, 1)]}
        saved = client.post(f"/api/assignments/{shown['id']}/judgment", json=body)
        assert saved.status_code == 200
        seen += [saved.text, client.get(f"/api/assignments/{shown['id']}").text]
    seen += [client.post("/api/next", json={}).text, client.get("/api/history").text]
    seen += [str(client.get("/account").text)]
    for text in seen:
        assert not [word for word in (*SECRETS, "p-1", "p-2") if word in text]

    run_label("export", tmp_path / "compared.jsonl", "--db", db)
    monkeypatch.chdir(tmp_path)
    config = re.search(r"```yaml\n(stage: evaluate.*?)```", DOCS.read_text(), re.DOTALL)
    assert config is not None
    Path("people.yaml").write_text(config[1].replace("dpo", "zebra").replace("sft", "walrus"))
    metrics = stage.run(load_config(stage.Config, "people.yaml"))["metrics"]
    assert metrics["win_rate"]["zebra_vs_walrus"] | {"low": 0, "high": 0} == {
        "rate": 0.5,
        "low": 0,
        "high": 0,
        "n": 6,
        "ties": 0,
    }
    assert metrics["judge"]["name"] == "one person"
    wins = {"zebra": 0.0, "walrus": 0.0}
    for record in read_records(tmp_path / "compared.jsonl"):
        assert [completion.source.name for completion in record.completions] == ["zebra", "walrus"]
        assert record.completions[0].source.params == {"temperature": 0.7}
        for judgment in record.judgments:
            assert judgment.by == "ann-anna"
            better = 0 if judgment.ranks[0] < judgment.ranks[1] else 1
            wins[record.completions[better].source.name] += 1
    assert wins == {"zebra": 3, "walrus": 3}  # questions 2, 4, 6 and 1, 3, 5
    store.close()


def test_samples_go_in_pairs_and_one_file_can_hold_both(tmp_path: Path) -> None:
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    both = tmp_path / "both.jsonl"
    a = answers(tmp_path / "a.jsonl", "zebra", range(2), samples=3)
    b = answers(tmp_path / "b.jsonl", "walrus", range(2), samples=2)
    merged = [
        Record(prompt=x.prompt, id=x.id, completions=[*x.completions, *y.completions])
        for x, y in zip(read_records(a), read_records(b), strict=True)
    ]
    write_records(both, merged)
    with pytest.raises(UserError, match="completions of walrus, zebra; say which two"):
        run_label("import", "--compare", both, both, *db)
    run_label("import", "--compare", both, both, "--names", "walrus", "zebra", *db)
    run_label("export", tmp_path / "out.jsonl", "--all", *db)
    records = list(read_records(tmp_path / "out.jsonl"))
    assert [record.id for record in records] == ["p-0", "p-0-2", "p-1", "p-1-2"]
    assert [c.id for c in records[1].completions] == ["walrus-1", "zebra-1"]


def test_completions_of_one_id_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`alignkit generate` calls the first completion of each file c0; so do tasks of an old database."""
    files = [answers(tmp_path / f"{name}.jsonl", name, range(2)) for name in ("zebra", "walrus")]
    for file in files:
        text = file.read_text()
        file.write_text(text.replace("zebra-0", "c0").replace("walrus-0", "c0"))
    for number, apart in enumerate((True, False)):
        db = ("--db", f"sqlite:///{tmp_path}/{number}.db")
        with monkeypatch.context() as patch:
            if not apart:
                patch.setattr("labeling_app.compare.with_distinct_ids", lambda completions: completions)
            run_label("import", "--compare", *files, *db)
        out = tmp_path / f"{number}.jsonl"
        run_label("export", out, "--all", *db)
        for record in read_records(out):
            assert [c.id for c in record.completions] == ["zebra-c0", "walrus-c0"]
        if not apart:  # the same comparison again is the same tasks
            assert "0 tasks added, 2 were there" in run_label("import", "--compare", *files, *db)


def test_mistakes(tmp_path: Path) -> None:
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    a = answers(tmp_path / "a.jsonl", "zebra", range(2))
    b = answers(tmp_path / "b.jsonl", "walrus", range(5, 6))
    same = answers(tmp_path / "c.jsonl", "zebra", range(2))
    for arguments, words in (
        (("--compare", a, same), 'both files are called "zebra"'),
        (("--compare", a, b), "no prompt in common"),
        (("--compare", a, b, "--gold"), "no known answers"),
        ((a, "--compare", a, b), "name one file"),
        ((), "name one file"),
        ((a, "--gold", "--practice"), "either"),
    ):
        with pytest.raises(UserError, match=words):
            run_label("import", *arguments, *db)
    assert not (tmp_path / "labels.db").exists()


def test_names_come_from_the_files_where_no_source_is_named(tmp_path: Path) -> None:
    db = ("--db", f"sqlite:///{tmp_path}/labels.db")
    for name in ("old.v1", "new"):
        row = {"prompt": [{"role": "user", "content": "q"}], "completions": [{"content": name}]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    said = run_label("import", "--compare", tmp_path / "old.v1.jsonl", tmp_path / "new.jsonl", *db)
    assert "old against new" in said
    run_label("export", tmp_path / "out.jsonl", "--all", *db)
    (record,) = read_records(tmp_path / "out.jsonl")
    assert [(c.text, c.source.name) for c in record.completions] == [("old.v1", "old"), ("new", "new")]
