"""`alignkit generate`: completions for the prompts of a dataset, as records that can be ranked or judged.

The work is done in blocks of prompts, each with a seed of its own and kept as soon as it is done, so a run
that was killed goes on at its last whole block and writes what the unbroken one would have written.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from alignment.backend.generation.sampling import Generated, generate
from alignment.backend.generation.settings import GenerateConfig
from alignment.backend.progress import Steps, say
from alignment.backend.runs import model_fingerprint
from alignment.data.files import fingerprint, read_records, write_records
from alignment.data.records import (
    Completion,
    Record,
    Source,
    decode_record,
    encode_record,
    message_dict,
    record_id,
)
from alignment.errors import UserError

COMPLETIONS_A_BLOCK = 1024


def run(config: GenerateConfig) -> dict[str, Any]:
    """Write `config.n` completions of every prompt to `config.out`, one record a prompt.

    Every completion has a source {kind: "model", name, params} and meta {"finished"}. Judgments and
    completions of the records read are not carried over (`alignkit data merge` unites records of one id).
    Returns {"out", "rows", "completions", "finished" (share), "fingerprint"}. Raises UserError when `out`
    exists, and when an unfinished run with another config, model or data is in its place.
    """
    if Path(config.out).exists() and not config.overwrite:
        raise UserError(f"{config.out} exists; choose another name or add --overwrite")
    records = list(islice(read_records(config.prompts), config.max_rows))
    partial = _open_partial(config)
    size = max(1, COMPLETIONS_A_BLOCK // config.n)
    blocks = [records[start : start + size] for start in range(0, len(records), size)]
    done = len(list(partial.glob("block-*.jsonl")))
    if done:
        say(f"{config.out}: going on at prompt {done * size + 1} of {len(records)}")
    if done < len(blocks):
        _complete(config, blocks, partial, done)
    written = write_records(config.out, _read_blocks(partial, len(blocks)), overwrite=config.overwrite)
    finished = [
        c.meta["finished"] for record in _read_blocks(partial, len(blocks)) for c in record.completions
    ]
    shutil.rmtree(partial)
    return {
        "out": config.out,
        "rows": written.rows,
        "completions": len(finished),
        "finished": sum(finished) / len(finished),
        "fingerprint": written.fingerprint,
    }


def _complete(config: GenerateConfig, blocks: Sequence[list[Record]], partial: Path, done: int) -> None:
    """Sample the blocks that are not done; each is a file that appears when it is whole."""
    from alignment.backend.models import load_policy, load_tokenizer

    model, tokenizer = load_policy(config.model, trainable=False), load_tokenizer(config.model.path)
    total = config.n * sum(len(block) for block in blocks)
    count = config.n * sum(len(block) for block in blocks[:done])
    with Steps("generate", total, count) as bar:

        def advance(more: int) -> None:
            nonlocal count
            count += more
            bar.update(count)

        for number, block in list(enumerate(blocks))[done:]:
            seed = config.generation.seed + 1_000_003 * number
            settings = config.generation.model_copy(update={"seed": seed})
            prompts = [[message_dict(turn) for turn in record.prompt] for record in block]
            tools = [record.tools for record in block]
            names = [record_id(record) for record in block]
            answers = generate(model, tokenizer, prompts, settings, config.n, advance, tools, names)
            lines = [
                encode_record(_answered(record, row, config))
                for record, row in zip(block, answers, strict=True)
            ]
            temporary = partial / "unfinished"
            temporary.write_bytes(b"\n".join(lines) + b"\n")
            os.replace(temporary, partial / f"block-{number:06d}.jsonl")


def _answered(record: Record, row: Sequence[Generated], config: GenerateConfig) -> Record:
    """The record's prompt with new completions."""
    params = config.generation.model_dump(exclude={"token_budget"})
    source = Source(kind="model", name=config.name or config.model.path, params=params)
    completions = [
        Completion(id=f"c{i}", content=got.text, source=source, meta={"finished": got.finished})
        for i, got in enumerate(row)
    ]
    return Record(
        prompt=record.prompt,
        id=record_id(record),
        completions=completions,
        tools=record.tools,
        parent=record.parent,
        meta=record.meta,
    )


def _open_partial(config: GenerateConfig) -> Path:
    """The folder of finished blocks beside `out`, new or of the same config, model and data."""
    out = Path(config.out)
    partial = out.parent / f".{out.name}.partial"
    identity = {
        **config.model_dump(exclude={"out", "overwrite"}),
        "data": fingerprint(config.prompts),
        "weights": model_fingerprint(config.model.path),
    }
    note = partial / "config.json"
    if note.exists():
        before = json.loads(note.read_text(encoding="utf-8"))
        changed = [key for key in identity if before.get(key) != identity[key]]
        if not changed:
            return partial
        if not config.overwrite:
            raise UserError(
                f"{partial} holds an unfinished run with another {changed[0]}; add --overwrite to start anew"
            )
        shutil.rmtree(partial)
    partial.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(identity), encoding="utf-8")
    return partial


def _read_blocks(partial: Path, count: int) -> Iterator[Record]:
    for number in range(count):
        file = partial / f"block-{number:06d}.jsonl"
        for place, line in enumerate(file.read_bytes().splitlines(), 1):
            yield decode_record(line, f"{file}, line {place}")
