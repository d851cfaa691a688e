"""The chat-template contract."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from alignment.backend import chat
from alignment.backend.models import load_tokenizer
from alignment.backend.preflight import check_rows
from alignment.errors import UserError

USER = {"role": "user", "content": "the cat"}
SAID = {"role": "assistant", "content": "sat ."}
# writes the prompt differently once an answer follows: earlier turns vanish behind a summary
BREAKING = (
    "{%- if messages[-1]['role'] == 'assistant' -%}{{ 'answered: ' }}{%- endif -%}"
    "{%- for m in messages -%}{{ m['content'] }}{{ '<|im_end|>' }}{%- endfor -%}"
)


@pytest.fixture
def tokenizer(toy_model: str):
    return load_tokenizer(toy_model)


def row(number: int) -> dict:
    return {"id": f"r{number}", "prompt": [USER], "chosen": [SAID], "rejected": "ran"}


def test_prefix_is_checked_on_the_rows(tokenizer) -> None:
    """design/training.md 3."""
    assert check_rows([row(0), row(1)], tokenizer, None, 0.0, "pairs")["rows"] == 2
    tokenizer.chat_template = BREAKING
    with pytest.raises(UserError, match=r"row 1 \(id r0\), chosen: .* not a prefix"):
        check_rows([row(0)], tokenizer, None, 0.0, "pairs")


def test_a_token_over_the_seam_is_counted_and_no_broken_template() -> None:
    """The prompt ends with a newline, the answer starts with one, and the tokenizer has a token for two."""
    tokenizer = load_tokenizer("tiny")
    rows: list[dict[str, Any]] = [
        {"id": "r0", "prompt": [USER], "completion": [{"role": "assistant", "content": "\nSure."}]}
    ]
    tokenizer.add_tokens(["\n\n"])
    head, tail, merged = chat.split_ids(tokenizer, [USER], rows[0]["completion"], "here")
    assert merged
    assert tokenizer.decode(head + tail).count("Sure.") == 1
    assert check_rows(rows, tokenizer, None, 0.0, "unpaired")["merged"] == 1


def test_render_is_what_trl_tokenizes(tokenizer) -> None:
    whole = tokenizer.apply_chat_template([USER, SAID], return_dict=True)["input_ids"]
    assert chat.render_conversation(tokenizer, [USER], SAID["content"]) == whole
    head = tokenizer.apply_chat_template([USER], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert chat.render_prompt(tokenizer, [USER]) == head
    assert chat.split_ids(tokenizer, [USER], [SAID], "here") == (head, whole[len(head) :], False)


@pytest.mark.parametrize("in_template", [True, False])
def test_at_most_one_bos(tokenizer, in_template: bool) -> None:
    """design/training.md 4: a tokenizer that adds BOS to plain text, a template with BOS and one without."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.add_special_tokens({"bos_token": "<s>"})
    bos = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", bos)]
    )
    if in_template:
        tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    assert tokenizer("the cat")["input_ids"][0] == bos
    ids = [
        chat.render_prompt(tokenizer, [USER]),
        chat.render_conversation(tokenizer, [USER], "sat"),
        chat.render_conversation(tokenizer, [USER], "sat", finished=False),
    ]
    assert [row.count(bos) for row in ids] == [int(in_template)] * 3
    tokenizer.chat_template = "{{ bos_token }}{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(UserError, match="two BOS"):
        chat.split_ids(tokenizer, [USER], [SAID], "row 1")


def test_pad_equal_to_eos_is_handled_and_said_once(
    tokenizer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """design/training.md 16."""
    caplog.set_level(logging.WARNING)
    own = tokenizer.pad_token
    tokenizer.name_or_path = "same-pad"
    for _ in range(2):
        tokenizer.pad_token = tokenizer.eos_token
        chat.ensure_pad(tokenizer)
        assert tokenizer.pad_token == own != tokenizer.eos_token
    assert caplog.text.count("same-pad") == 1
    tokenizer.pad_token = None
    chat.ensure_pad(tokenizer)
    assert tokenizer.pad_token == own


def test_stop_ids_and_closing(tokenizer) -> None:
    assert chat.closing_text(tokenizer) == "<|im_end|>\n"
    end = tokenizer.eos_token_id
    assert chat.stop_ids(tokenizer) == [end]
    # a base model's EOS ends documents, its template ends turns with another token: both stop
    tokenizer.eos_token = "<|pad|>"
    assert chat.stop_ids(tokenizer) == sorted({end, tokenizer.eos_token_id})


def test_training_template(tokenizer) -> None:
    own = tokenizer.chat_template
    assert chat.training_template(tokenizer) == own
    tokenizer.chat_template = own.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    with pytest.raises(UserError, match="does not mark"):
        chat.training_template(tokenizer)
    tokenizer.chat_template = own.replace(
        "{{ message['content'] + '<|im_end|>' }}{% endgeneration %}",
        "{{ message['content'] }}{% endgeneration %}{{ '<|im_end|>' }}",
    )
    with pytest.raises(UserError, match="never stop"):
        chat.training_template(tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        chat.render_prompt(tokenizer, [USER])


def test_fingerprint(tokenizer) -> None:
    assert len(chat.fingerprint(tokenizer.chat_template)) == 16
    assert chat.fingerprint(None) == "none"
    assert chat.fingerprint("a") != chat.fingerprint("b")
