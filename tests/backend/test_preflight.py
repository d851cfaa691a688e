"""What is refused before training, by row."""

from __future__ import annotations

import pytest

from alignment.backend.models import load_tokenizer
from alignment.backend.preflight import check_disk, check_rows
from alignment.errors import UserError

USER = {"role": "user", "content": "the cat"}
SAID = {"role": "assistant", "content": "sat on a mat ."}
LONG = {"role": "assistant", "content": "the red hen ran " * 20}


@pytest.fixture(scope="module")
def tokenizer(toy_model: str):
    return load_tokenizer(toy_model)


def pair(chosen: dict, rejected: dict) -> dict:
    return {"id": "p", "prompt": [USER], "chosen": [chosen], "rejected": [rejected]}


def test_counts(tokenizer) -> None:
    rows = [pair(SAID, {"role": "assistant", "content": "ran"}), pair(SAID, LONG)]
    counts = check_rows(rows, tokenizer, 60, 0.5, "pairs")
    assert counts["rows"] == 2
    assert counts["truncated"] == 1
    assert counts["longest"] > 60
    assert check_rows([], tokenizer, 60, 0.5, "messages")["rows"] == 0
    assert check_rows([{"messages": [USER, SAID]}], tokenizer, None, 0.0, "messages")["truncated"] == 0


def test_too_many_too_long(tokenizer) -> None:
    """design/training.md 11: refused above the threshold, with the options that change it."""
    rows = [pair(SAID, SAID)] * 9 + [pair(SAID, LONG)]
    assert check_rows(rows, tokenizer, 60, 0.1, "pairs")["truncated"] == 1
    with pytest.raises(UserError, match=r"1 of 10 .* row 10 \(id p\) .*max_length or data.max_truncated"):
        check_rows(rows, tokenizer, 60, 0.05, "pairs")


def test_no_supervised_token(tokenizer) -> None:
    """design/training.md 2."""
    good = {"id": "a", "messages": [USER, SAID]}
    with pytest.raises(UserError, match=r"row 2 \(id b\): no token .* no assistant turn"):
        check_rows([good, {"id": "b", "messages": [USER]}], tokenizer, 64, 1.0, "messages")
    late = {"id": "c", "messages": [{"role": "user", "content": "the cat " * 40}, SAID]}
    with pytest.raises(UserError, match=r"row 1 \(id c\): no token .* before token 20"):
        check_rows([late], tokenizer, 20, 1.0, "messages")
    assert check_rows([late], tokenizer, 20, 1.0, "messages", assistant_only=False)["truncated"] == 1


def test_prompt_that_ends_with_the_assistant(tokenizer) -> None:
    with pytest.raises(UserError, match=r"row 1 .* ends with the assistant"):
        check_rows([{"id": "a", "prompt": [USER, SAID]}], tokenizer, 64, 0.0, "prompts")


def test_disk(tmp_path) -> None:
    check_disk(tmp_path / "new" / "folder", 1, "a file")
    with pytest.raises(UserError, match=r"the model needs .* GB of disk"):
        check_disk(tmp_path / "new", 10**18, "the model")
