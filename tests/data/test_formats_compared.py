"""AlpacaEval, Arena, PandaLM, LLMBar, sets of prompts: what comes in goes out again; every vote counts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_strategies import json_values, load, records, texts, there_and_back

from alignment.data.files import Rejects, read_records, write_records
from alignment.data.formats import FORMATS
from alignment.data.formats.foreign import losses
from alignment.data.pairs import judgment_votes
from alignment.data.quality import statistics
from alignment.data.records import (
    Comparison,
    Completion,
    Judgment,
    Message,
    Record,
    Source,
    check_record,
)
from alignment.errors import UserError

SAMPLES = Path(__file__).parent / "samples"
OURS = ("alpaca-eval", "arena", "pandalm", "llmbar", "mt-bench", "self-instruct")
FILES = [path for path in sorted(SAMPLES.iterdir()) if path.name.startswith(OURS)]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def format_of(path: Path) -> str:
    return next(name for name in OURS if path.name.startswith(name))


def sample(name: str) -> list[Record]:
    path = SAMPLES / name
    return list(FORMATS[format_of(path)].read(path))


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.suffix != ".csv"], ids=lambda path: path.name
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl.gz"])
def test_a_sample_comes_back_row_by_row(path: Path, suffix: str, tmp_path: Path) -> None:
    module = FORMATS[format_of(path)]
    rows = load(path)
    written = write_records(tmp_path / "native.jsonl", module.read(path))
    assert written.rows == len(rows)
    assert module.write(read_records(tmp_path / "native.jsonl"), tmp_path / f"out{suffix}") == Counter()
    assert load(tmp_path / f"out{suffix}") == rows


def test_a_table_comes_back_byte_by_byte(tmp_path: Path) -> None:
    path = SAMPLES / "arena-kaggle.csv"
    write_records(tmp_path / "native.jsonl", FORMATS["arena"].read(path))
    assert FORMATS["arena"].write(read_records(tmp_path / "native.jsonl"), tmp_path / "out.csv") == Counter()
    header, first = (tmp_path / "out.csv").read_text().split("\n")[:2]
    assert sorted(header.split(",")) == sorted(path.read_text().split("\n")[0].split(","))
    assert "north-7b" in first
    again = list(FORMATS["arena"].read(tmp_path / "out.csv"))
    assert again == sample("arena-kaggle.csv")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_row_is_recognised_by_its_own_format_alone(path: Path) -> None:
    own = format_of(path)
    rows = load(path) if path.suffix != ".csv" else []
    for row in rows:
        claimed = [name for name in OURS if FORMATS[name].recognise(row)]
        assert claimed == [own]
        assert all(FORMATS[own].recognise({key: row[key]}) is None for key in row)


def votes(record: Record) -> list[list[float]]:
    return [[vote.p for vote in judgment_votes(judgment)] for judgment in record.judgments]


def test_alpaca_eval_preferences_are_probabilities() -> None:
    found = sample("alpaca-eval-annotations.json")
    got = [votes(record) for record in found]
    assert got[:4] == [[[0.0]], [[1.0]], [[0.5]], [[0.5]]]
    assert got[4] == [[2 - 1.0384615384615385]]
    assert got[8] == [[]]  # the annotator failed: a judgment, but no order
    assert got[10] == []  # nobody judged
    assert found[0].judgments[0].by == "judge_one"
    assert [completion.source for completion in found[0].completions] == [
        Source("model", "model_red"),
        Source("model", "model_blue"),
    ]
    assert found[9].prompt == [Message("user", "Sort these words.\n\npear, apple")]
    outputs = sample("alpaca-eval-outputs.json")
    assert [record.judgments for record in outputs] == [[]] * 5
    assert [record.demonstrations for record in outputs] == [None] * 5


def test_arena_votes() -> None:
    found = sample("arena.jsonl")
    assert [record.judgments[0].ranks if record.judgments else None for record in found] == [
        [1, 2], [2, 1], [1, 1], None, None, [2, 1], [1, 2], [1, 2], [2, 1], None, [1, 2],
    ]  # fmt: skip
    assert [index for index, record in enumerate(found) if any(j.all_bad for j in record.judgments)] == [3, 4]
    assert found[0].judgments[0].at == "2023-07-22T04:26:40.250000Z"
    assert found[8].judgments[0].by == "ab12"
    assert [len(completion.turns()) for completion in found[1].completions] == [3, 3]
    assert [completion.text for completion in found[6].completions] == ["Knock knock.", "No."]  # turn 1 of 2
    assert found[5].prompt[0].parts is not None
    assert found[4].completions[0].content == "Because."
    assert found[10].completions[1].content == ""  # a side without a reply is a row all the same


def test_arena_tables_of_texts_and_lists() -> None:
    found = sample("arena-kaggle.csv")
    assert [votes(record) for record in found] == [[[1.0]], [[0.0]], [[0.5]], [[0.5]], [[0.0]]]
    assert [len(completion.turns()) for completion in found[1].completions] == [3, 3]
    assert found[2].completions[0].content == "x/y"
    assert found[4].completions[0].content == "\ufffd"  # half a surrogate pair is no text
    assert [record.completions[1].content for record in sample("arena-texts.jsonl")] == [
        "Never.",
        "b",
        "same",
    ]


def test_pandalm_annotators() -> None:
    found = sample("pandalm.json")
    assert [[judgment.by for judgment in record.judgments] for record in found] == [
        ["annotator1", "annotator2", "annotator3"]
    ] * 8
    assert votes(found[0]) == [[1.0], [1.0], [0.0]]
    assert votes(found[5]) == [[0.0], [], []]
    assert found[1].completions[0].content == "True"  # a boolean where a reply should be
    assert found[6].completions[0].source is None
    assert votes(sample("pandalm-labels.json")[1]) == [[0.5], [1.0], [0.0]]


def test_llmbar_labels() -> None:
    assert [votes(record)[0] for record in sample("llmbar.json")] == [
        [1.0],
        [0.0],
        [1.0],
        [0.0],
        [1.0],
        [0.0],
    ]


def test_sets_of_prompts() -> None:
    questions = sample("mt-bench.jsonl")
    assert questions[1].id == "mt-bench-82"
    assert questions[1].prompt == [Message("user", "What is 6 times 7?")]
    assert questions[1].meta["mt_bench"]["turns"][1] == "And times 2?"
    tasks = sample("self-instruct.jsonl")
    assert [record.id for record in tasks] == ["task_0", "task_1", "seed_2", "seed_3", None]
    assert [record.demonstrations for record in tasks] == [[0], [0], [0], None, [0]]
    assert tasks[0].prompt[0].content == "Make it polite.\n\nSend me the file."


names = st.none() | st.text("abc-9", min_size=1, max_size=5)


@st.composite
def compared(draw: st.DrawFn, judgments: st.SearchStrategy[list[Judgment]]) -> Record:
    """Two plain replies to one user's turn."""
    sources = [Source("model", name) if name else None for name in draw(st.tuples(names, names))]
    replies = [Completion(content=draw(texts), source=source) for source in sources]
    return Record([Message("user", draw(texts))], completions=replies, judgments=draw(judgments))


