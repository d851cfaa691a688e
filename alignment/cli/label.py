"""`alignkit label`: serve the labeling app. Its other commands are in files of their own."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from alignment.cli import label_people, label_programs, label_projects, label_records, label_upkeep
from alignment.cli.label_options import DEFAULT_DB, Database
from alignment.errors import UserError

app = typer.Typer(no_args_is_help=True)
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
        print("No accounts yet. In another terminal: alignkit label user add NAME --role admin (and --db)")
    if tls_cert is None and host not in ("127.0.0.1", "localhost", "::1"):
        print("Passwords travel in the clear without TLS: use --tls-cert and --tls-key, or a reverse proxy.")
    address = f"{'https' if tls_cert else 'http'}://{shown}:{port}"
    if provider is not None:
        print(f"The provider must know this address: {address}/oidc/callback (or the same behind your proxy)")
    print(f"Open {address}/ (Ctrl-C stops the server)", flush=True)
    serve_app(store, host, port, tls_cert, tls_key, provider)


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


app.command("import")(label_records.import_)
app.command()(label_records.export)
app.add_typer(label_projects.project, name="project", help="Projects: make, change, list, show.")
app.add_typer(label_people.user, name="user", help="Accounts: make, list, close, roles, passwords.")
app.command()(label_people.invite)
app.add_typer(label_programs.token, name="token", help="Tokens of the HTTP API, for programs.")
app.add_typer(label_programs.webhook, name="webhook", help="Addresses that are told of each judgment.")
app.command()(label_upkeep.audit)
app.command("forget")(label_upkeep.forget_user)
app.command("forget-task")(label_upkeep.forget_task)
app.command("backup")(label_upkeep.back_up)
app.command()(label_upkeep.restore)
