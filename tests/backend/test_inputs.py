"""The `data:` section: plain paths, mixtures by weight, what is held out of them and written down."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alignment.backend.config import DataSection, RunConfig, load_config
from alignment.backend.inputs import stage_rows
from alignment.data.files import write_records
from alignment.data.records import Completion, Judgment, Message, Record
from alignment.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a.jsonl of 100 prompts and b.jsonl of 40, each with one pair."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("a", 100), ("b", 40)):
        pair = [Completion(content="good"), Completion(content="bad")]
        write_records(
            f"{name}.jsonl",
            [
                Record([Message("user", f"{name} {k}")], completions=pair, judgments=[Judgment(ranks=[1, 2])])
                for k in range(count)
            ],
        )
    return tmp_path


def section(train: list[Any], **options: Any) -> DataSection:
    return DataSection.model_validate({"train": train, **options})


def asked(rows: list[dict[str, Any]]) -> list[str]:
    return [row["prompt"][-1]["content"] for row in rows]


def shares(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(text[0] for text in asked(rows))


def weighted(**options: Any) -> list[Any]:
    return [{"path": "a.jsonl", "weight": 0.75}, {"path": "b.jsonl", "weight": 0.25, **options}]


def test_plain_paths_are_all_rows_in_order() -> None:
    found = stage_rows(section(["a.jsonl", "b.jsonl"], max_rows=120), "prompts")
    assert asked(found.train) == [f"a {k}" for k in range(100)] + [f"b {k}" for k in range(20)]
    assert (found.sources, found.lineage()) == ([], {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("alpaca.json", '[{"instruction": "add", "input": "", "output": "b"}]'),
        ("gsm.jsonl", '{"question": "1 + 1", "answer": "2"}'),
    ],
)
def test_a_file_of_another_format_is_told_with_the_command_that_converts_it(
    here: Path, name: str, text: str
) -> None:
    (here / name).write_text(text)
    with pytest.raises(UserError, match=f"alignkit data convert {name} RECORDS.jsonl"):
        stage_rows(section([name]), "messages")
    with pytest.raises(UserError, match="no such file"):
        stage_rows(section(["nope.jsonl"]), "messages")


def test_weights_are_shares_of_the_rows_until_a_source_runs_out() -> None:
    found = stage_rows(section(weighted()), "prompts")
    assert shares(found.train) == {"a": 100, "b": 33}
    assert len(set(asked(found.train))) == 133
    assert found.left_out == {"not drawn for the mixture": 7}
    assert found.lineage()["sources"] == [
        {"path": "a.jsonl", "weight": 0.75, "rows": 100, "taken": 100},
        {"path": "b.jsonl", "weight": 0.25, "rows": 40, "taken": 33},
    ]
    for start in range(0, 120, 12):  # every stretch has the shares
        assert abs(shares(found.train[start : start + 12])["a"] - 9) <= 1


def test_a_mixture_is_told_by_its_seed_and_not_by_the_order_of_the_rows(here: Path) -> None:
    one = stage_rows(section(weighted(), max_rows=60), "pairs")
    assert shares(one.train) == {"a": 45, "b": 15}
    assert stage_rows(section(weighted(), max_rows=60), "pairs").train == one.train
    other = stage_rows(section(weighted(), max_rows=60, seed=1), "pairs")
    assert set(asked(other.train)) != set(asked(one.train))
    lines = (here / "a.jsonl").read_text().splitlines()
    (here / "a.jsonl").write_text("\n".join(reversed(lines)))
    around = stage_rows(section(weighted(), max_rows=60), "pairs")
    assert set(asked(around.train)) == set(asked(one.train))
    assert around.train != one.train


def test_a_source_that_runs_out_repeats_only_when_told_to() -> None:
    with pytest.raises(
        UserError, match=r"a\.jsonl has 100 rows, and its share of 200 is 150: take at most 133"
    ):
        stage_rows(section(weighted(), max_rows=200), "prompts")
    with pytest.raises(UserError, match=r"a\.jsonl has 100 rows"):
        stage_rows(section(weighted(repeat=True), max_rows=400), "prompts")
    found = stage_rows(section([{"path": "a.jsonl", "weight": 1}, *weighted(repeat=True)[1:]]), "prompts")
    assert shares(found.train) == {"a": 100, "b": 25}
    found = stage_rows(
        section([{"path": "a.jsonl", "weight": 1}, {"path": "b.jsonl", "weight": 0.9, "repeat": True}]),
        "prompts",
    )
    often = Counter(text for text in asked(found.train) if text[0] == "b")
    assert (sum(often.values()), set(often.values())) == (90, {2, 3})
    both = [{"path": f"{name}.jsonl", "weight": 1, "repeat": True} for name in "ab"]
    with pytest.raises(UserError, match="say how many rows"):
        stage_rows(section(both), "prompts")


def test_a_source_can_be_capped_without_weights() -> None:
    found = stage_rows(section(["b.jsonl", {"path": "a.jsonl", "max_rows": 20}]), "prompts")
    assert shares(found.train) == {"a": 20, "b": 40}
    fewer = stage_rows(section(["b.jsonl", {"path": "a.jsonl", "max_rows": 10}]), "prompts")
    assert set(asked(fewer.train)) <= set(asked(found.train))
    assert (
        len(stage_rows(section([{"path": "a.jsonl", "max_rows": 500}], max_rows=1000), "prompts").train)
        == 100
    )


def test_what_is_held_out_has_the_weights_too_and_no_prompt_is_on_both_sides() -> None:
    found = stage_rows(section(weighted(), validation_fraction=0.3), "prompts")
    assert not set(asked(found.train)) & set(asked(found.validation))
    kept = shares(found.validation)
    assert kept["b"] > 3
    assert kept["a"] == pytest.approx(3 * kept["b"], abs=2)


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ("[a.jsonl, {path: b.jsonl, weight: 1}]", "a.jsonl has no weight; give every source one, or none"),
        ("[{path: b.jsonl, weight: 0}]", "data.train.0.weight must be greater than 0"),
        ("[{path: b.jsonl, wieght: 1}]", "unknown key 'data.train.0.wieght'; did you mean 'weight'?"),
        ("[{weight: 1}]", "the key 'data.train.0.path' is missing"),
        ("[{path: b.jsonl, repeat: true}]", "b.jsonl has repeat but no weight"),
        ("[3]", "data.train.0 must be a valid string"),
    ],
)
def test_a_wrong_source_is_named(here: Path, train: str, words: str) -> None:
    class Config(RunConfig):
        data: DataSection

    (here / "c.yaml").write_text(f"stage: sft\nrun: {{dir: r}}\ndata:\n  train: {train}\n")
    with pytest.raises(UserError) as caught:
        load_config(Config, "c.yaml")
    assert words in str(caught.value)
    assert "c.yaml, line 4" in str(caught.value) or "c.yaml, line 3" in str(caught.value)
