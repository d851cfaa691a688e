"""The exports that were made, and how much the next one would hold."""

from __future__ import annotations

from sqlalchemy import Connection, RowMapping, func, select

from labeling_app.store.models import annotators, exports, tasks


def made(connection: Connection, project_id: int, limit: int = 20) -> list[RowMapping]:
    """The last exports of a project: name, rows, fingerprint, created_at, and `who` made it."""
    e = exports.c
    wanted = (
        select(
            e.id,
            e.name,
            e.rows,
            e.fingerprint,
            e.created_at,
            func.coalesce(annotators.c.login, e.actor).label("who"),
        )
        .outerjoin(annotators, annotators.c.public_id == e.actor)
        .where(e.project_id == project_id)
        .order_by(e.id.desc())
        .limit(limit)
    )
    return list(connection.execute(wanted).mappings())


def judged(connection: Connection, project_id: int) -> tuple[int, int]:
    """How many tasks of a project have a judgment that was made here, and how many judgments those are."""
    t = tasks.c
    wanted = select(func.count(), func.coalesce(func.sum(t.n_judgments), 0)).where(
        t.project_id == project_id, t.n_judgments > 0, ~t.is_gold, ~t.is_practice
    )
    row = connection.execute(wanted).one()
    return row[0], row[1]
