"""`alignkit data check` and `view`, and the conversions that look at one row at a time: on all cores."""

import sys
from array import array
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from alignment.cli.data_terminal import listed, next_steps
from alignment.cli.progress import progress
from alignment.data import portions
from alignment.data.detect import check_native
from alignment.data.files import FOREIGN_SUFFIXES, Paths, Rejects, data_files, read_records, record_writer
from alignment.data.pairs import HOW, MODELS
from alignment.data.records import Record, decode_record, nearest
from alignment.data.view_files import packer, view_output
from alignment.data.views import VIEWS
from alignment.errors import UserError

app = typer.Typer()
Source = Annotated[str, typer.Argument(metavar="SRC", help="A file, a folder or a glob.")]


def convert_rows(
    source: Paths, decode: Callable[[bytes, str], Record], target: Path, overwrite: bool, rejects: Rejects
) -> int:
    """Write a record for every row of a foreign or native dataset; return how many."""
    files = data_files(source, FOREIGN_SUFFIXES)
    with record_writer(target, overwrite) as out:
        found = portions.portions(files, decode, portions.native_lines, rejects)
        for portion in progress(found, "converting", size=lambda portion: portion.rows):
            out.write_lines(portion.content, portion.rows)
    return out.rows


@app.command()
def check(source: Source) -> None:
    """Read every row of SRC by the rules of the format; with faults, show the first ten and exit with 2."""
    check_native(source)
    problems = Rejects()
    rows, ids = 0, array("q")
    found = portions.portions(data_files(source), decode_record, portions.id_hashes, problems)
    for portion in progress(found, "checking", size=lambda portion: portion.rows):
        rows += portion.rows
        ids.extend(portion.content)
    for reason in problems.reasons:
        print(reason, file=sys.stderr)
    if problems.count:
        raise UserError(
            f"{source}: {problems.count:,} of {problems.rows:,} rows break the format; mend them, or "
            f"set them aside: alignkit data convert --from native {source} CLEAN.jsonl --on-error skip"
        )
    print(f"{rows:,} records in {source}, all in order")
    repeated = portions.repeated(ids)
    if repeated:
        print(f"{repeated:,} rows repeat an id; `alignkit data merge {source} MERGED.jsonl` unites them")
    next_steps(f"alignkit data stats {source}")


@app.command()
def view(
    name: Annotated[str, typer.Argument(metavar="VIEW", help=f"One of {', '.join(VIEWS)}.")],
    source: Source,
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="The file to write: .jsonl, .json or .parquet.")
    ],
    how: Annotated[str, typer.Option(help=f"How judgments become pairs: {', '.join(HOW)}.")] = "each",
    margin: Annotated[
        bool, typer.Option("--margin", help="Pairs with a margin: changes TRL's loss.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write what a trainer reads, in TRL's columns: messages, prompts, pairs, rankings or unpaired."""
    if name not in VIEWS:
        raise UserError(f'there is no view "{name}"{nearest(name, set(VIEWS))}')
    if how not in HOW:
        raise UserError(f'there is no --how "{how}"{nearest(how, set(HOW))}')
    if name != "pairs" and (how != "each" or margin):
        raise UserError(f"--how and --margin go with the view pairs, not {name}")
    options = {"how": how, "margin": margin} if name == "pairs" else {}
    of_records, pack = partial(VIEWS[name], turns=list, **options), packer(target)
    check_native(source)
    left_out: Counter[str] = Counter()
    rows = 0
    with view_output(target, overwrite) as put:
        if how in MODELS:  # fitted over all records, so that these cannot be shared out
            found = portions.in_groups(of_records(read_records(source), counts=left_out), pack)
        else:
            work = portions.view_rows(of_records, pack)
            found = portions.portions(data_files(source), decode_record, work, Rejects(stop=True))
        for portion in progress(found, name, size=lambda portion: portion.rows):
            left_out.update(portion.counts)
            if portion.rows:
                put(portion.content)
            rows += portion.rows
        if not rows:
            raise UserError(f"{source}: the view {name} is empty ({listed(left_out)})")
    print(f"{rows:,} rows of {name} in {target}")
    if left_out:
        print(f"left out: {listed(left_out)}")
    kind = "parquet" if target.name.endswith(".parquet") else "json"
    next_steps(f'datasets.load_dataset("{kind}", data_files="{target}") for a trainer of your own')
