"""The audit log as people read it: filtered, a page at a time. audit.py writes it."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, select

from labeling_app.store.models import annotators, audit_log


def entries(
    connection: Connection,
    *,
    actor: str | None = None,
    action: str | None = None,
    entity: str | None = None,
    below: int | None = None,
    limit: int = 100,
) -> list[RowMapping]:
    """Rows of the log, the newest first, with the actor's login where it has one.

    actor: a public id or "command line"; action: exactly; entity: how it begins ("project/3");
    below: only rows with a lower number, to go on from the last one shown.
    """
    log = audit_log.c
    wanted = select(audit_log, annotators.c.login).outerjoin(annotators, annotators.c.public_id == log.actor)
    if actor:
        wanted = wanted.where(log.actor == actor)
    if action:
        wanted = wanted.where(log.action == action)
    if entity:
        wanted = wanted.where(log.entity.startswith(entity, autoescape=True))
    if below is not None:
        wanted = wanted.where(log.id < below)
    return list(connection.execute(wanted.order_by(log.id.desc()).limit(limit)).mappings())


def actions(connection: Connection) -> list[str]:
    """Every action that the log has."""
    return list(connection.scalars(select(audit_log.c.action).distinct().order_by(audit_log.c.action)))


def actors(connection: Connection) -> list[tuple[str, str]]:
    """Everybody in the log, as (what a page shows, the actor)."""
    log = audit_log.c
    rows = connection.execute(
        select(log.actor, annotators.c.login)
        .outerjoin(annotators, annotators.c.public_id == log.actor)
        .distinct()
        .order_by(annotators.c.login, log.actor)
    )
    return [(f"{row.login} ({row.actor})" if row.login else row.actor, row.actor) for row in rows]
