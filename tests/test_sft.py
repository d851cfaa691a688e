"""The SFT stage: what is supervised, what is refused, and what comes out."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment import sft
from alignment.backend import training
from alignment.backend.config import load_config
from alignment.backend.generation import GenerationSection, generate
from alignment.backend.models import load_policy, load_tokenizer
from alignment.backend.runs import Run
from alignment.data.files import write_records
from alignment.data.records import Completion, Message, Record
from alignment.errors import UserError

UNMARKED = (  # as SmolLM2's: ChatML with a default system turn and no {% generation %}
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TWO_TURNS = [
    Message("user", "Where is the cat?"),
    Message("assistant", "On the mat."),
    Message("user", "And the dog?"),
]

Start = Callable[..., dict[str, Any]]


@pytest.fixture
def start(tmp_path: Path, toy_model: str) -> Start:
    """Run the stage on records (or raise what it raises): start(records, override, …)."""

    def run(records: list[Record], *overrides: str, validation: list[Record] | None = None) -> dict[str, Any]:
        write_records(tmp_path / "train.jsonl", records, overwrite=True)
        data = {"train": [str(tmp_path / "train.jsonl")]}
        if validation:
            write_records(tmp_path / "validation.jsonl", validation, overwrite=True)
            data["validation"] = [str(tmp_path / "validation.jsonl")]
        trainer = {
            "max_steps": 2,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "learning_rate": 1e-3,
        }
        config = {
            "stage": "sft",
            "model": {"path": toy_model},
            "data": data,
            "trainer": trainer,
            "run": {"dir": str(tmp_path / "run")},
        }
        (tmp_path / "sft.yaml").write_text(json.dumps(config))
        return sft.run(load_config(sft.Config, tmp_path / "sft.yaml", overrides))

    return run


@pytest.fixture
def prepared(start: Start, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The trainer as the stage made it, before a step is trained."""

    def build(*args: Any, **kwargs: Any) -> Any:
        kept: list[Any] = []

        def keep(trainer: Any, run: Any) -> dict[str, Any]:
            kept.append(trainer)
            return {}

        monkeypatch.setattr(training, "run_trainer", keep)
        monkeypatch.setattr(Run, "finish", lambda self, metrics: metrics)
        start(*args, **kwargs)
        return kept[0]

    return build


def demonstration(text: str = "The hen ran.", prompt: str = "Tell me about the hen.") -> Record:
    return Record([Message("user", prompt)], completions=[Completion(content=text)], demonstrations=[0])


def supervised(trainer: Any, row: int = 0) -> list[str]:
    """The runs of supervised tokens of a row, decoded."""
    item = trainer.train_dataset[row]
    pieces: list[list[int]] = [[]]
    for token, label in zip(item["input_ids"], item["labels"], strict=True):
        assert label in (-100, token)
        if label != -100:
            pieces[-1].append(token)
        elif pieces[-1]:
            pieces.append([])
    return [trainer.processing_class.decode(piece) for piece in pieces if piece]


def test_the_answer_and_its_eos_are_supervised_and_nothing_else(prepared: Callable[..., Any]) -> None:
    trainer = prepared([demonstration()])
    assert supervised(trainer) == ["The hen ran.<|im_end|>"]
    batch = trainer.data_collator([trainer.train_dataset[0]])
    labels = batch["labels"][0]
    assert labels[labels != -100][-1] == trainer.processing_class.eos_token_id


def test_every_assistant_turn_is_supervised(
    prepared: Callable[..., Any], toy_model: str, tmp_path: Path
) -> None:
    record = Record(TWO_TURNS, completions=[Completion(content="In the sun.")], demonstrations=[0])
    assert supervised(prepared([record])) == ["On the mat.<|im_end|>", "In the sun.<|im_end|>"]
    # Without marks in the template each turn is a row of its own, supervised to the end of its closing.
    unmarked = with_template(toy_model, tmp_path / "unmarked", UNMARKED)
    trainer = prepared([record], f"model.path={unmarked}")
    assert [supervised(trainer, row) for row in (0, 1)] == [
        ["On the mat.<|im_end|>\n"],
        ["In the sun.<|im_end|>\n"],
    ]


