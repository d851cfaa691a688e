"""`alignkit label`: serve the labeling app, take records in and out, make accounts."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from alignment.errors import UserError

app = typer.Typer(no_args_is_help=True)
user = typer.Typer(no_args_is_help=True)
app.add_typer(user, name="user", help="Accounts of the labeling app.")

Database = Annotated[
    str,
    typer.Option(
        "--db",
        envvar="ALIGNKIT_LABEL_DB",
        help="sqlite:///FILE or postgresql+psycopg://user:password@host/name.",
        show_envvar=True,
    ),
]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
]
DEFAULT_DB = "sqlite:///labels.db"
OIDC = "Signing in through an OpenID provider"


@app.command()
def serve(
    db: Database = DEFAULT_DB,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate (PEM) to serve https with.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's private key (PEM).")] = None,
    oidc_issuer: Annotated[
        str | None, typer.Option(help="Address of the provider (its issuer).", rich_help_panel=OIDC)
    ] = None,
    oidc_client_id: Annotated[
        str | None,
        typer.Option(
            help="This server's name at the provider; its secret is read from ALIGNKIT_OIDC_CLIENT_SECRET.",
            rich_help_panel=OIDC,
        ),
    ] = None,
    oidc_name: Annotated[
        str, typer.Option(help="What the button says: Sign in with NAME.", rich_help_panel=OIDC)
    ] = "your organisation",
    oidc_allow: Annotated[
        list[str] | None,
        typer.Option(
            help="Who gets an account without an invitation: an address, @domain or *. Can be repeated.",
            rich_help_panel=OIDC,
        ),
    ] = None,
    oidc_role: Annotated[
        str, typer.Option(help="Role of those accounts: annotator or reviewer.", rich_help_panel=OIDC)
    ] = "annotator",
) -> None:
    """Serve the app in which people rank outputs. A new database is made, an old one brought up to date."""
    from sqlalchemy import func, select

    from labeling_app.server import check_port, serve_app
    from labeling_app.store.database import Store
    from labeling_app.store.models import annotators, tasks

    for path in (tls_cert, tls_key):
        if path is not None and not path.is_file():
            raise UserError(f"there is no file {str(path)!r}")
    check_port(host, port)
    provider = None
    if oidc_issuer is not None:
        provider = _provider(oidc_issuer, oidc_client_id, oidc_name, oidc_allow or [], oidc_role)
    store = Store(db, create=True)
    with store.read() as connection:
        accounts = connection.scalar(select(func.count()).select_from(annotators))
        count = connection.scalar(select(func.count()).select_from(tasks).where(tasks.c.status == "open"))
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    print(f"{count} open tasks in {store.url.render_as_string()}")
    if not accounts:
        print(f"No accounts yet. In another terminal: alignkit label user add NAME --db {db}")
    if tls_cert is None and host not in ("127.0.0.1", "localhost", "::1"):
        print("Passwords travel in the clear without TLS: use --tls-cert and --tls-key, or a reverse proxy.")
    address = f"{'https' if tls_cert else 'http'}://{shown}:{port}"
    if provider is not None:
        print(f"The provider must know this address: {address}/oidc/callback (or the same behind your proxy)")
    print(f"Open {address}/ (Ctrl-C stops the server)", flush=True)
    serve_app(store, host, port, tls_cert, tls_key, provider)


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="Records: a .jsonl, .jsonl.gz, .jsonl.zst or .parquet file.")],
    db: Database = DEFAULT_DB,
    project: Annotated[str, typer.Option(help="The project that the tasks go to.")] = "default",
    overlap: Annotated[
        int | None, typer.Option(min=1, max=1000, help="How many people judge each task (a new project: 1).")
    ] = None,
    guideline: Annotated[
        Path | None, typer.Option(help="A Markdown file that is shown beside every task.")
    ] = None,
) -> None:
    """Make ranking tasks of records with 2 to 8 outputs. Importing the same file twice adds nothing."""
    from labeling_app import imports
    from labeling_app.store.database import Store

    text = None if guideline is None else _read_text(guideline)
    looked = imports.look_through(file)
    done = imports.import_records(
        Store(db, create=True), imports.read_any(file, looked.format), project, overlap, text
    )
    print(f'Project "{done.project}": {done.added} tasks added, {done.present} were there already.')
    for reason, count in done.left_out.items():
        print(f"Left out: {count} with {reason}.")


@app.command()
def export(
    out: Annotated[str, typer.Argument(help="The file to write: .jsonl, .jsonl.gz, .jsonl.zst or .parquet.")],
    db: Database = DEFAULT_DB,
    project: Annotated[str | None, typer.Option(help="Needed if there are several projects.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Write tasks without a judgment too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write records with their judgments, as the reward stage takes them."""
    from labeling_app import exports
    from labeling_app.store.database import Store

    done = exports.export_records(Store(db), out, project, overwrite=overwrite, everything=everything)
    print(f"{out}: {done.written.rows} records with {done.judgments} judgments made here.")


@user.command("add")
def add_user(
    login: str,
    db: Database = DEFAULT_DB,
    role: Annotated[str, typer.Option(help="annotator, reviewer or admin.")] = "annotator",
    password_stdin: PasswordStdin = False,
) -> None:
    """Make an account. Asks for the password twice, or reads it with --password-stdin."""
    from labeling_app.store import audit, people
    from labeling_app.store.database import Store, utcnow

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


@user.command("list")
def list_users(db: Database = DEFAULT_DB) -> None:
    """List the accounts: login, role, and the name that exports use."""
    from sqlalchemy import select

    from labeling_app.store.database import Store
    from labeling_app.store.models import annotators

    with Store(db).read() as connection:
        rows = connection.execute(select(annotators).order_by(annotators.c.login)).all()
    for row in rows:
        print(f"{row.login}\t{row.role}\t{row.public_id}{'' if row.active else ' (inactive)'}")


def _provider(issuer: str, client_id: str | None, name: str, allowed: list[str], role: str) -> Any:
    """The OpenID provider, asked at once, so that a wrong issuer is told before anybody signs in."""
    from labeling_app import oidc

    if client_id is None:
        raise UserError("--oidc-issuer needs --oidc-client-id")
    secret = os.environ.get(oidc.SECRET_VARIABLE)
    if secret is None:
        raise UserError(f"set {oidc.SECRET_VARIABLE} to the client's secret (to nothing for a public client)")
    rules = tuple(rule.strip().lower() for rule in allowed)
    provider = oidc.Provider(oidc.Settings(issuer, client_id, secret or None, name, rules, role))
    try:
        provider.metadata()
    except oidc.SignOnFailed:
        print(f"The provider at {issuer} does not answer: nobody can sign in through it until it does.")
    return provider


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UserError("there is no terminal to ask for a password; pipe it in with --password-stdin")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start})") from None
