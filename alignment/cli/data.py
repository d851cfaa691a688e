"""`alignkit data`: convert, check, view, merge and count datasets."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated, TypeVar

import msgspec
import typer

from alignment.cli import data_hub, data_inspect, data_mix, data_quality, data_rows
from alignment.cli.data_rows import convert_rows
from alignment.cli.data_terminal import listed, native_records, next_steps
from alignment.cli.progress import progress
from alignment.data import quality
from alignment.data.detect import detect, first_rows
from alignment.data.files import (
    FOREIGN_SUFFIXES,
    Rejects,
    data_files,
    read_blocks,
    rejected_path,
    remove,
    write_records,
)
from alignment.data.formats import FORMATS, columns, native, trl
from alignment.data.formats.column_names import Names, parse_mapping, usual_names
from alignment.data.formats.column_preferences import doubt
from alignment.data.formats.foreign import checked, json_output
from alignment.data.merge import Merged
from alignment.data.records import Record, decode_record, json_schema, nearest
from alignment.errors import UserError

app = typer.Typer(no_args_is_help=True)
for part in (data_rows, data_inspect, data_mix, data_quality, data_hub):
    app.add_typer(part.app)  # without a name: its commands stand beside these
Item = TypeVar("Item")

Source = Annotated[str, typer.Argument(metavar="SRC", help="A file, a folder or a glob.")]
Target = Annotated[Path, typer.Argument(metavar="DST", help="The file to write; its suffix tells the form.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]
OnError = Annotated[str, typer.Option("--on-error", help="raise, or skip: set bad rows aside and go on.")]
NAMES = ", ".join(FORMATS)


@app.command()
def convert(
    source: Source,
    target: Target,
    from_: Annotated[
        str, typer.Option("--from", metavar="FORMAT", help=f"auto (told from the first rows), or {NAMES}.")
    ] = "auto",
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help=f"One of {NAMES}.")] = "native",
    style: Annotated[str | None, typer.Option(help=f"With --to trl: {', '.join(trl.STYLES)}.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET=COLUMN",
            help="With columns: which column is prompt, demonstration, chosen, … (docs/data.md); repeat it.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    on_error: OnError = "raise",
) -> None:
    """Convert SRC from one format to another; say what the target format cannot hold."""
    writer = _format(to, "--to")
    names = parse_mapping(column) if column else None
    if names and from_ == "auto" and writer is not columns:
        from_ = "columns"
    if from_ == "auto":
        from_, by = detect(source)
        print(f"{source} is {from_}, by {by}")
    reader = _format(from_, "--from")
    if style is not None and writer is not trl:
        raise UserError("--style goes with --to trl")
    if names and columns not in (reader, writer):
        raise UserError("--column goes with --from columns or --to columns")
    if reader is columns:
        _warn_of_doubt(source, names)
    counted: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    with _rejects(on_error, target, overwrite) as rejects:
        read = columns.read(source, rejects, names) if reader is columns else reader.read(source, rejects)
        records = _counted(progress(read, f"{from_} to {to}"), counted)
        decode = None if names else _row_decoder(reader)
        if writer is native and decode is not None:
            counted["records"] = convert_rows(source, decode, target, overwrite, rejects)
        elif writer is trl:
            lost = trl.write(records, target, overwrite, style)
        elif writer is columns:
            lost = columns.write(records, target, overwrite, None if reader is columns else names)
        else:
            lost = writer.write(records, target, overwrite)
    _print_account(source, target, rejects, counted["records"], exported=writer is not native)
    if lost:
        print(f"{to} cannot hold: {listed(lost)}")
    if lost["prompt"]:
        print(f"{lost['prompt']:,} of the records are not in {target}, or not with their whole prompt")
    if writer is native:
        next_steps(
            f"alignkit data stats {target}", f"alignkit data split {target} TRAIN.jsonl VALIDATION.jsonl"
        )


@app.command()
def merge(
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="Files, folders or globs.")],
    target: Target,
    overwrite: Overwrite = False,
) -> None:
    """Put datasets together; rows with the same id become one, with the judgments of all."""
    merged = Merged()
    for record in progress(native_records(sources), "merging"):
        merged.add(record)
    written = write_records(target, merged, overwrite)
    print(f"{merged.read:,} records became {written.rows:,} in {target}")
    why = {"the same id": merged.same_id, "no id and the same prompt and outputs": merged.same_content}
    if any(why.values()):
        reasons = "; ".join(f"{count:,} with {reason}" for reason, count in why.items() if count)
        print(f"united with an earlier record, judgments added up: {reasons}")
    if merged.conflict_fields:
        listing = rejected_path(target).with_name(rejected_path(target).name.replace("rejected", "conflicts"))
        with json_output(listing, overwrite=True) as put:
            for conflict in merged.conflicts():
                put(msgspec.json.encode(conflict._asdict()))
        kinds = merged.conflict_fields
        print(f"conflicts, the first kept, listed in {listing}: {kinds.total():,} ({listed(kinds)})")
    next_steps(f"alignkit data stats {target}")


@app.command()
def stats(
    source: Source,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, everything counted.")] = False,
) -> None:
    """Count rows, prompts, judges, ties and pairs; lengths, biases and agreement with 95% intervals."""
    found = quality.statistics(progress(native_records(source), "counting"))
    plain = found.as_dict()
    if as_json:
        print(json.dumps(plain, indent=2))
        return
    print(f"{found.rows:,} records, {found.prompts:,} different prompts in {source}")
    spread = ", ".join(f"{count:,} with {n}" for n, count in sorted(found.completions_per_row.items()))
    print(f"{found.completions:,} completions ({spread}), {found.empty_completions:,} of them empty")
    print(f"{found.demonstrations:,} demonstrations, {found.repeated_ids:,} rows with an id seen before")
    print(f"{found.judgments:,} judgments, judges: {len(found.judges):,}, all-bad: {found.all_bad:,}")
    print(f"{found.pairs:,} stated preferences, {found.ties:,} ties, labels: {listed(found.labels)}")
    for name, title in (("prompt_lengths", "prompt"), ("completion_lengths", "completion")):
        length = plain[name]
        if length:
            print(
                f"{title} characters: mean {length['mean']:,.0f}, median {length['median']:,.0f}, "
                f"95% below {length['p95']:,.0f}, longest {length['max']:,}"
            )
    for name, title in _SHARES.items():
        share = plain[name]
        if share:
            print(
                f"{title}: {share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}], n = {share['n']:,}"
            )
    next_steps(
        f"alignkit data view pairs {source} PAIRS.jsonl" if found.pairs else f"alignkit data check {source}"
    )


_SHARES = {
    "longer_wins": "the longer completion preferred",
    "first_shown_wins": "the one shown first preferred",
    "first_stored_wins": "the one stored first preferred",
    "agreement": "two judges agree, ties counted",
    "agreement_without_ties": "two judges agree, ties left out",
}


@app.command()
def schema() -> None:
    """Print the JSON Schema of a record."""
    print(json.dumps(json_schema(), indent=2))


def _row_decoder(reader: ModuleType) -> Callable[[bytes, str], Record] | None:
    """What makes a record of each row by itself; None for a format whose rows belong together."""
    if reader is native:
        return decode_record
    return checked(reader.decode) if hasattr(reader, "decode") else None


def _warn_of_doubt(source: str, names: Names | None) -> None:
    rows = first_rows(data_files(source, FOREIGN_SUFFIXES)[0])
    used = names or (usual_names(rows[0]) if rows else None)
    warning = doubt(used, rows) if used else None
    if warning:
        print(f"note: {warning}")


def _format(name: str, option: str) -> ModuleType:
    if name not in FORMATS:
        raise UserError(f'{option}: there is no format "{name}"{nearest(name, set(FORMATS))}')
    return FORMATS[name]


@contextlib.contextmanager
def _rejects(on_error: str, target: Path, overwrite: bool) -> Iterator[Rejects]:
    """Counts the rows, and takes those set aside to a file that appears beside DST when DST is complete."""
    if on_error not in ("raise", "skip"):
        raise UserError(f'--on-error is raise or skip, not "{on_error}"')
    listing = rejected_path(target)
    if on_error == "skip" and listing.exists() and not overwrite:
        raise UserError(f"{listing} exists; choose another name or add --overwrite")
    temporary = listing.with_name(f".tmp-{os.getpid()}-{listing.name}")
    rejects = Rejects(temporary, stop=on_error == "raise")
    try:
        yield rejects
    except UserError as error:
        if rejects.stop and rejects.reasons:
            raise UserError(f"{error} (--on-error skip sets such rows aside)") from None
        raise
    else:
        if rejects.count:
            os.replace(temporary, listing)
        elif overwrite:
            remove(listing)  # it told of the file that was replaced
    finally:
        if rejects.count:
            remove(temporary)


def _print_account(source: str, target: Path, rejects: Rejects, records: int, exported: bool) -> None:
    """Every row that was read is written or set aside, and said to be; of an export, how many rows it has."""
    taken = rejects.rows - rejects.count
    became = f"{taken:,} of them became {records:,} records" if records != taken else f"{records:,} records"
    aside = f"{rejects.count:,} set aside"
    if rejects.count:
        aside += f", with the reasons, in {rejected_path(target)}"
    where = "for" if exported else "in"
    print(f"{rejects.rows:,} rows read from {source}: {became} {where} {target}, {aside}")
    if exported:
        written = sum(1 for block in read_blocks(target) for _ in block.rows())
        print(f"{written:,} rows in {target}")
    for reason in rejects.reasons[:1]:
        print(f"the first reason: {reason}")


def _counted(records: Iterable[Record], counts: Counter[str]) -> Iterator[Record]:
    for record in records:
        counts["records"] += 1
        yield record
