"""UltraFeedback, Argilla and Label Studio: what comes in goes out again, and every judge is heard."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_strategies import load, maybe, metas, names, records, texts

from alignment.data.files import read_records, write_records
from alignment.data.formats import FORMATS, argilla, foreign, label_studio, ultrafeedback
from alignment.data.formats.annotation import choose, find_fields, mentioned_completion, named_completion
from alignment.data.records import Comparison, Completion, Judgment, Message, Record, Source, check_record
from alignment.data.views import pairs_view
from alignment.errors import UserError

SAMPLES = Path(__file__).parent / "samples"
FILES: list[tuple[ModuleType, str]] = [
    (ultrafeedback, "ultrafeedback.jsonl"),
    (argilla, "argilla.jsonl"),
    (label_studio, "label_studio.json"),
]
MODULES = [module for module, _ in FILES]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(("module", "file"), FILES)
def test_a_sample_comes_back_row_by_row(module: ModuleType, file: str, tmp_path: Path) -> None:
    rows = load(SAMPLES / file)
    written = write_records(tmp_path / "native.jsonl", module.read(SAMPLES / file))
    assert written.rows == len(rows)
    assert module.write(read_records(tmp_path / "native.jsonl"), tmp_path / "out.json") == Counter()
    for got, expected in zip(load(tmp_path / "out.json"), rows, strict=True):
        assert got == expected


@pytest.mark.parametrize(("module", "file"), FILES)
def test_only_its_own_rows_are_recognised(module: ModuleType, file: str) -> None:
    for other, other_file in FILES:
        for row in load(SAMPLES / other_file):
            assert (module.recognise(row) is not None) == (other is module), row
    for row in (
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"instruction": "a", "input": "", "output": "b"},
        {"id": "x", "prompt": [{"role": "user", "content": "a"}], "completions": [{"content": "b"}]},
        {"conversation_a": [], "conversation_b": [], "winner": "tie"},
        {},
    ):
        assert module.recognise(row) is None


def sample(module: ModuleType, index: int) -> Record:
    row = load(SAMPLES / dict(FILES)[module])[index]
    return module.decode(json.dumps(row).encode(), "here")


def test_ultrafeedback_ratings_and_the_order_of_the_overall_score() -> None:
    record = sample(ultrafeedback, 0)
    (judgment,) = record.judgments
    assert judgment.by == "gpt-4"
    assert judgment.ratings is not None
    assert judgment.ratings["honesty"] == [None, 2.0]
    assert judgment.ratings["overall_score"] == [8.0, 2.5]
    assert judgment.ranks == [1, 2]
    assert record.completions[0].source == Source(
        "model",
        "small-a",
        {"principle": "helpfulness", "custom_system_prompt": "You are a helpful assistant."},
    )
    assert record.meta["source"] == "evol_instruct"
    tie = sample(ultrafeedback, 1)
    assert tie.judgments[0].ranks == [1, 1, None]
    assert tie.completions[0].content == ""
    twice = sample(ultrafeedback, 3)
    assert [judgment.ratings["helpfulness"] for judgment in twice.judgments if judgment.ratings] == [
        [2.0, 4.0],
        [3.0, None],
    ]


def test_binarized_ultrafeedback_is_a_pair_of_an_anonymous_judge() -> None:
    record = sample(ultrafeedback, 6)
    assert record.judgments == [Judgment(ranks=[1, 2], ratings={"score": [8.5, 1.0]})]
    assert [message.content for message in record.prompt] == ["What is a mole?"]
    longer = sample(ultrafeedback, 7)
    assert len(longer.prompt) == 3
    models = sample(ultrafeedback, 8)
    assert [c.source.name for c in models.completions if c.source] == ["small-a", "big-b"]


def test_a_changed_rating_is_written_with_its_rationale() -> None:
    record = sample(ultrafeedback, 0)
    assert record.judgments[0].ratings is not None
    record.judgments[0].ratings["honesty"] = [5.0, 2.0]
    (row,) = ultrafeedback.rows(record)
    entry = row["completions"][0]["annotations"]["honesty"]
    assert entry == {"Rating": "5", "Rationale": "Nothing to be unsure of."}
    assert row["correct_answers"] == ["None"]


def test_argilla_hears_each_annotator_and_no_draft() -> None:
    first = sample(argilla, 0)
    assert first.id == "r-1"
    assert first.meta["topic"] == "plants"
    assert [(j.by, j.ranks, j.rationale) for j in first.judgments] == [
        ("ann", [1, 2], "Granite is a rock."),
        ("bob", [1, 1], None),
    ]
    draft = sample(argilla, 2)
    assert [(j.by, j.ranks) for j in draft.judgments] == [("cy", [2, 1])]
    assert [entry["rest"]["status"] for entry in draft.meta["argilla"]["unvoted"]] == ["draft"]
    discarded = sample(argilla, 4)
    assert [(j.by, j.ranks) for j in discarded.judgments] == [("u1", [1, 2, 2]), (None, None)]
    assert discarded.judgments[0].ratings == {"rating": [5.0, None, 1.0]}
    assert discarded.judgments[1].comparisons == [Comparison(2, 0), Comparison(2, 1)]
    assert discarded.prompt == [Message("user", "Largest planet?\n\nOf our sun.")]
    labels = sample(argilla, 5)
    assert [(j.ranks, j.all_bad) for j in labels.judgments] == [([2, 1], None), ([1, 1], None), (None, True)]


def test_an_argilla_correction_is_a_reply_to_imitate() -> None:
    record = sample(argilla, 3)
    assert [completion.text for completion in record.completions] == ["Well.", "Well, and you?"]
    assert record.demonstrations == [1]
    assert record.completions[1].source == Source("human", "bob")
    assert record.judgments[0].labels == [True, None]
    assert record.judgments[1].meta["argilla"]["answers"]["tags"] == ["short", "rude"]


def test_label_studio_hears_each_annotation_that_was_not_cancelled() -> None:
    first = sample(label_studio, 0)
    assert first.id == "1"
    assert [(j.by, j.ranks, j.seconds, j.rationale) for j in first.judgments] == [
        ("3", [1, 2], 4.288, None),
        ("four@example.org", [2, 1], None, "I like mountains."),
    ]
    assert first.judgments[0].at == "2024-02-01T09:00:00.000000Z"
    cancelled = sample(label_studio, 2)
    assert [(j.by, j.ranks) for j in cancelled.judgments] == [("5", [1, 1])]
    assert len(cancelled.meta["label_studio"]["unvoted"]) == 1


def test_label_studio_orders_buckets_and_several_comparisons() -> None:
    ranked = sample(label_studio, 3)
    assert [c.content for c in ranked.completions] == ["By wind.", "By rust.", ""]
    assert [(j.ranks, j.comparisons) for j in ranked.judgments] == [
        ([2, 1, 3], None),
        (None, [Comparison(1, 0)]),
        ([1, 1, 5], None),
    ]
    assert sample(label_studio, 5).judgments[0].ratings == {"fluency": [3.0, 5.0]}
    assert sample(label_studio, 8).judgments[0].comparisons == [Comparison(1, 0), Comparison(1, 2)]
    two_controls = sample(label_studio, 9).judgments
    assert [(j.by, j.ranks, j.all_bad) for j in two_controls] == [
        ("2", [1, 2], None),
        ("2", [2, 1], None),
        (None, None, True),
    ]
    written = sample(label_studio, 6)
    assert [written.completions[index].text for index in written.demonstrations or ()] == [
        "It fell,\nand fell."
    ]
    assert [message.role for message in sample(label_studio, 7).prompt] == ["user", "assistant", "user"]
    for flat, ranks in ((10, [2, 1]), (11, [1, 2])):
        assert sample(label_studio, flat).judgments[0].ranks == ranks


@pytest.mark.parametrize("module", [argilla, label_studio])
def test_a_changed_judgment_is_written_and_the_rest_stays(module: ModuleType) -> None:
    record = sample(module, 0)
    record.judgments[0].ranks = [2, 1]
    (row,) = module.rows(record)
    again = module.decode(json.dumps(row).encode(), "again")
    assert [judgment.ranks for judgment in again.judgments] == [[2, 1], record.judgments[1].ranks]
    assert again.completions == record.completions
    extra = "_server_id" if module is argilla else "inner_id"
    assert row[extra] == load(SAMPLES / dict(FILES)[module])[0][extra]


def test_pairs_come_out_of_every_sample() -> None:
    counts = {module: len(list(pairs_view(list(module.read(SAMPLES / file))))) for module, file in FILES}
    assert all(count >= 5 for count in counts.values()), counts


BROKEN: dict[tuple[ModuleType, str], str] = {
    (ultrafeedback, '{"instruction": "a"}'): 'neither "completions" nor "chosen"',
    (ultrafeedback, '{"instrucion": "a", "completions": []}'): 'did you mean "instrucion"',
    (ultrafeedback, '{"instruction": "a", "completions": [{"respose": "b"}]}'): 'did you mean "respose"',
    (
        ultrafeedback,
        '{"instruction": "a", "completions": [{"response": "b", "annotations": {"x": {"Rating": "4/5"}}}]}',
    ): "completions[0], x: the rating '4/5' is neither",
    (ultrafeedback, '{"chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 2}'): '"prompt"',
    (ultrafeedback, '{"instruction": "a", "instruction": "b", "completions": []}'): "twice",
    (argilla, '{"text": "a"}'): "neither",
    (argilla, '{"fields": {"a": "x", "b": "y"}, "responses": {}}'): "which field is the prompt",
    (argilla, '{"fields": {"prompt": "x"}, "responses": [3]}'): '"responses" must be',
    (argilla, '{"fields": {"prompt": "x"}, "responses": {"q": 3}}'): "responses.q must be a list",
    (
        argilla,
        '{"fields": {"prompt": "x", "response1": "a", "response2": "b"}, "responses": '
        '{"q": [{"value": [{"value": "other", "rank": 1}], "user_id": "u", "status": "submitted"}]}}',
    ): 'names "other", which is none of the replies',
    (label_studio, '{"text": "a"}'): 'neither a task with "data"',
    (label_studio, '{"data": {"a": "x", "b": "y"}, "annotations": []}'): "which field is the prompt",
    (
        label_studio,
        '{"data": {"prompt": "p", "answer1": "x", "answer2": "y"}, "annotations": [{"result": '
        '[{"type": "pairwise", "value": {"selected": "up"}}]}]}',
    ): "\"selected\" is 'up'",
    (
        label_studio,
        '{"data": {"prompt": "p", "items": [{"id": "a", "body": "x"}]}, "annotations": [{"result": '
        '[{"type": "ranker", "value": {"ranker": ["b"]}}]}]}',
    ): 'names "b", which is none of the replies',
    (ultrafeedback, '{"instruction": 1, "completions": []}'): '"instruction" must be a text',
    (
        ultrafeedback,
        '{"chosen": "a", "rejected": [], "score_chosen": 1, "score_rejected": 2}',
    ): "chosen must be",
    (
        argilla,
        '{"fields": {"prompt": "x"}, "responses": {"q": [{"value": 1, "user_id": 1, "status": []}]}}',
    ): '"status"',
    (argilla, '{"prompt": "x", "q.responses": 3, "q.responses.users": ["u"]}'): "must be lists",
    (label_studio, '{"data": {"prompt": "p"}, "annotations": 1}'): '"annotations" must be a list',
    (
        label_studio,
        '{"data": {"prompt": [{"role": "x", "content": "p"}]}, "annotations": []}',
    ): "role: invalid",
    (label_studio, '{"data": {"prompt": "p"}, "annotations": [7]}'): '"annotations" must be an object',
}


@pytest.mark.parametrize(("module", "line"), BROKEN)
def test_a_broken_row_is_named(module: ModuleType, line: str) -> None:
    with pytest.raises(UserError) as error:
        module.decode(line.encode(), "in.json, row 2")
    assert str(error.value).startswith("in.json, row 2")
    assert BROKEN[module, line] in str(error.value)


ANSWERS = {
    ("answer_b", "winner"): ([2, 1], None),
    ("B", "which is better"): ([2, 1], None),
    ("Response A is better", "preference"): ([1, 2], None),
    ("left", "choice"): ([1, 2], None),
    ("Tie", "preference"): ([1, 1], None),
    ("both bad", "preference"): (None, True),
    ("A > B", "preference"): (None, None),
    ("B is worse", "preference"): (None, None),
    ("yes", "is it polite"): (None, None),
    ("a", "language"): (None, None),
}


@pytest.mark.parametrize(("value", "question"), ANSWERS)
def test_a_choice_is_read_only_where_it_is_plain(value: str, question: str) -> None:
    judgment = Judgment()
    understood = choose(judgment, question, value, ["answer_a", "answer_b"])
    assert (judgment.ranks, judgment.all_bad) == ANSWERS[value, question]
    assert understood == (ANSWERS[value, question] != (None, None))


def test_names_of_fields() -> None:
    def found(*names: str, named: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
        return tuple(find_fields(dict.fromkeys(names, "x"), set(named), "here"))  # type: ignore[return-value]

    assert found("prompt", "response") == (["prompt"], ["response"])
    assert found("text", "reply-1", "reply-2") == (["text"], ["reply-1", "reply-2"])
    assert found("question", "gpt", "llama", named=("gpt", "llama")) == (["question"], ["gpt", "llama"])
    assert found("system_prompt", "user_input", "chosen", "rejected")[1] == ["chosen", "rejected"]
    assert found("prompt", "model_a", "answer_a", "answer_b") == (["prompt"], ["answer_a", "answer_b"])
    assert found("text1", "text2") == ([], ["text1", "text2"])
    assert named_completion("Response 2", ["response_1", "response_2"]) == 1
    assert named_completion("2", ["generation-1", "generation-2"]) == 1
    assert mentioned_completion("rating_2", ["response-1", "response-2"]) == 1
    assert mentioned_completion("quality", ["response-1", "response-2"]) is None


plain_prompts = texts.map(lambda text: [Message("user", text)])


@st.composite
def judged(draw: st.DrawFn) -> Record:
    """A record with what all annotation tools hold: plain replies, several judges with ranks and reasons."""
    count = draw(st.integers(2, 4))
    offered = [Completion(content=draw(texts)) for _ in range(count)]
    judgments = [
        Judgment(
            by=draw(maybe(names)),
            ranks=draw(st.lists(maybe(st.integers(1, 4)), min_size=count, max_size=count).filter(any)),
            rationale=draw(maybe(texts)),
        )
        for _ in range(draw(st.integers(0, 2)))
    ]
    return Record(draw(plain_prompts), id=draw(maybe(names)), completions=offered, judgments=judgments)


@pytest.mark.parametrize("module", [argilla, label_studio])
@QUICK
@given(data=st.data())
def test_what_the_tools_hold_comes_back(module: ModuleType, data: st.DataObject) -> None:
    record = data.draw(judged())
    if module is argilla:  # its responses are grouped by user: two anonymous judges are two responses of one
        record.judgments = (
            record.judgments[:1] if len({j.by for j in record.judgments}) < 2 else record.judgments
        )
    (row,) = module.rows(record)
    again = module.decode(json.dumps(row).encode(), "again")
    check_record(again, "again")
    assert foreign.losses(record, [again]) == Counter()
    assert msgspec.structs.replace(again, id=record.id) == record


@QUICK
@given(
    prompt=plain_prompts,
    replies=st.lists(texts, min_size=1, max_size=3),
    data=st.data(),
    source=maybe(texts),
)
def test_what_ultrafeedback_holds_comes_back(
    prompt: list[Message], replies: list[str], data: st.DataObject, source: str | None
) -> None:
    rating = maybe(st.sampled_from([1.0, 2.0, 3.5, 5.0]))
    column = st.lists(rating, min_size=len(replies), max_size=len(replies))
    ratings: dict[str, Any] = {"helpfulness": data.draw(column), "honesty": data.draw(column)}
    record = Record(
        prompt,
        completions=[
            Completion(content=text, source=Source("model", f"m{k}")) for k, text in enumerate(replies)
        ],
        judgments=[Judgment(by="gpt-4", ratings=ratings)],
        meta={} if source is None else {"source": source},
    )
    (row,) = ultrafeedback.rows(record)
    again = ultrafeedback.decode(json.dumps(row).encode(), "again")
    assert msgspec.structs.replace(again, id=record.id) == record


@pytest.mark.parametrize("module", MODULES)
@QUICK
@given(record=records())
def test_any_record_is_written_or_its_losses_are_counted(module: ModuleType, record: Record) -> None:
    rows = module.rows(record)
    again = [module.decode(json.dumps(row).encode(), "written") for row in rows]
    for other in again:
        check_record(other, "written")
    lost = foreign.losses(record, again)
    if not rows:
        assert lost["prompt"] == 1
    elif not lost:
        assert len(again[0].judgments) == len(record.judgments)


@pytest.mark.parametrize(("module", "file"), FILES)
@QUICK
@given(index=st.integers(0, 11), extra=metas, data=st.data())
def test_further_keys_come_back(
    module: ModuleType, file: str, index: int, extra: dict[str, Any], data: st.DataObject
) -> None:
    rows = load(SAMPLES / file)
    row = {f"x-{key}": value for key, value in extra.items() if not isinstance(value, str)} | rows[
        index % len(rows)
    ]
    record = module.decode(json.dumps(row).encode(), "here")
    assert module.rows(record) == [row]


def test_the_formats_are_registered_before_the_general_ones() -> None:
    order = list(FORMATS)
    for name, module in (
        ("ultrafeedback", ultrafeedback),
        ("argilla", argilla),
        ("label-studio", label_studio),
    ):
        assert FORMATS[name] is module
        assert order.index(name) < order.index("trl")
        assert order.index(name) < order.index("alpaca")
