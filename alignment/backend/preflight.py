"""Before a GPU is spent: what the rows hold, whether the memory suffices, whether the disk does.

Every row is rendered and tokenized as training will do it, and counted. What is over a threshold, or cannot
be trained on at all, is refused here with the row's number and the option to change.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignment.backend.chat import (
    completion_messages,
    encode,
    render_prompt,
    render_text,
    split_ids,
    training_template,
)
from alignment.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_rows(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
    max_truncated: float,
    view: str,
    *,
    assistant_only: bool = True,
) -> dict[str, int]:
    """Count rows, tokens and truncations of a view's rows; refuse what cannot be trained on.

    view: "messages", "pairs", "rankings", "unpaired" or "prompts". max_length: tokens, None for no limit;
    max_truncated: the share of rows that may be longer. assistant_only: "messages" rows must have a
    supervised token within max_length (a mask from {% generation %}); False where the loss is on every token.
    Returns {"rows", "tokens", "longest", "truncated", "merged" (rows where a token spans prompt and
    completion; only where there are any)}. Raises UserError naming the row: the prompt is no
    prefix under the chat template, nothing is supervised, a prompt ends with the assistant, too many rows are
    too long.
    """
    template = training_template(tokenizer) if view == "messages" and assistant_only and rows else None
    counts = {"rows": 0, "tokens": 0, "longest": 0, "truncated": 0}
    first_long = ""
    for number, row in enumerate(rows, 1):
        where = f"row {number} (id {row.get('id', '?')})"
        if view == "messages":
            lengths = [_check_messages(tokenizer, row, where, max_length, template)]
        elif view == "prompts":
            _check_turn(row["prompt"], where)
            lengths = [len(render_prompt(tokenizer, row["prompt"], row.get("tools")))]
        else:
            lengths, merged = _check_completions(tokenizer, row, where)
            if merged:
                counts["merged"] = counts.get("merged", 0) + 1
        longest = max(lengths)
        counts["rows"] += 1
        counts["tokens"] += sum(lengths)
        counts["longest"] = max(counts["longest"], longest)
        if max_length is not None and longest > max_length:
            counts["truncated"] += 1
            first_long = first_long or f"{where} has {longest} tokens"
    if counts["truncated"] > max_truncated * counts["rows"]:
        raise UserError(
            f"{counts['truncated']} of {counts['rows']} rows are longer than max_length {max_length} (first: "
            f"{first_long}; longest {counts['longest']}), more than data.max_truncated {max_truncated:g} "
            "allows: raise trainer.max_length or data.max_truncated"
        )
    return counts


def _check_messages(
    tokenizer: PreTrainedTokenizerBase,
    row: Mapping[str, Any],
    where: str,
    max_length: int | None,
    template: str | None,
) -> int:
    """The length of a conversation in tokens; UserError if none that is kept would be supervised."""
    if template is None:
        return len(encode(tokenizer, render_text(tokenizer, row["messages"], open_turn=False)))
    rendered: Any = tokenizer.apply_chat_template(
        row["messages"],
        tools=row.get("tools"),
        chat_template=template,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    mask = rendered["assistant_masks"]
    if not any(mask[:max_length]):
        why = f"before token {max_length} (max_length)" if any(mask) else "at all: it has no assistant turn"
        raise UserError(f"{where}: no token of the conversation is supervised {why}")
    return len(rendered["input_ids"])


def _check_completions(
    tokenizer: PreTrainedTokenizerBase, row: Mapping[str, Any], where: str
) -> tuple[list[int], bool]:
    """Lengths in tokens of prompt + each completion of a row, and whether any token spans both parts."""
    _check_turn(row["prompt"], where)
    lengths, any_merged = [], False
    keys = [key for key in ("chosen", "rejected", "completion") if key in row]
    replies = [(key, completion_messages(row, key)) for key in keys]
    replies += [(f"completion {place}", turns) for place, turns in enumerate(row.get("completions", ()), 1)]
    for name, turns in replies:
        head, tail, merged = split_ids(tokenizer, row["prompt"], turns, f"{where}, {name}", row.get("tools"))
        if not tail:
            raise UserError(f"{where}, {name}: the completion has no token")
        lengths.append(len(head) + len(tail))
        any_merged |= merged
    return lengths, any_merged


def _check_turn(prompt: Sequence[Mapping[str, Any]], where: str) -> None:
    if prompt[-1]["role"] == "assistant":
        raise UserError(f"{where}: the prompt ends with the assistant, so there is nothing to answer")


def check_disk(folder: str | Path, needed: int, what: str) -> None:
    """UserError when the disk of `folder` (which need not exist yet) has fewer than `needed` bytes free."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UserError(
            f"{folder}: {what} needs {needed / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB are free: "
            "free some, or write elsewhere"
        )
