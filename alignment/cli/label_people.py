"""`alignkit label user` and `alignkit label invite`: accounts."""

import sys
from typing import Annotated

import typer

from alignment.cli.label_options import DEFAULT_DB, Database
from alignment.errors import UserError

user = typer.Typer(no_args_is_help=True)
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
]
Role = Annotated[str, typer.Option(help="annotator, reviewer or admin.")]


@user.command("add")
def add_user(
    login: str, db: Database = DEFAULT_DB, role: Role = "annotator", password_stdin: PasswordStdin = False
) -> None:
    """Make an account. Asks for the password twice, or reads it with --password-stdin."""
    from labeling_app.store import audit, people
    from labeling_app.store.database import Store, utcnow

    people.checked_role(role)  # before a password is asked for
    store = Store(db, create=True)
    password, passwords = _password(password_stdin), people.Passwords()
    with store.write() as tx:
        name = people.add_annotator(tx, utcnow(), login, password, role, passwords, audit.COMMAND_LINE)
    print(f"{people.clean_login(login)} ({role}) can sign in; exports call this person {name}.")


@user.command("password")
def set_password(login: str, db: Database = DEFAULT_DB, password_stdin: PasswordStdin = False) -> None:
    """Set a new password and sign the account out everywhere."""
    from labeling_app.store import audit, people
    from labeling_app.store.database import Store, utcnow

    store = Store(db)
    password, passwords = _password(password_stdin), people.Passwords()
    with store.write() as tx:
        people.set_password(tx, utcnow(), login, password, passwords, audit.COMMAND_LINE)
    print(f"{people.clean_login(login)} has a new password and is signed out everywhere.")


@user.command("role")
def set_role(login: str, role: str, db: Database = DEFAULT_DB) -> None:
    """Give an account another role: annotator, reviewer or admin."""
    from labeling_app.store import audit, people
    from labeling_app.store.database import Store, utcnow

    with Store(db).write() as tx:
        people.set_role(tx, utcnow(), login, role, audit.COMMAND_LINE)
    print(f"{people.clean_login(login)} is {role}.")


@user.command("close")
def close_user(login: str, db: Database = DEFAULT_DB) -> None:
    """Close an account and end its sessions; its judgments stay. `user open` opens it again."""
    from labeling_app.store import audit, people
    from labeling_app.store.database import Store, utcnow

    with Store(db).write() as tx:
        people.set_active(tx, utcnow(), login, False, audit.COMMAND_LINE)
    print(f"{people.clean_login(login)} can no longer sign in.")


@user.command("open")
def open_user(login: str, db: Database = DEFAULT_DB) -> None:
    """Open an account that was closed."""
    from labeling_app.store import audit, people
    from labeling_app.store.database import Store, utcnow

    with Store(db).write() as tx:
        people.set_active(tx, utcnow(), login, True, audit.COMMAND_LINE)
    print(f"{people.clean_login(login)} can sign in again.")


@user.command("list")
def list_users(db: Database = DEFAULT_DB) -> None:
    """List the accounts: login, role, and the name that exports use."""
    from sqlalchemy import select

    from labeling_app.store.database import Store
    from labeling_app.store.models import annotators

    with Store(db).read() as connection:
        rows = connection.execute(select(annotators).order_by(annotators.c.login)).all()
    for row in rows:
        print(f"{row.login}\t{row.role}\t{row.public_id}{'' if row.active else ' (closed)'}")


def invite(
    db: Database = DEFAULT_DB,
    role: Role = "annotator",
    days: Annotated[float, typer.Option(min=0.01, max=365, help="How long the link can be used.")] = 7,
    address: Annotated[str, typer.Option(help="Where people reach the server.")] = "http://127.0.0.1:7860",
) -> None:
    """Print a link by which one person makes an account with a password of their own."""
    from labeling_app.store import invitations
    from labeling_app.store.database import Store, utcnow

    with Store(db, create=True).write() as tx:
        token = invitations.invite(tx, utcnow(), role, days, None)
    print(f"{address.rstrip('/')}/invite/{token}")
    print(f"For one person, as {role}, within {days:g} days. Whoever has the link can use it.")


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UserError("there is no terminal to ask for a password; pipe it in with --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
