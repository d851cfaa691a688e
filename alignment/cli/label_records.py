"""`alignkit label`: records in and out."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from alignment.cli.label_options import DEFAULT_DB, Database, Overwrite, read_text
from alignment.errors import UserError

COMPARISON = "Comparing two models"
KNOWN = "Tasks with a known answer"
Read = Callable[[], Iterator[Any]]


def import_(
    file: Annotated[
        str | None,
        typer.Argument(help="Records of any format that `alignkit data convert` knows.", show_default=False),
    ] = None,
    db: Database = DEFAULT_DB,
    project: Annotated[
        str | None,
        typer.Option(help="The project that the tasks go to: default, or with --compare comparison."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=1, max=1000, help="How many people judge each task (a new project: 1).")
    ] = None,
    guideline: Annotated[
        Path | None, typer.Option(help="A Markdown file that is shown beside every task.")
    ] = None,
    asks: Annotated[
        str | None,
        typer.Option(help="Of a new project: ranking, pair or ratings (`label project` has more)."),
    ] = None,
    from_: Annotated[
        str, typer.Option("--from", help="The file's format, if it is not to be told.")
    ] = "auto",
    priority_from: Annotated[
        str | None,
        typer.Option(
            help="What orders the queue, highest first: a number in each record such as meta.uncertainty, or "
            "`rewards`, how far the members of a reward ensemble are apart.",
        ),
    ] = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Replace personal data by placeholders such as [EMAIL].")
    ] = False,
    gold: Annotated[
        bool,
        typer.Option(
            "--gold",
            help="Each record's one judgment is the known answer; tasks are mixed in.",
            rich_help_panel=KNOWN,
        ),
    ] = False,
    practice: Annotated[
        bool,
        typer.Option(
            "--practice",
            help="The same, for the practice round before the first task.",
            rich_help_panel=KNOWN,
        ),
    ] = False,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Two files of completions for the same prompts, in place of FILE: a blind comparison.",
            rich_help_panel=COMPARISON,
        ),
    ] = None,
    names: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="What exports call the two.", rich_help_panel=COMPARISON),
    ] = None,
) -> None:
    """Make tasks of records with 2 to 8 outputs. Importing the same file twice adds nothing."""
    from labeling_app import imports

    if (file is None) == (compare is None):
        raise UserError("name one file to import, or two with --compare")
    if gold and practice:
        raise UserError("a task is either --gold or --practice; import two files")
    if compare is not None and (gold or practice):
        raise UserError("a comparison has no known answers: --gold and --practice go with a file")
    text = None if guideline is None else read_text(guideline)
    read: Read
    if compare is not None:
        read, personal = _compared(compare, names, priority_from)
        project, asks = project or "comparison", asks or "pair"
    else:
        assert file is not None
        looked = imports.look_through(file, from_, priority_from)
        if looked.format != "native":
            print(f"{file} is {looked.format}, by {looked.by}.")
        read, personal = lambda: imports.read_any(file, looked.format), looked.personal
    if redact:
        plain = read
        read = lambda: imports.redacted(plain())  # noqa: E731
    _tell_personal(personal, redact)
    kind = "gold" if gold else "practice" if practice else None
    _import(db, read, project or imports.DEFAULT_PROJECT, overlap, text, asks, priority_from, kind)


def _compared(
    files: tuple[str, str], names: tuple[str, str] | None, priority_from: str | None
) -> tuple[Read, Counter[str]]:
    from labeling_app import compare, imports

    compared = compare.Compared(*files, names)
    personal = imports.look_over(compared.records(), priority_from)
    print(f"{compared.names[0]} against {compared.names[1]}; annotators see neither name.")
    if compared.only_one:
        print(f"Left out: {compared.only_one} prompts that only one of them answers.")
    return compared.records, personal


def _tell_personal(personal: Counter[str], redact: bool) -> None:
    if not personal:
        return
    listed = ", ".join(f"{count} {kind}" for kind, count in personal.most_common())
    if redact:
        print(f"Personal data was replaced by placeholders: {listed}.")
    else:
        print(f"Warning: these records seem to hold personal data: {listed}. Annotators will read it;")
        print("  --redact puts a placeholder in its place, `alignkit data personal` shows where it is.")


def _import(
    db: str,
    read: Read,
    project: str,
    overlap: int | None,
    guideline: str | None,
    asks: str | None,
    priority_from: str | None,
    kind: str | None,
) -> None:
    from labeling_app import imports
    from labeling_app.store import audit, gold, projects
    from labeling_app.store.database import Store, utcnow

    if kind is not None:
        for number, record in enumerate(read(), start=1):
            gold.known_answer(record, f"record {number}")
    store, now = Store(db, create=True), utcnow()
    with store.write() as tx:
        done = imports.import_into(
            tx, now, read(), project, overlap, guideline, asks=asks, priority_from=priority_from
        )
        if kind is not None:
            number = projects.project_id(tx, project)
            gold.mark(tx, now, audit.COMMAND_LINE, number, read(), practice=kind == "practice")
    print(f'Project "{done.project}": {done.added} tasks added, {done.present} were there already.')
    if kind is not None:
        print(f"They are {kind} tasks: everybody gets them, and they count for no overlap.")
    for reason, count in done.left_out.items():
        print(f"Left out: {count} with {reason}.")


def export(
    out: Annotated[str, typer.Argument(help="The file to write: .jsonl, .jsonl.gz, .jsonl.zst or .parquet.")],
    db: Database = DEFAULT_DB,
    project: Annotated[str | None, typer.Option(help="Needed if there are several projects.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Write tasks without a judgment too.")] = False,
    gold: Annotated[bool, typer.Option("--gold", help="Write gold and practice tasks too.")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write records with their judgments, as the reward stage takes them."""
    from labeling_app import exports
    from labeling_app.store.database import Store

    done = exports.export_records(
        Store(db), out, project, overwrite=overwrite, everything=everything, gold=gold
    )
    print(f"{out}: {done.written.rows} records with {done.judgments} judgments made here.")