ranks = st.sampled_from([[1, 2], [2, 1], [1, 1], None])
strict = st.sampled_from([[1, 2], [2, 1]])
graded = st.builds(lambda k: 1 - k / 2**20, st.integers(0, 2**20))
RECORDS: dict[str, st.SearchStrategy[Record]] = {
    "alpaca-eval": compared(
        st.builds(lambda by, p: [Judgment(by=by, comparisons=[Comparison(0, 1, p)])], names, graded)
    ),
    "arena": compared(
        st.builds(lambda by, given: [Judgment(by=by, ranks=given)], names, ranks)
        | st.builds(lambda by: [Judgment(by=by, all_bad=True, at="2024-02-03T04:05:06.789000Z")], names)
    ),
    "pandalm": compared(
        st.lists(ranks, min_size=1, max_size=4).map(
            lambda given: [Judgment(by=f"annotator{n}", ranks=one) for n, one in enumerate(given, 1)]
        )
    ),
    "llmbar": compared(st.builds(lambda given: [Judgment(ranks=given)], strict)),
}


@pytest.mark.parametrize("name", RECORDS)
@QUICK
@given(data=st.data())
def test_what_a_format_holds_comes_back(name: str, data: st.DataObject) -> None:
    record = data.draw(RECORDS[name])
    if name == "llmbar" or (name == "pandalm" and None in [c.source for c in record.completions]):
        for completion in record.completions:  # LLMBar names no models, PandaLM both or none
            completion.source = None
    again = [FORMATS[name].decode(json.dumps(row).encode(), "here") for row in FORMATS[name].rows(record)]
    assert len(again) == 1
    assert losses(record, again) == Counter()
    assert again[0].completions == record.completions
    # A judgment that says nothing, by nobody, leaves no trace in a row.
    told = [judgment for judgment in record.judgments if judgment != Judgment()]
    assert again[0].judgments == told


