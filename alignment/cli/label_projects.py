"""`alignkit label project`: what a project asks, and of whom."""

import inspect
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from alignment.cli.label_options import DEFAULT_DB, Database, read_text
from alignment.errors import UserError

project = typer.Typer(no_args_is_help=True)
BEFORE, QUALITY = "Before the first task", "Quality"
CLEARABLE = ("consent", "warning", "form")

Asks = Annotated[str | None, typer.Option(help="ranking, pair or ratings.")]
Form = Annotated[
    Path | None,
    typer.Option(help="YAML or JSON: dimensions, rationale, rewrite, strength (docs/labeling_admin.md)."),
]
Guideline = Annotated[Path | None, typer.Option(help="A Markdown file that is shown beside every task.")]
Overlap = Annotated[int | None, typer.Option(help="How many people judge each task.")]
Consent = Annotated[
    Path | None, typer.Option(help="Markdown that has to be agreed to.", rich_help_panel=BEFORE)
]
Warning_ = Annotated[
    Path | None, typer.Option(help="Markdown that warns of the content.", rich_help_panel=BEFORE)
]
Practice = Annotated[
    int | None, typer.Option(help="How many practice tasks come first.", rich_help_panel=BEFORE)
]
Needed = Annotated[
    float | None, typer.Option(help="Share of them that has to be right, 0 to 1.", rich_help_panel=BEFORE)
]
Rate = Annotated[
    float | None,
    typer.Option(help="Share of gold among the tasks given out, 0 to 1.", rich_help_panel=QUALITY),
]
Feedback = Annotated[
    bool | None,
    typer.Option(
        "--gold-feedback/--gold-silent", help="Tell the known answer at once.", rich_help_panel=QUALITY
    ),
]


def _given(
    asks: Asks = None,
    form: Form = None,
    guideline: Guideline = None,
    overlap: Overlap = None,
    consent: Consent = None,
    warning: Warning_ = None,
    practice: Practice = None,
    practice_needed: Needed = None,
    gold_rate: Rate = None,
    gold_feedback: Feedback = None,
) -> dict[str, Any]:
    """The settings that were given, by their names in the store."""
    texts = {"guideline": guideline, "consent": consent, "warning": warning}
    given: dict[str, Any] = {key: read_text(path) for key, path in texts.items() if path is not None}
    if form is not None:
        given["form"] = _form(form)
    plain = {"asks": asks, "overlap": overlap, "practice_tasks": practice, "practice_needed": practice_needed}
    gold = {"gold_rate": gold_rate, "gold_feedback": gold_feedback}
    return given | {key: value for key, value in (plain | gold).items() if value is not None}


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `_given` for its `**settings`: typer reads options off a signature."""
    own, given = inspect.signature(command), inspect.signature(_given)
    kept = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
    command.__signature__ = own.replace(parameters=[*kept, *given.parameters.values()])  # type: ignore[attr-defined]
    return command


@project.command("add")
@_with_settings
def add_project(
    name: str,
    db: Database = DEFAULT_DB,
    **settings: Any,
) -> None:
    """Make a project; `label import --project NAME` gives it tasks."""
    from labeling_app.imports import DEFAULT_GUIDELINE
    from labeling_app.store import audit, projects
    from labeling_app.store.database import Store, utcnow

    made = projects.Settings(**{"name": name, "guideline": DEFAULT_GUIDELINE, **_given(**settings)})
    with Store(db, create=True).write() as tx:
        projects.add(tx, utcnow(), audit.COMMAND_LINE, made)
    print(f'Project "{made.name}" is made. It asks for {_asked(made.asks)}.')


@project.command("set")
@_with_settings
def set_project(
    name: str,
    db: Database = DEFAULT_DB,
    clear: Annotated[
        list[str] | None, typer.Option(help="Take away: consent, warning or form. Can be repeated.")
    ] = None,
    rename: Annotated[str | None, typer.Option(metavar="NEW", help="Another name.")] = None,
    active: Annotated[
        bool | None, typer.Option("--open/--close", help="Whether its tasks are given out.")
    ] = None,
    **settings: Any,
) -> None:
    """Change what a project asks. Another guideline is a new version, and judgments name theirs."""
    from labeling_app.store import audit, projects
    from labeling_app.store.database import Store, utcnow

    given = _given(**settings)
    for key in clear or []:
        if key not in CLEARABLE:
            raise UserError(f"--clear {key!r} is none of {', '.join(CLEARABLE)}")
        given[key] = None
    given |= {} if rename is None else {"name": rename}
    given |= {} if active is None else {"active": active}
    with Store(db).write() as tx:
        number, before = _settings(tx, name)
        changed = projects.change(tx, utcnow(), audit.COMMAND_LINE, number, replace(before, **given))
    print(f'Project "{rename or name}": {", ".join(changed) or "nothing"} changed.')


@project.command("list")
def list_projects(db: Database = DEFAULT_DB) -> None:
    """List the projects: name, what is asked, tasks done of all, judgments made of those wanted."""
    from labeling_app.store import projects
    from labeling_app.store.database import Store

    with Store(db).read() as connection:
        rows = projects.counts(connection)
    for row in rows:
        state = "" if row["active"] else "\t(closed)"
        tasks = f"{row['tasks_done']} of {row['tasks']} tasks, {row['done']} of {row['wanted']} judgments"
        known = f"{row['gold']} gold, {row['practice']} practice"
        print(f"{row['name']}\t{row['asks']}\toverlap {row['overlap']}\t{tasks}\t{known}{state}")


@project.command("show")
def show_project(name: str, db: Database = DEFAULT_DB) -> None:
    """Print a project's settings as YAML."""
    import yaml

    from labeling_app.store.database import Store

    with Store(db).read() as connection:
        _, settings = _settings(connection, name)
    print(yaml.safe_dump(asdict(settings), sort_keys=False, allow_unicode=True), end="")


def _settings(connection: Any, name: str) -> tuple[int, Any]:
    """The project's id and its settings as they are."""
    from labeling_app.store import projects

    number = projects.project_id(connection, name)
    row = projects.named(connection, number)
    assert row is not None
    return number, projects.Settings(**{field.name: row[field.name] for field in fields(projects.Settings)})


def _form(path: Path) -> dict[str, Any]:
    import yaml

    try:
        form = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(form, dict):
        raise UserError(f"{path}: a form is a mapping with dimensions, rationale, rewrite or strength")
    return form


def _asked(asks: str) -> str:
    return {"ranking": "a ranking", "pair": "the better one of two", "ratings": "ratings"}[asks]
