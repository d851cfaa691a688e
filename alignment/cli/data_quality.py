"""`alignkit data`: duplicates, contamination, personal data, completions, report."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from alignment.cli.data_terminal import listed, native_records, next_steps, progress
from alignment.data.contamination import Evaluation, N
from alignment.data.files import record_writer
from alignment.data.formats.foreign import json_output
from alignment.data.personal import REGION, load_names
from alignment.data.records import record_id
from alignment.data.redaction import Place, Redactor
from alignment.errors import UserError

app = typer.Typer()
SHOWN = 10

Source = Annotated[str, typer.Argument(metavar="FILE", help="A dataset: a file, a folder or a glob.")]
List = Annotated[Path | None, typer.Option("--list", metavar="LIST.jsonl", help="Write every finding.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Region = Annotated[str, typer.Option(help="Whose national phone numbers are found; none: only +… ones.")]


@app.command()
def duplicates(
    source: Source,
    near: Annotated[bool, typer.Option("--near", help="Near duplicates too, by their shingles.")] = False,
    threshold: Annotated[float, typer.Option(help="With --near: the least Jaccard similarity.")] = 0.8,
    completions: Annotated[
        bool, typer.Option("--completions", help="Only rows whose completions are the same, too.")
    ] = False,
    list_: List = None,
    out: Annotated[Path | None, typer.Option(metavar="CLEAN.jsonl", help="Write one of each.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Find rows with the same prompt (without case and spacing); on request keep one of each.

    Of a cluster the row with the most judgments stays, the first of equals.
    """
    from alignment.data import duplicates as found

    if near and completions:
        raise UserError("--completions goes without --near: near duplicates are sought among prompts")
    names: list[str] = []
    judged: list[int] = []
    keys: list[Any] = []
    for record in progress(native_records(source), "reading"):
        names.append(record_id(record))
        judged.append(len(record.judgments))
        keys.append(found.near_text(record) if near else found.exact_key(record, completions))
    clusters = found.near_duplicates(keys, threshold) if near else found.exact_duplicates(keys)
    kept = [max(cluster, key=lambda row: (judged[row], -row)) for cluster in clusters]
    left_out = {row for cluster in clusters for row in cluster} - set(kept)
    kind = f"with prompts alike by {threshold} or more" if near else "with the same prompt"
    kind += " and completions" if completions else ""
    print(f"{len(names):,} rows in {source}: {len(clusters):,} clusters {kind}")
    entries = [
        {"kept": names[stays], "rows": [names[row] for row in cluster]}
        for stays, cluster in zip(kept, clusters, strict=True)
    ]
    _put(entries, list_, overwrite, lambda entry: ", ".join(entry["rows"][:6]))
    lost = sum(judged[row] for row in left_out)
    print(f"keeping one of each leaves out {len(left_out):,} rows with {lost:,} judgments")
    if out is None:
        how = " --near" if near else " --completions" if completions else ""
        wanted = f"alignkit data duplicates {source}{how} --out CLEAN.jsonl"
        next_steps(wanted if clusters else f"alignkit data stats {source}")
        return
    _write_without(left_out, source, out, overwrite)


