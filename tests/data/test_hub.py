"""Hugging Face in and out, with local folders and a hub that only remembers what it was asked."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from typer.testing import CliRunner

from alignment.cli.data import app
from alignment.data import hub
from alignment.data.card import card_license
from alignment.data.files import fingerprint, read_records, write_records
from alignment.data.hub import iterable_view
from alignment.data.records import Completion, Message, Record, features
from alignment.data.views import VIEWS
from alignment.errors import UserError

Toy = Callable[..., list[Record]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def said(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> str:
    """The sentence of the UserError, and proof that no file appeared."""
    before = sorted(Path().glob("*"))
    with pytest.raises(UserError) as error:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert sorted(Path().glob("*")) == before
    return str(error.value)


def assorted(toy_records: Toy) -> list[Record]:
    """Records with every open part, nulls and empty lists in them included."""
    odd = Record(
        [Message("user", "see\n\x1b[31m", parts=[{"type": "image", "url": None}])],
        id="odd",
        completions=[
            Completion(messages=[Message("assistant", "", tool_calls=[{"a": {}}])], rewards=[None, 1.0])
        ],
        tools=[{"type": "function"}],
        meta={"a": [1, None], "b": None, "license": "MIT", "source": "by hand"},
    )
    return [*toy_records(7), odd, Record([Message("user", "only a prompt")], id="bare")]


PAIRS = [{"prompt": f"q{k}", "chosen": f"good {k}", "rejected": f"bad {k}"} for k in range(250)]


def saved(path: str, rows: list[dict[str, Any]], **columns: Any) -> datasets.Dataset:
    kinds = {key: datasets.Value("string") for key in rows[0]} | columns
    made = datasets.Dataset.from_list(rows, features=datasets.Features(kinds))
    made.save_to_disk(path)
    return made


def test_a_dry_run_writes_what_datasets_and_pull_read_back(tmp_path: Path, toy_records: Toy) -> None:
    written = write_records("all.jsonl", assorted(toy_records))
    out = said("push", "all.jsonl", "me/my-set", "--dry-run", "out")
    assert "9 records in out, nothing uploaded" in out
    assert sorted(str(p.relative_to("out")) for p in Path("out").rglob("*.*")) == [
        "README.md",
        "data/train-00000.parquet",
    ]
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train")
    assert loaded.features == features()
    table = datasets.load_dataset("json", data_files="all.jsonl", features=features(), split="train")
    assert loaded.to_list() == table.to_list()
    out = said("pull", "out", "back.jsonl")
    assert "out, split train, is native, by the keys" in out
    assert written.fingerprint in out
    assert list(read_records("back.jsonl")) == list(read_records("all.jsonl"))
    assert fingerprint("back.jsonl") == written.fingerprint
    said("pull", "out", "back.parquet")
    assert fingerprint("back.parquet") == written.fingerprint
    assert "exists" in refused("pull", "out", "back.jsonl")
    assert "exists" in refused("push", "all.jsonl", "me/my-set", "--dry-run", "out")


def test_several_shards_are_one_dataset_in_order(
    tmp_path: Path, toy_records: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SHARD_BYTES", 3000)
    rows = toy_records(30)
    written = write_records("all.jsonl.gz", rows)
    said("push", "all.jsonl.gz", "me/x", "--dry-run", "out")
    assert len(list(Path("out/data").iterdir())) > 3
    assert list(read_records("out/data")) == rows
    said("pull", "out", "back.jsonl")
    assert fingerprint("back.jsonl") == written.fingerprint


def test_the_card_states_counts_biases_and_how_to_load(toy_records: Toy) -> None:
    rows = toy_records(40)
    rows[0].judgments[0].by = "anna@example.org"
    written = write_records("all.jsonl", rows)
    said("push", "all.jsonl", "me/my-set", "--license", "cc-by-4.0", "--dry-run", "out")
    _, front, body = Path("out/README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(front)
    assert head["license"] == "cc-by-4.0"
    assert head["size_categories"] == ["n<1K"]
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert datasets.DatasetInfo._from_yaml_dict(head["dataset_info"]).features == features()
    assert "| records | 40 |" in body
    assert written.fingerprint in body
    assert "the longer completion is preferred" in body
    assert 'load_dataset("me/my-set", split="train")' in body
    assert "alignkit data pull me/my-set my-set.jsonl" in body
    assert "personal data" in body.lower()
    assert "anna@example.org" not in body  # judges are counted, not named


def test_the_licence_is_stated_shared_or_said_to_differ() -> None:
    assert card_license("mit", Counter({"Apache-2.0": 3}))[0] == "mit"
    assert card_license(None, Counter({"Apache-2.0": 3}))[0] == "apache-2.0"
    name, sentence = card_license(None, Counter({"MIT": 3, "a`b\nc": 1, None: 2}))
    assert name == "other"
    assert "`MIT` (3 records), not stated (2 records), `a'b c` (1 records)" in sentence
    assert card_license(None, Counter({None: 2}))[0] == "unknown"


def test_a_saved_folder_is_read_and_records_say_where_they_are_from() -> None:
    saved("pairs", PAIRS)
    out = said("pull", "pairs", "records.jsonl")
    assert "pairs, split train, is trl" in out
    assert "250 rows read: 250 records in records.jsonl" in out
    records = list(read_records("records.jsonl"))
    assert [record.prompt[0].content for record in records] == [row["prompt"] for row in PAIRS]
    assert records[0].completions[0].content == "good 0"
    assert records[0].meta["source"] == "pairs"
    assert records[0].meta["split"] == "train"
    origin = json.loads(Path("records.jsonl.source").read_text())
    assert (origin["dataset"], origin["format"], origin["rows"]) == ("pairs", "trl", 250)
    datasets.DatasetDict(
        test=datasets.Dataset.from_list(PAIRS[:3]), extra=datasets.Dataset.from_list(PAIRS)
    ).save_to_disk("several")
    assert "name one split with --split; it has test, extra" in refused("pull", "several", "x.jsonl")
    assert 'there is no split "train"; it has' in refused("pull", "several", "x.jsonl", "--split", "train")
    assert "3 rows read" in said("pull", "several", "test.jsonl", "--split", "test", "--from", "trl")


def test_a_folder_of_data_files_with_a_card(tmp_path: Path) -> None:
    folder = Path("set")
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: odc-by\n---\n# A set\n")
    lines = [json.dumps(row | {"note": None, "tags": ["x"]}) for row in PAIRS[:4]]
    (folder / "train.jsonl").write_text("\n".join(lines))
    (folder / "test.jsonl").write_text(lines[0])
    out = said("pull", "set", "records.jsonl", "--from", "trl")
    assert "4 rows read: 4 records" in out
    assert "licence: odc-by" in out
    record = next(read_records("records.jsonl"))
    assert record.meta["license"] == "odc-by"
    assert record.meta["trl"]["columns"] == {"tags": ["x"]}
    assert "1 rows read" in said("pull", "set", "test.jsonl", "--split", "test")


def test_images_are_left_out_said_and_counted() -> None:
    picture = {"bytes": b"\x89PNG", "path": None}
    rows = [row | {"image": picture, "kind": k % 2} for k, row in enumerate(PAIRS[:5])]
    rows[1]["image"] = None
    saved("pairs", rows, image=datasets.Image(), kind=datasets.ClassLabel(names=["easy", "hard"]))
    out = said("pull", "pairs", "records.jsonl")
    assert "left out: the bytes of 4 values of image.bytes" in out
    kept = [record.meta["trl"]["columns"] for record in read_records("records.jsonl")]
    assert kept == [{"kind": "easy"}, {"kind": "hard"}, {"kind": "easy"}, {"kind": "hard"}, {"kind": "easy"}]
    nested = {"turns": [{"image": {"bytes": b"1", "path": "a.png"}}, {"text": "t"}]}
    left_out: Counter[str] = Counter()
    plain = hub._without_bytes(nested, "", left_out)
    assert plain == {"turns": [{"image": {"bytes": None, "path": "a.png"}}, {"text": "t"}]}
    assert left_out == {"turns[].image.bytes": 1}


def test_a_bad_row_names_its_dataset_and_row_or_is_set_aside() -> None:
    saved("pairs", [PAIRS[0], PAIRS[1] | {"rejected": None}, PAIRS[2]])
    sentence = refused("pull", "pairs", "records.jsonl", "--from", "trl")
    assert sentence.startswith("pairs, split train, row 2: ")
    out = said("pull", "pairs", "records.jsonl", "--from", "trl", "--on-error", "skip")
    assert "3 rows read: 2 records in records.jsonl, 1 set aside, with the reasons, in records.rej" in out
    entry = json.loads(Path("records.rejected.jsonl").read_text())
    assert entry["where"] == "pairs, split train, row 2"
    assert json.loads(entry["row"])["prompt"] == "q1"


def test_what_is_not_there_is_one_sentence() -> None:
    Path("rows.jsonl").write_text("{}")
    Path("empty").mkdir()
    saved("pairs", PAIRS[:1])
    assert "rows.jsonl is a file; `alignkit data convert" in refused("pull", "rows.jsonl", "x.jsonl")
    assert "there is no folder a/b/c either" in refused("pull", "a/b/c", "x.jsonl")
    assert "offline" in refused("pull", "nobody/nothing", "x.jsonl").lower()
    assert "doesn't contain any data files" in refused("pull", "empty", "x.jsonl")
    assert "--revision goes with" in refused("pull", "pairs", "x.jsonl", "--revision", "main")
    assert '--from: there is no format "tlr"; did you mean "trl"' in refused(
        "pull", "pairs", "x.jsonl", "--from", "tlr"
    )


def test_a_hub_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: HfApi(endpoint="http://127.0.0.1:9"))
    assert "nobody/nothing: the hub cannot be reached" in refused("pull", "nobody/nothing", "x.jsonl")


class FakeHub:
    """Stands in for huggingface_hub.HfApi; remembers what it was asked, knows one repository."""

    calls: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012

    def create_repo(self, repo_id: str, **given: Any) -> str:
        import httpx
        from huggingface_hub.errors import HfHubHTTPError

        self.calls.append(("create", {"repo_id": repo_id, **given}))
        if repo_id == "me/taken" and not given["exist_ok"]:
            request = httpx.Request("POST", "https://hub.example")
            raise HfHubHTTPError("409: you have it", response=httpx.Response(409, request=request))
        return f"https://hub.example/datasets/{repo_id}"

    def upload_folder(self, folder_path: Path, **given: Any) -> None:
        files = sorted(str(p.relative_to(folder_path)) for p in folder_path.rglob("*") if p.is_file())
        self.calls.append(("upload", {"files": files, **given}))


def test_push_uploads_the_dry_run_and_no_token_is_passed(
    toy_records: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "calls", [])
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    write_records("all.jsonl", toy_records(5))
    out = said("push", "all.jsonl", "me/new", "--private")
    assert "5 records in https://hub.example/datasets/me/new" in out
    (_, created), (_, uploaded) = FakeHub.calls
    assert created["private"] is True
    assert created["repo_type"] == uploaded["repo_type"] == "dataset"
    assert uploaded["files"] == ["README.md", "data/train-00000.parquet"]
    assert "hf_secret" not in out + repr(FakeHub.calls)
    assert "me/taken exists on the hub" in refused("push", "all.jsonl", "me/taken")
    said("push", "all.jsonl", "me/taken", "--overwrite")
    assert "repo_name" in refused("push", "all.jsonl", "a/b/c")


def test_push_without_a_hub_is_one_sentence(toy_records: Toy) -> None:
    write_records("all.jsonl", toy_records(2))
    assert "me/new: " in refused("push", "all.jsonl", "me/new")


@pytest.mark.parametrize("view", VIEWS)
def test_a_streamed_view_is_the_view(view: str, toy_records: Toy) -> None:
    write_records("a.jsonl", toy_records(20))
    write_records("b.parquet", assorted(toy_records))
    rows = list(VIEWS[view](read_records(["a.jsonl", "b.parquet"])))
    streamed = iterable_view(view, ["a.jsonl", "b.parquet"])
    assert isinstance(streamed, datasets.IterableDataset)
    assert list(streamed) == rows
    assert list(streamed) == rows  # as often as one likes: a trainer has epochs
    assert streamed.num_shards == 2
    assert list(streamed.shard(2, 0)) + list(streamed.shard(2, 1)) == rows


def test_a_streamed_view_takes_the_views_options(toy_records: Toy) -> None:
    write_records("a.jsonl", toy_records(20))
    write_records("b.jsonl", toy_records(20, seed=1))
    rows = list(VIEWS["pairs"](read_records("a.jsonl"), how="majority", margin=True))
    assert list(iterable_view("pairs", "a.jsonl", how="majority", margin=True)) == rows
    model = list(VIEWS["pairs"](read_records("a.jsonl"), how="model"))
    assert list(iterable_view("pairs", "a.jsonl", how="model")) == model
    with pytest.raises(UserError, match="2 files are streamed in parts"):
        iterable_view("pairs", ["a.jsonl", "b.jsonl"], how="model")
    with pytest.raises(UserError, match='no view "pair"; did you mean "pairs"'):
        iterable_view("pair", "a.jsonl")
    with pytest.raises(UserError, match="no such file"):
        iterable_view("pairs", "c.jsonl")


def test_a_streamed_view_holds_no_rows(tmp_path: Path) -> None:
    write_records("a.jsonl", (Record([Message("user", f"{n} " + "word " * 200)]) for n in range(6000)))
    list(itertools.islice(iterable_view("prompts", "a.jsonl"), 3))  # imports
    tracemalloc.start()
    streamed = iterable_view("prompts", "a.jsonl")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    assert sum(1 for _ in streamed) == 6000
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert highest < 4_000_000  # 6,000 rows are 6 MB of text, and more as objects
