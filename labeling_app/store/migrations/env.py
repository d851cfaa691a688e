"""Run by alembic. The connection, with its transaction begun, comes from Store._migrate."""

from __future__ import annotations

from alembic import context

from labeling_app.store.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