@app.command()
def contamination(
    train: Annotated[str, typer.Argument(metavar="TRAIN", help="The training dataset.")],
    evaluation: Annotated[str, typer.Argument(metavar="EVAL", help="The evaluation dataset.")],
    n: Annotated[int, typer.Option("--n", help="Words in a row that count as shared.")] = N,
    list_: List = None,
    out: Annotated[Path | None, typer.Option(metavar="CLEAN.jsonl", help="TRAIN without those rows.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Find training rows that share N words in a row with a prompt of EVAL."""
    known = Evaluation(progress(native_records(evaluation), "reading EVAL"), n)
    overlaps = []
    rows = 0
    for record in progress(native_records(train), "reading TRAIN"):
        rows += 1
        overlap = known.overlap(record)
        if overlap:
            overlaps.append({"row": rows - 1, "id": record_id(record), **overlap._asdict()})
    print(
        f"{len(overlaps):,} of {rows:,} rows of {train} ({len(overlaps) / rows:.2%}) share {n} words in a "
        f"row, or a whole shorter turn, with a prompt of {evaluation} ({known.rows:,} rows)"
    )
    hit = len({entry["evaluation"] for entry in overlaps})
    print(f"{hit:,} evaluation rows are touched")
    _put(
        overlaps,
        list_,
        overwrite,
        lambda entry: f"{entry['id']} and {entry['evaluation']} ({entry['place']}): {entry['shared']}",
    )
    if out is None:
        wanted = f"alignkit data contamination {train} {evaluation} --out CLEAN.jsonl"
        next_steps(wanted if overlaps else f"alignkit data stats {train}")
        return
    _write_without({entry["row"] for entry in overlaps}, train, out, overwrite)


@app.command()
def personal(
    source: Source,
    redact: Annotated[
        Path | None, typer.Option(metavar="OUT.jsonl", help="Write a copy with [EMAIL] and so on.")
    ] = None,
    region: Region = REGION,
    names: Annotated[
        str | None, typer.Option(metavar="PIPELINE", help="People's names, by a spaCy pipeline.")
    ] = None,
    list_: List = None,
    overwrite: Overwrite = False,
) -> None:
    """Find e-mail addresses, phone numbers, cards, IBANs, IP addresses and keys; never print one in full."""
    redactor = Redactor(known_region(region), load_names(names) if names else None)
    counts: Counter[tuple[str, str]] = Counter()
    found: list[tuple[str, Place]] = []
    rows = touched = 0
    for record in progress(native_records(source), "searching"):
        rows += 1
        places = redactor.places(record)
        touched += bool(places)
        counts.update((place.kind, place.field) for place in places)
        if list_ is not None or len(found) < SHOWN:
            found += [(record_id(record), place) for place in places]
    print(f"{counts.total():,} findings in {touched:,} of {rows:,} rows of {source}")
    for (kind, field), count in counts.most_common():
        print(f"  {kind} in {field}: {count:,}")
    entries = [{"id": name, **place._asdict()} for name, place in found]
    _put(entries, list_, overwrite, lambda e: f"{e['id']}: {e['kind']} {e['masked']} in {e['field']}")
    if redact is None:
        wanted = f"alignkit data personal {source} --redact OUT.jsonl"
        next_steps(wanted if counts else f"alignkit data report {source}")
        return
    with record_writer(redact, overwrite) as writer:
        for record in progress(native_records(source), "redacting"):
            writer.write(redactor.redacted(record))
    kinds: Counter[str] = Counter()
    for (kind, _), count in counts.items():
        kinds[kind] += count
    print(f"{writer.rows:,} records in {redact}, replaced: {listed(kinds)}")
    next_steps(f"alignkit data personal {redact}")


@app.command()
def completions(source: Source, list_: List = None, overwrite: Overwrite = False) -> None:
    """Find completions that are empty, cut off, repetitive, refusals or copies of the prompt."""
    from alignment.data.completions import FAULTS, completion_faults

    counts: Counter[str] = Counter()
    entries: list[dict[str, Any]] = []
    total = 0
    for record in progress(native_records(source), "reading"):
        for index, completion in enumerate(record.completions):
            total += 1
            for fault in completion_faults(record.prompt, completion):
                counts[fault] += 1
                if list_ is not None or len(entries) < SHOWN:
                    entries.append({"id": record_id(record), "completion": index, "fault": fault})
    print(f"{total:,} completions in {source}")
    for fault in FAULTS:
        print(f"  {fault}: {counts[fault]:,}" + (f" ({counts[fault] / total:.2%})" if total else ""))
    _put(entries, list_, overwrite, lambda e: f"{e['id']}, completion {e['completion']}: {e['fault']}")
    next_steps(f"alignkit data report {source}")


@app.command()
def report(
    source: Source,
    out: Annotated[Path, typer.Option(metavar="PAGE.html", help="The page to write.")] = Path("report.html"),
    evaluation: Annotated[
        str | None, typer.Option("--eval", metavar="EVAL", help="Look for its prompts in FILE.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="The least similarity of near duplicates.")] = 0.8,
    region: Region = REGION,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, too.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write one HTML page about a dataset: what to know before training on it, then figures and plots."""
    from alignment.data.overview import overview
    from alignment.report.dataset import build_page

    if out.exists() and not overwrite:  # before the work, not after it
        raise UserError(f"{out} exists; choose another name or add --overwrite")
    known = Evaluation(native_records(evaluation)) if evaluation else None
    records = progress(native_records(source), "reading")
    found = overview(records, known, threshold, known_region(region))
    page = build_page(found, Path(source).name, evaluation and Path(evaluation).name, threshold)
    page.write(out, overwrite)
    if as_json:
        print(json.dumps(found.as_dict(), indent=2))
    print(f"the page about {found.statistics.rows:,} records of {source} is {out}; open it in a browser")


def known_region(region: str) -> str | None:
    """The region as phonenumbers knows it, None for "none". Raises UserError for an unknown one."""
    import phonenumbers

    if region.lower() == "none":
        return None
    if region.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise UserError(f'--region is two letters such as US, GB or DE, or none, not "{region}"')
    return region.upper()


def _write_without(left_out: set[int], source: str, out: Path, overwrite: bool) -> None:
    """Write the records of the source, but for the rows with these numbers."""
    with record_writer(out, overwrite) as writer:
        for row, record in enumerate(progress(native_records(source), "writing")):
            if row not in left_out:
                writer.write(record)
    print(f"{writer.rows:,} records in {out}; {source} is as it was")
    next_steps(f"alignkit data stats {out}")


def _put(
    entries: list[dict[str, Any]],
    path: Path | None,
    overwrite: bool,
    shown: Callable[[dict[str, Any]], str],
) -> None:
    """Write all entries to `path` as JSONL, or else print the first ten of them."""
    if path is None:
        for entry in entries[:SHOWN]:
            print(f"  {shown(entry)}")
        if len(entries) > SHOWN:
            print("  … all of them: --list LIST.jsonl")
        return
    with json_output(path, overwrite) as put:
        for entry in entries:
            put(msgspec.json.encode(entry))
    print(f"all {len(entries):,} findings in {path}")
