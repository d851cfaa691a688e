"""`alignkit data`: pull and push: datasets of the Hugging Face hub and local `datasets` folders."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from alignment.cli.data_terminal import native_records, next_steps
from alignment.cli.progress import progress
from alignment.data import hub, quality
from alignment.data.card import count_licenses, dataset_card
from alignment.data.detect import detect
from alignment.data.files import (
    Rejects,
    Written,
    atomic_output,
    read_records,
    record_writer,
    rejected_path,
    remove,
)
from alignment.data.formats import FORMATS
from alignment.data.lines import open_output
from alignment.data.records import Record, nearest
from alignment.errors import UserError

app = typer.Typer()
SOURCE = ".source"

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what exists under this name.")]


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A dataset of the hub, or a local folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, JSONL or Parquet.")],
    split: Annotated[str | None, typer.Option(help="By default the only one, else train.")] = None,
    config: Annotated[str | None, typer.Option(help="The configuration, where it has several.")] = None,
    revision: Annotated[str | None, typer.Option(help="A branch, tag or commit of the hub.")] = None,
    from_: Annotated[
        str,
        typer.Option("--from", metavar="FORMAT", help=f"auto (told from the rows), or {', '.join(FORMATS)}."),
    ] = "auto",
    on_error: Annotated[
        str, typer.Option("--on-error", help="raise, or skip: set bad rows aside and go on.")
    ] = "raise",
    overwrite: Overwrite = False,
) -> None:
    """Read a Hugging Face dataset, of the hub or from a local folder, into records.

    Rows are streamed: only the split asked for is downloaded, and none of it is held in memory.
    """
    if from_ != "auto" and from_ not in FORMATS:
        raise UserError(f'--from: there is no format "{from_}"{nearest(from_, set(FORMATS))}')
    if on_error not in ("raise", "skip"):
        raise UserError(f'--on-error is raise or skip, not "{on_error}"')
    refused = rejected_path(target)
    for path in (target, refused) if on_error == "skip" else (target,):
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists; choose another name or add --overwrite")
    opened = hub.open_dataset(name, split, config, revision)
    target.parent.mkdir(parents=True, exist_ok=True)
    left_out: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=target.parent) as folder:
        # Importers read files (one of them reads a tree over several rows), so the rows wait in one.
        rows = Path(folder) / "rows.jsonl.zst"
        try:
            _spill(progress(hub.rows_of(opened, left_out), f"reading {name}"), rows)
            by = ""
            if from_ == "auto":
                from_, told = detect(rows)
                by = f", by {told}"
            rejects = Rejects(Path(folder) / "rejected", stop=on_error == "raise")
            written = _import(rows, from_, rejects, opened, target, overwrite)
        except UserError as error:
            raise UserError(_placed(str(error), rows, opened)) from None
        if rejects.count:
            listing = (Path(folder) / "rejected").read_text()
            with atomic_output(refused, overwrite=True) as temporary:
                temporary.write_text(_placed(listing, rows, opened))
        elif overwrite:
            remove(refused)  # it told of the file that was replaced
    print(f"{name}, split {opened.split}, is {from_}{by}")
    aside = f", {rejects.count:,} set aside, with the reasons, in {refused}" if rejects.count else ""
    print(f"{rejects.rows:,} rows read: {written.rows:,} records in {target}{aside}")
    for field, count in left_out.most_common():
        print(f"left out: the bytes of {count:,} values of {field} (images, audio and the like)")
    _write_origin(target, opened, config, from_, written)
    print(
        f"from {opened.source}, licence: {opened.license or 'not stated'} (kept in {target}{SOURCE}); "
        f"fingerprint {written.fingerprint}"
    )
    next_steps(f"alignkit data stats {target}", f"alignkit data show {target}")


def _spill(rows: Iterator[bytes], path: Path) -> None:
    with atomic_output(path) as temporary, open_output(temporary) as out:
        for row in rows:
            out.write(row + b"\n")


def _import(
    rows: Path, format_: str, rejects: Rejects, opened: hub.Opened, target: Path, overwrite: bool
) -> Written:
    records: Iterator[Record] = FORMATS[format_].read(rows, rejects)
    if format_ != "native":  # those say themselves where they are from, and their fingerprint stays
        records = hub.with_origin(records, opened)
    with record_writer(target, overwrite) as writer:
        for record in progress(records, f"{format_} to records"):
            writer.write(record)
    return writer.written


def _placed(text: str, rows: Path, opened: hub.Opened) -> str:
    """A sentence about the file in which the rows waited, as one about the dataset."""
    place = f"{opened.name}, split {opened.split}"
    return text.replace(f"{rows}, line ", f"{place}, row ").replace(str(rows), place)


def _write_origin(
    target: Path, opened: hub.Opened, config: str | None, format_: str, written: Written
) -> None:
    origin = {
        "dataset": opened.source.partition("@")[0],
        "commit": opened.commit,
        "config": config,
        "split": opened.split,
        "license": opened.license,
        "format": format_,
        **written._asdict(),
    }
    with atomic_output(f"{target}{SOURCE}", overwrite=True) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(origin)) + b"\n")


@app.command()
def push(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A file, a folder or a glob of records.")],
    repo_id: Annotated[str, typer.Argument(metavar="REPO", help="The name on the hub: YOU/NAME.")],
    private: Annotated[
        bool, typer.Option("--private", help="Only you and your organisation see it.")
    ] = False,
    license_: Annotated[
        str | None, typer.Option("--license", help="The hub's identifier, such as cc-by-4.0.")
    ] = None,
    dry_run: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write what would be uploaded into DIR; contact nobody."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Publish records on the Hugging Face hub: Parquet with a dataset card, split train.

    The token is that of `hf auth login` or HF_TOKEN. Look at the files with --dry-run first: a card cannot
    know whose data this is.
    """
    _check_repo_id(repo_id)
    if dry_run is not None:
        with atomic_output(dry_run, overwrite) as folder:
            written = _write_all(source, repo_id, license_, folder)
        print(f"{written.rows:,} records in {dry_run}, nothing uploaded; fingerprint {written.fingerprint}")
        next_steps(f"read {dry_run / 'README.md'}", f"alignkit data push {source} {repo_id}")
        return
    with tempfile.TemporaryDirectory(prefix="alignkit-") as parent:
        folder = Path(parent) / "dataset"
        with atomic_output(folder) as temporary:
            written = _write_all(source, repo_id, license_, temporary)
        url = hub.upload(folder, repo_id, private, overwrite)
    print(f"{written.rows:,} records in {url}; fingerprint {written.fingerprint}")
    next_steps("say in its card whose data this is, and what was done about personal data")


def _check_repo_id(repo_id: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(str(error)) from None


def _write_all(source: str, repo_id: str, license_: str | None, folder: Path) -> Written:
    """README.md and data/train-*.parquet. Statistics and shards each take a pass over the records."""
    licenses: Counter[str | None] = Counter()
    found = quality.statistics(progress(count_licenses(native_records(source), licenses), "counting"))
    written = hub.write_shards(progress(read_records(source), "writing"), folder / "data")
    card = dataset_card(repo_id, written, found, licenses, license_)
    (folder / "README.md").write_text(card, encoding="utf-8")
    return written