@QUICK
@given(
    st.fixed_dictionaries(
        {
            "instruction": texts,
            "output_1": texts,
            "output_2": texts,
            "preference": st.none() | st.just(0) | st.floats(1, 2) | st.sampled_from(["1", "2.0", ""]),
        },
        optional={
            "input": texts,
            "generator_1": texts,
            "annotator": texts,
            "further": json_values,
            "columns": json_values,
        },
    )
)
def test_alpaca_eval_round_trip_of_any_text(row: dict[str, Any]) -> None:
    assert there_and_back("alpaca-eval", [row]) == [row]


turns = st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=3)
winners = st.sampled_from(["model_a", "model_b", "tie", "tie (bothbad)", "both_bad", "Both_Bad", None, ""])


@QUICK
@given(turns, winners, st.booleans(), st.none() | st.integers(0, 4), json_values)
def test_arena_round_trip_of_any_text(
    said: list[tuple[str, str, str]], winner: str | None, as_text: bool, turn: int | None, further: Any
) -> None:
    row: dict[str, Any] = {"winner": winner, "turn": turn, "model_a": "x", "further": further}
    for side in (1, 2):
        talk = [
            {"role": role, "content": content}
            for one in said
            for role, content in (("user", one[0]), ("assistant", one[side]))
        ]
        row[f"conversation_{'ab'[side - 1]}"] = json.dumps(talk) if as_text else talk
    assert there_and_back("arena", [row]) == [row]


@QUICK
@given(turns, st.sampled_from([(1, 0, 0), (0, 1, 0), (0, 0, 1), ("0", "1", "0"), (0.0, 0.0, 1.0)]))
def test_kaggle_round_trip_of_any_text(said: list[tuple[str, str, str]], flags: tuple[Any, ...]) -> None:
    row = {
        key: json.dumps([one[k] for one in said])
        for k, key in enumerate(("prompt", "response_a", "response_b"))
    }
    row |= dict(zip(("winner_model_a", "winner_model_b", "winner_tie"), flags, strict=True))
    assert there_and_back("arena", [row]) == [row]


@pytest.mark.parametrize("name", OURS)
@settings(max_examples=60, deadline=None)
@given(row=records())
def test_any_record_is_written_or_its_losses_are_counted(name: str, row: Record) -> None:
    again = [FORMATS[name].decode(json.dumps(r).encode(), "written") for r in FORMATS[name].rows(row)]
    lost = losses(row, again)
    if not again:
        assert lost["prompt"] == 1
    for record in again:
        check_record(record, "written")
    kept = [reply.turns() for record in again for reply in record.completions]
    assert lost["completion"] or all(reply.turns() in kept for reply in row.completions)
    assert lost["judgment.by"] or {j.by for j in row.judgments} <= {None} | {
        judgment.by for record in again for judgment in record.judgments
    }