def with_template(model: str, folder: Path, template: str, **tokens: str) -> Path:
    """A copy of a model with another chat template and other special tokens."""
    shutil.copytree(model, folder)
    (folder / "chat_template.jinja").write_text(template)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **tokens}))
    return folder


def test_eos_is_supervised_where_it_also_pads(
    prepared: Callable[..., Any], toy_model: str, tmp_path: Path
) -> None:
    template = (Path(toy_model) / "chat_template.jinja").read_text()
    model = with_template(toy_model, tmp_path / "same", template, pad_token="<|im_end|>")
    trainer = prepared(
        [demonstration("No."), demonstration("The hen ran to the dog.")], f"model.path={model}"
    )
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]])
    eos = trainer.processing_class.eos_token_id
    assert [int(row[row != -100][-1]) for row in batch["labels"]] == [eos, eos]


def test_one_bos(prepared: Callable[..., Any], toy_model: str, tmp_path: Path) -> None:
    """The template writes BOS and the tokenizer would add one of its own: the rows have one."""
    from tokenizers import Tokenizer, processors

    template = "{{ '<|pad|>' }}" + (Path(toy_model) / "chat_template.jinja").read_text()
    model = with_template(toy_model, tmp_path / "bos", template, bos_token="<|pad|>")
    adding = Tokenizer.from_file(str(model / "tokenizer.json"))
    bos = adding.token_to_id("<|pad|>")
    adding.post_processor = processors.TemplateProcessing(
        single="<|pad|> $A", special_tokens=[("<|pad|>", bos)]
    )
    adding.save(str(model / "tokenizer.json"))
    assert load_tokenizer(str(model))("x")["input_ids"][0] == bos
    ids = prepared([demonstration()], f"model.path={model}").train_dataset[0]["input_ids"]
    assert ids[0] == bos
    assert ids.count(bos) == 1


def test_an_overfit_model_stops(start: Start, tmp_path: Path) -> None:
    given = ["trainer.max_steps=60", "trainer.learning_rate=1e-2", "trainer.logging_steps=60"]
    result = start([demonstration()], *given)
    assert result["metrics"]["loss"] < 1.0
    model = load_policy(
        load_config(sft.Config, tmp_path / "sft.yaml", [f"model.path={result['model']}"]).model,
        trainable=False,
    )
    settings = GenerationSection(max_new_tokens=40, temperature=0.0)
    prompt = [{"role": "user", "content": "Tell me about the hen."}]
    [[answer]] = generate(model, load_tokenizer(result["model"]), [prompt], settings)
    assert answer.text == "The hen ran."
    assert answer.finished


