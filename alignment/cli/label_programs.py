"""`alignkit label token` and `alignkit label webhook`: programs that feed and drain the app."""

from typing import Annotated

import typer

from alignment.cli.label_options import DEFAULT_DB, Database, day

token = typer.Typer(no_args_is_help=True)
webhook = typer.Typer(no_args_is_help=True)


@token.command("add")
def add_token(
    name: Annotated[str, typer.Argument(help="What uses it, for the list.")],
    db: Database = DEFAULT_DB,
    write: Annotated[bool, typer.Option("--write", help="It may add tasks, not only read.")] = False,
    project: Annotated[str | None, typer.Option(help="For this project alone.")] = None,
    days: Annotated[float | None, typer.Option(min=0.01, help="How long it lives.")] = None,
) -> None:
    """Make a token of the HTTP API and print it, which happens only this once."""
    from labeling_app.store import tokens
    from labeling_app.store.database import Store, utcnow

    with Store(db, create=True).write() as tx:
        made = tokens.add_token(tx, utcnow(), name, can_write=write, project=project, days=days)
    print(made)


@token.command("list")
def list_tokens(db: Database = DEFAULT_DB) -> None:
    """List the tokens: number, name, what each may do, until when (UTC)."""
    from labeling_app.store import tokens
    from labeling_app.store.database import Store

    with Store(db).read() as connection:
        rows = tokens.all_tokens(connection)
    for row in rows:
        may = "reads and writes" if row["can_write"] else "reads"
        ends = f"revoked {day(row['revoked_at'])}" if row["revoked_at"] else f"until {day(row['expires_at'])}"
        print(f"{row['id']}\t{row['name']}\t{may} {row['project'] or 'every project'}\t{ends}")


@token.command("revoke")
def revoke_token(number: int, db: Database = DEFAULT_DB) -> None:
    """End a token at once."""
    from labeling_app.store import tokens
    from labeling_app.store.database import Store, utcnow

    with Store(db).write() as tx:
        tokens.revoke_token(tx, utcnow(), number)
    print(f"Token {number} is revoked.")


@webhook.command("add")
def add_webhook(
    url: Annotated[str, typer.Argument(help="Where each judgment is sent, by POST.")],
    db: Database = DEFAULT_DB,
    project: Annotated[str, typer.Option(help="Whose judgments.")] = "default",
) -> None:
    """Tell an address of every judgment from now on. Prints the secret that signs what is sent."""
    from labeling_app.store import outbox
    from labeling_app.store.database import Store, utcnow

    with Store(db, create=True).write() as tx:
        number, secret = outbox.add_webhook(tx, utcnow(), project, url)
    print(f"Webhook {number}. Its secret, shown only now: {secret}")


@webhook.command("list")
def list_webhooks(db: Database = DEFAULT_DB) -> None:
    """List the webhooks: number, project, address, how many judgments wait, and why."""
    from labeling_app.store import outbox
    from labeling_app.store.database import Store

    with Store(db).read() as connection:
        rows = outbox.all_webhooks(connection)
    for row in rows:
        why = f": {row['problem']}" if row["problem"] else ""
        print(f"{row['id']}\t{row['project']}\t{row['url']}\t{row['waiting']} waiting{why}")


@webhook.command("remove")
def remove_webhook(number: int, db: Database = DEFAULT_DB) -> None:
    """Stop telling an address, also of what waits."""
    from labeling_app.store import outbox
    from labeling_app.store.database import Store, utcnow

    with Store(db).write() as tx:
        outbox.remove_webhook(tx, utcnow(), number)
    print(f"Webhook {number} is removed.")
