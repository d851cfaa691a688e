"""`alignkit data`: split, mix and sample: which rows go where is told by a seed, on every machine alike."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alignment.cli.data_terminal import native_records, next_steps
from alignment.cli.progress import progress
from alignment.data.files import record_writer, write_records
from alignment.data.mixtures import drawn, draws, interleaved, priorities, quotas
from alignment.data.records import record_id
from alignment.data.splits import Splitter
from alignment.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

app = typer.Typer()

Seed = Annotated[int, typer.Option(min=0, help="Another seed, other rows.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


@app.command()
def split(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A file, a folder or a glob.")],
    parts: Annotated[
        list[str],
        typer.Argument(metavar="PART...", help="TRAIN VALIDATION, or FILE=SHARE for each of several files."),
    ],
    fraction: Annotated[
        float | None, typer.Option(help="The share of prompts for VALIDATION, by default 0.1.")
    ] = None,
    seed: Seed = 0,
    stratify: Annotated[
        str | None, typer.Option(metavar="PATH", help="Split each value of a field alike: meta.source, …")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Split SRC by prompt: no prompt, however it is spaced or capitalised, is in two parts.

    split all.jsonl train.jsonl=0.8 validation.jsonl=0.1 test.jsonl=0.1 makes three parts.
    """
    named = [share_of(part) for part in parts]
    if all(share is None for _, share in named) and len(named) == 2:
        held_out = 0.1 if fraction is None else fraction
        if not 0 < held_out < 1:
            raise UserError(f"--fraction is {held_out:g}; it must be between 0 and 1")
        shares = [1 - held_out, held_out]
    elif fraction is not None:
        raise UserError("--fraction goes with TRAIN VALIDATION; parts with shares of their own need none")
    else:
        shares = [share for _, share in named if share is not None]
        if len(shares) != len(named) or len(shares) < 2:
            raise UserError("name two files, or give every part its share: train.jsonl=0.8 test.jsonl=0.2")
    paths = [path for path, _ in named]
    if len(set(paths)) < len(paths):
        raise UserError("two parts are the same file; give each a name of its own")
    splitter = Splitter(shares, seed, stratify)
    with ExitStack() as stack:
        writers = [stack.enter_context(record_writer(path, overwrite)) for path in paths]
        for record in progress(native_records(source), "splitting"):
            writers[splitter.part(record)].write(record)
        if stratify is not None and list(splitter.strata) == ["(none)"]:
            raise UserError(f"{source}: no record has a value at {stratify}")
        empty = [path for path, writer in zip(paths, writers, strict=True) if not writer.rows]
        if empty:
            raise UserError(f"{source}: the shares leave {empty[0]} empty; change them or --seed")
    sizes = [f"{writer.rows:,}" for writer in writers]
    print("records: " + ", ".join(f"{size} in {path}" for size, path in zip(sizes, paths, strict=True)))
    if stratify is not None:
        _print_strata(splitter.strata, stratify)
    next_steps(f"alignkit data stats {paths[0]}")


def _print_strata(strata: dict[str, list[int]], path: str) -> None:
    print(f"prompts by {path}:")
    for value, counts in sorted(strata.items(), key=lambda item: -sum(item[1]))[:20]:
        shares = ", ".join(f"{count:,} ({count / sum(counts):.1%})" for count in counts)
        print(f"  {value}: {shares}")
    if len(strata) > 20:
        print(f"  and {len(strata) - 20:,} more values")


@app.command()
def mix(
    target: Annotated[Path, typer.Argument(metavar="DST", help="The file to write.")],
    sources: Annotated[
        list[str], typer.Argument(metavar="SRC=WEIGHT...", help="Each dataset and its share of the rows.")
    ],
    rows: Annotated[
        int | None, typer.Option(min=1, help="Rows in all; else as many as the scarcest source allows.")
    ] = None,
    seed: Seed = 0,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Give rows of a source again once it has run out.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Mix datasets by weight, so that every stretch of DST has the shares.

    mix both.jsonl a.jsonl=0.7 b.jsonl=0.3 --rows 10000 draws 7,000 rows of a.jsonl and 3,000 of b.jsonl.
    """
    named = [share_of(source) for source in sources]
    for path, weight in named:
        if weight is None or weight <= 0:
            raise UserError(f"{path}: give every source a weight above 0: {path}=0.5")
    weights = [weight for _, weight in named if weight is not None]
    paths = [path for path, _ in named]
    orders = [_order(path, seed) for path in paths]
    counts = quotas(paths, [len(order) for order in orders], weights, rows, [repeat] * len(paths))
    times = [draws(order, count) for order, count in zip(orders, counts, strict=True)]
    streams = [drawn(partial(native_records, path), own) for path, own in zip(paths, times, strict=True)]
    written = write_records(target, progress(interleaved(streams, counts), "mixing"), overwrite)
    for path, order, count in zip(paths, orders, counts, strict=True):
        again = f", each up to {-(-count // len(order))} times" if count > len(order) else ""
        print(f"{count:,} of {len(order):,} rows of {path} ({count / written.rows:.1%}){again}")
    print(f"{written.rows:,} records in {target}")
    next_steps(f"alignkit data stats {target}")


@app.command()
def sample(
    source: Annotated[str, typer.Argument(metavar="SRC", help="A file, a folder or a glob.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="The file to write.")],
    rows: Annotated[int, typer.Option(min=1, help="How many rows.")],
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Take a sample of SRC, in its order; a larger one of the same seed holds the smaller one."""
    order = _order(source, seed)
    if rows > len(order):
        raise UserError(f"{source} has {len(order):,} rows, fewer than the {rows:,} of --rows")
    records = drawn(partial(native_records, source), draws(order, rows))
    write_records(target, progress(records, "writing"), overwrite)
    print(f"{rows:,} of {len(order):,} records in {target}")
    next_steps(f"alignkit data stats {target}")


def _order(path: str, seed: int) -> "NDArray[np.uint64]":
    return priorities(map(record_id, progress(native_records(path), f"counting {path}")), seed)


def share_of(text: str) -> tuple[str, float | None]:
    """`FILE=0.3` as the file and the number; a text without a number after its last "=" is a file alone."""
    path, equals, number = text.rpartition("=")
    try:
        return (path, float(number)) if equals else (text, None)
    except ValueError:
        return text, None
