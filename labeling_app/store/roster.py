"""The accounts as an admin sees them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, RowMapping, func, select

from labeling_app.store.models import annotators, assignments, sessions


def everybody(connection: Connection, now: datetime) -> list[RowMapping]:
    """Every account, the open ones first: login, public_id, role, active, created_at, whether it signs in
    elsewhere, how many tasks it has judged, and in how many browsers it is signed in."""
    a = annotators.c
    judged = (
        select(assignments.c.annotator_id, func.count().label("count"))
        .where(assignments.c.state == "submitted")
        .group_by(assignments.c.annotator_id)
        .subquery()
    )
    live = (
        select(func.count())
        .where(sessions.c.annotator_id == a.id, sessions.c.expires_at > now)
        .correlate(annotators)
        .scalar_subquery()
    )
    wanted = (
        select(
            a.id,
            a.login,
            a.public_id,
            a.role,
            a.active,
            a.created_at,
            a.oidc_issuer.is_not(None).label("elsewhere"),
            func.coalesce(judged.c.count, 0).label("judged"),
            live.label("sessions"),
        )
        .outerjoin(judged, judged.c.annotator_id == a.id)
        .order_by(~a.active, a.login)
    )
    return list(connection.execute(wanted).mappings())
