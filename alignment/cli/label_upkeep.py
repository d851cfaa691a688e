"""`alignkit label`: the audit log, forgetting, backup and restore."""

from pathlib import Path
from typing import Annotated, Any

import typer

from alignment.cli.label_options import DEFAULT_DB, Database, Overwrite, Yes, confirm, day
from alignment.errors import UserError


def audit(db: Database = DEFAULT_DB) -> None:
    """Check the audit log: that no row of its chain of hashes was altered, left out or put in."""
    from labeling_app.store import audit as log
    from labeling_app.store.database import Store

    with Store(db).read() as connection:
        length, last = log.verify(connection), log.last_hash(connection)
    print(f"The audit log is whole: {length} rows, the last one's hash is {last}.")
    print("Keep the hash elsewhere: a log that was cut short or written anew ends in another one.")


Runs = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where training runs lie: those that read such an export too."),
]


def forget_user(login: str, db: Database = DEFAULT_DB, yes: Yes = False, runs: Runs = None) -> None:
    """Remove a person: login, way to sign in, and every text they wrote. Lists the exports that hold some.

    Ranks and ratings stay, under a name that leads to nobody. It cannot be undone.
    """
    from labeling_app.store import forget
    from labeling_app.store.database import Store, utcnow

    store = Store(db)
    confirm(f"Remove {login} and everything that they wrote, for good?", yes)
    with store.write() as tx:
        done = forget.forget_person(tx, utcnow(), login)
    _show_forgotten(store, done, f"{login} is forgotten; exports call this person {done.name}.", runs)


def forget_task(
    task: Annotated[str, typer.Argument(metavar="ID", help="The record's id.")],
    db: Database = DEFAULT_DB,
    project: Annotated[str | None, typer.Option(help="Needed if several projects have this id.")] = None,
    yes: Yes = False,
    runs: Runs = None,
) -> None:
    """Remove a task's prompt, its outputs and what was written about it. Lists the exports that hold it.

    The id stays, so that importing the same records again does not bring it back. It cannot be undone.
    """
    from labeling_app.store import forget
    from labeling_app.store.database import Store, utcnow

    store = Store(db)
    with store.read() as connection:
        found = forget.projects_with_task(connection, task)
    chosen = [row for row in found if project in (None, row["name"])]
    if not chosen:
        raise UserError(f'there is no task "{task}"' + (f' in project "{project}"' if project else ""))
    if len(chosen) > 1:
        names = ", ".join(row["name"] for row in chosen)
        raise UserError(f'several projects have a task "{task}": {names}; say which with --project')
    confirm(f'Remove the texts of task "{task}" of project "{chosen[0]["name"]}" for good?', yes)
    with store.write() as tx:
        done = forget.forget_task(tx, utcnow(), chosen[0]["id"], task)
    _show_forgotten(store, done, f'Task "{task}" is forgotten.', runs)


def _show_forgotten(store: Any, done: Any, sentence: str, runs: Path | None) -> None:
    """Say what was removed and where it still is, and rewrite the file so that nothing is left in it."""
    print(sentence)
    removed = ", ".join(f"{count} {kind}" for kind, count in done.removed.items() if count)
    print(f"Removed: {removed or 'nothing was written'}.")
    if not store.compact():
        print("The server reads on: the -wal file beside the database keeps old pages until it is restarted.")
    if not done.exports:
        print("No export held any of it. Backups that were made before still do.")
        return
    print("These exports held some of it:")
    for row in done.exports:
        made = f"{day(row['created_at'])} by {row['actor']}"
        print(f"  {row['name']}\t{row['fingerprint']}\t{row['project']}\t{made}")
    if runs is None:
        print("Models may have been trained on them; --runs DIR names the runs, by these fingerprints.")
    else:
        _show_runs(runs, {row["fingerprint"] for row in done.exports})
    print("Backups that were made before hold it too.")


def _show_runs(folder: Path, prints: set[str]) -> None:
    from alignment.backend.runs import trained_on

    found = trained_on(folder, prints)
    print(f"Runs below {folder} that read one of them, or went on from such a model: {len(found) or 'none'}.")
    for run in found:
        print(f"  {run}")


def back_up(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    db: Database = DEFAULT_DB,
    overwrite: Overwrite = False,
) -> None:
    """Copy the whole database into one SQLite file, checked, while people work on."""
    from labeling_app.store import backup
    from labeling_app.store.database import Store

    copied = backup.back_up(Store(db, any_version=True), out, overwrite=overwrite)
    _show_copied(f"{out}:", copied)


def restore(
    file: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `label backup` wrote.")],
    db: Database = DEFAULT_DB,
    overwrite: Overwrite = False,
) -> None:
    """Make a database of a backup: a new one, or with --overwrite in place of what is there."""
    from labeling_app.store import backup

    copied = backup.restore(file, db, overwrite=overwrite)
    _show_copied("Restored:", copied)


def _show_copied(start: str, copied: Any) -> None:
    counts = {name: copied.rows.get(name, 0) for name in ("projects", "tasks", "annotators", "judgments")}
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{start} {listed}; the audit log's {copied.audit_rows} rows are whole.")