BROKEN = {
    ("alpaca-eval", '{"instruction": "a", "output_1": "b"}'): '"output_2" is missing',
    ("alpaca-eval", '{"instruction": "a", "output_1": "b", "output_2": "c", "preference": 2.1}'): "from 1",
    ("alpaca-eval", '{"instruction": "a", "output_1": "b", "output_2": "c", "preference": "x"}'): "a number",
    (
        "alpaca-eval",
        '{"instruction": "a", "output_1": "b", "output_2": "c", "preference": "nan"}',
    ): "a number",
    ("alpaca-eval", '{"instruction": "a", "output_1": ["b"], "output_2": "c"}'): "must be text",
    ("arena", '{"conversation_a": [], "winner": "model_a"}'): '"conversation_b" must be a list',
    ("arena", '{"prompt": "a", "response_a": "b", "response_b": "c", "winner": "model_c"}'): "model_c",
    ("arena", '{"prompt": "a", "response_a": "b", "winner": "tie"}'): '"response_b" is missing',
    (
        "arena",
        '{"prompt": "a", "response_a": "b", "response_b": "c", "winner_model_a": 1, "winner_tie": 1}',
    ): "exactly one",
    (
        "arena",
        '{"prompt": "[\\"a\\"]", "response_a": "[\\"b\\", \\"b\\"]", "response_b": "[]"}',
    ): "2 turns for 1",
    (
        "arena",
        '{"conversation_a": [{"role": "wizard", "content": "a"}], "conversation_b": []}',
    ): "wizard",
    ("pandalm", '{"instruction": "a", "response1": "b", "response2": "c", "annotator1": 3}'): "0 is a tie",
    ("pandalm", '{"instruction": "a", "response1": "b", "response2": "c"}'): "no judgment",
    ("pandalm", '{"instruction": "a", "response1": "b", "respons2": "c"}'): 'did you mean "respons2"',
    ("llmbar", '{"input": "a", "output_1": "b", "output_2": "c", "label": 0}'): "1 or 2",
    ("llmbar", '{"input": "a", "output_1": "b", "output_2": "c", "label": 1, "label": 2}'): "twice",
    ("mt-bench", '{"question_id": 1, "turns": []}'): "at least one",
    ("self-instruct", '{"instruction": "a", "instances": [{}, {}]}'): "2 instances",
    ("self-instruct", '{"instruction": "a", "instances": ["b"]}'): "list of objects",
}


@pytest.mark.parametrize(("name", "line"), BROKEN)
def test_a_broken_row_is_named_or_set_aside(name: str, line: str, tmp_path: Path) -> None:
    good = next(path for path in FILES if format_of(path) == name and path.suffix != ".csv")
    path = tmp_path / "in.jsonl"
    path.write_text(f"{json.dumps(load(good)[0])}\n{line}\n")
    with pytest.raises(UserError) as error:
        list(FORMATS[name].read(path))
    assert str(error.value).startswith(f"{path}, line 2: ")
    assert BROKEN[name, line] in str(error.value)
    rejects = Rejects(tmp_path / "a.rejected.jsonl")
    assert len(list(FORMATS[name].read(path, rejects))) == 1
    assert rejects.count == 1


def test_what_is_changed_does_not_come_back_from_what_was_kept() -> None:
    record = sample("pandalm.json")[1]
    record.completions[0].content = "No."
    (row,) = FORMATS["pandalm"].rows(record)
    assert row["response1"] == "No."
    assert row["motivation_app"] == "Notes"


@pytest.mark.parametrize(
    ("name", "file", "rows"),
    [
        ("pandalm", "human/pandalm_testset-v1.json", 999),
        ("alpaca-eval", "judge/alpaca_eval_gpt4_pairs.jsonl.gz", 13_000),
        ("mt-bench", "prompts/mt_bench_question.jsonl", 80),
        ("self-instruct", "prompts/self_instruct_user_oriented.jsonl", 252),
    ],
)
def test_real_files_come_back_row_by_row(
    shared_data: Path, tmp_path: Path, name: str, file: str, rows: int
) -> None:
    written = write_records(tmp_path / "native.jsonl", FORMATS[name].read(shared_data / file))
    assert written.rows == rows
    assert FORMATS[name].write(read_records(tmp_path / "native.jsonl"), tmp_path / "out.json") == Counter()
    assert load(tmp_path / "out.json") == load(shared_data / file)


def test_published_figures_come_out(shared_data: Path) -> None:
    panda = statistics(FORMATS["pandalm"].read(shared_data / "human/pandalm_testset-v1.json"))
    assert panda.agreement.n == 3 * 999
    assert panda.agreement.hits / panda.agreement.n == pytest.approx(0.920, abs=0.01)
    judged = statistics(FORMATS["alpaca-eval"].read(shared_data / "judge/alpaca_eval_gpt4_pairs.jsonl.gz"))
    assert judged.rows == judged.judgments == 13_000
    # Of all rows 84.8%; ties and equal lengths, 30 of them, can be no win.
    assert judged.longer_wins.hits / judged.rows == pytest.approx(0.848, abs=0.0005)
    assert judged.longer_wins.n == 12_970