def test_packing_changes_the_rows_and_not_the_loss(prepared: Callable[..., Any], toy_records: Any) -> None:
    losses, lengths = [], []
    for packing in ("false", "true"):
        options = [
            f"trainer.packing={packing}",
            "trainer.max_length=256",
            "trainer.per_device_eval_batch_size=99",
        ]
        trainer = prepared(toy_records(9), *options, validation=toy_records(9, 1))
        losses.append(trainer.evaluate()["eval_loss"])
        lengths.append(len(trainer.eval_dataset))
    assert lengths == [9, 3]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_metrics_and_the_saved_model(start: Start, toy_records: Any, toy_model: str) -> None:
    result = start(toy_records(8), validation=toy_records(4, 1))
    metrics = result["metrics"]
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["eval_loss"]))
    assert (metrics["steps"], metrics["rows"], metrics["truncated"]) == (2, 8, 0)
    files = {path.name for path in Path(result["model"]).iterdir()}
    assert files >= {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"}
    assert not {"training_args.bin", "README.md"} & files
    own = (Path(toy_model) / "chat_template.jinja").read_text()
    assert (Path(result["model"]) / "chat_template.jinja").read_text() == own


def test_trackers_get_the_metrics_when_named(start: Start, toy_records: Any, tmp_path: Path) -> None:
    result = start(toy_records(4), "run.tracking=[tensorboard]")
    [events] = (tmp_path / "run" / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents")
    assert result["metrics"]["steps"] == 2
    with pytest.raises(UserError, match="must be 'tensorboard', 'trackio' or 'wandb'"):
        start(toy_records(4), "run.tracking=[tensorbored]")


def test_early_stopping_keeps_the_best(start: Start, toy_records: Any) -> None:
    options = [
        "early_stopping={patience: 2}",
        "trainer.learning_rate=0.5",  # diverges: the first evaluation stays the best
        "trainer.max_steps=40",
        "trainer.eval_strategy=steps",
        "trainer.eval_steps=1",
        "trainer.save_steps=1",
    ]
    result = start(toy_records(8), *options, validation=toy_records(4, 1))
    logs = [json.loads(line) for line in (Path(result["run"]) / "metrics.jsonl").read_text().splitlines()]
    losses = [line["eval_loss"] for line in logs if "eval_loss" in line]
    assert result["metrics"]["steps"] < 40
    assert result["metrics"]["eval_loss"] == pytest.approx(min(losses), rel=1e-5)


def test_lora_leaves_the_base_alone(start: Start, toy_records: Any, toy_model: str) -> None:
    result = start(toy_records(8), "model.lora={r: 4}", "trainer.learning_rate=1e-2")
    assert (Path(result["model"]) / "adapter_model.safetensors").is_file()
    section = sft.Config.model_fields["model"].annotation(path=result["model"])  # type: ignore[misc]
    policy = load_policy(section, trainable=False)
    base = load_policy(section.model_copy(update={"path": toy_model}), trainable=False)
    ids = torch.arange(3, 20).reshape(1, -1)
    with torch.no_grad(), policy.disable_adapter():
        assert torch.equal(policy(ids).logits, base(ids).logits)
    with torch.no_grad():
        assert not torch.allclose(policy(ids).logits, base(ids).logits)


LONG = demonstration("The cat sat on the mat. " * 60)


@pytest.mark.parametrize(
    ("records", "overrides", "said"),
    [
        (
            [Record([Message("user", "Hello?")])],
            [],
            r"no record has a reply to learn.*1 × no completion",
        ),
        (
            [LONG, demonstration()],
            ["trainer.max_length=64"],
            "raise trainer.max_length or data.max_truncated",
        ),
        ([demonstration()], ["data.validation_fraction=0.5"], "leaves no record for"),
        (
            [demonstration()],
            ["data.validation_fraction=0.5", "data.validation=[x.jsonl]"],
            "exclude each other",
        ),
        ([demonstration()], ["early_stopping={}"], "early_stopping needs data.validation"),
        ([demonstration()], ["data.train=[nowhere.jsonl]"], "nowhere.jsonl: no such file"),
        ([demonstration()], ["model.path=./nowhere"], "the folder does not exist"),
    ],
)
def test_mistakes_leave_nothing_behind(
    start: Start, tmp_path: Path, records: list[Record], overrides: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        start(records, *overrides)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_noticed_before_the_first_step(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("alignment.backend.preflight.shutil.disk_usage", lambda place: space)
    with pytest.raises(UserError, match=r"a run with 3 checkpoints and the model needs .* GB of disk"):
        start([demonstration()])
    assert not (tmp_path / "run").exists()


def test_few_long_rows_are_counted(start: Start) -> None:
    result = start([LONG, demonstration()], "trainer.max_length=64", "data.max_truncated=0.5")
    assert (result["metrics"]["rows"], result["metrics"]["truncated"]) == (2, 1)


def test_a_template_whose_prompt_is_no_prefix_is_refused(
    start: Start, toy_model: str, tmp_path: Path
) -> None:
    template = "{% if add_generation_prompt %}ASK {% endif %}" + UNMARKED
    model = with_template(toy_model, tmp_path / "odd", template)
    with pytest.raises(UserError, match="the prompt is not a prefix"):
        start([demonstration()], f"model.path={model}")


def test_rows_stay_as_they_are() -> None:
    from alignment.backend.inputs import dataset

    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    rows = [
        {
            "messages": [
                {"role": "user", "content": "2?"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
            ]
        },
        {"messages": [{"role": "user", "content": "Hi", "name": "ann"}]},
    ]
    made = dataset(rows, ["messages", "tools"])
    assert made is not None
    assert made.column_names == ["messages"]
    assert [made[0], made[1]] == rows
