"""What comes before the first task, versions of guidelines, flags, adjudication, invitations, the HTTP API,
webhooks, and who is in which export.

The way down drops the tables that this revision made, with their rows: consents, results of practice rounds,
older guidelines, flags, adjudications, invitations, tokens, webhooks and what they were not told yet, and
the lists of who is in which export. Of the projects it drops the forms, consent texts, warnings and practice
rules. Practice tasks are withdrawn, because the first schema would give them to everybody as ordinary ones.
Tasks, judgments, drafts, accounts and the audit log stay as they are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("can_write", sa.Boolean(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_api_tokens_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_api_tokens"),
        sa.UniqueConstraint("token_hash", name="uq_api_tokens_token_hash"),
    )
    op.create_table(
        "enrolments",
        sa.Column("annotator_id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("consented_at", sa.DateTime(), nullable=True),
        sa.Column("consent_version", sa.String(length=64), nullable=True),
        sa.Column("warned_at", sa.DateTime(), nullable=True),
        sa.Column("warning_version", sa.String(length=64), nullable=True),
        sa.Column("declined_at", sa.DateTime(), nullable=True),
        sa.Column("practice_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("practice_right", sa.Float(), server_default="0", nullable=False),
        sa.Column("qualified_at", sa.DateTime(), nullable=True),
        sa.Column("chosen_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["annotator_id"], ["annotators.id"], name="fk_enrolments_annotator_id"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_enrolments_project_id"),
        sa.PrimaryKeyConstraint("annotator_id", "project_id", name="pk_enrolments"),
    )
    op.create_table(
        "exports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_exports_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_exports"),
    )
    op.create_table(
        "guidelines",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_guidelines_project_id"),
        sa.PrimaryKeyConstraint("project_id", "version", name="pk_guidelines"),
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("made_by", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("used_at", sa.DateTime(), nullable=True),
        sa.Column("used_by", sa.Integer(), nullable=True),
        sa.CheckConstraint("role IN ('annotator', 'reviewer', 'admin')", name="ck_invitations_role"),
        sa.ForeignKeyConstraint(["made_by"], ["annotators.id"], name="fk_invitations_made_by"),
        sa.ForeignKeyConstraint(["used_by"], ["annotators.id"], name="fk_invitations_used_by"),
        sa.PrimaryKeyConstraint("id", name="pk_invitations"),
        sa.UniqueConstraint("token_hash", name="uq_invitations_token_hash"),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_webhooks_project_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_table(
        "adjudications",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("reviewer_id", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("ranks", sa.JSON(), nullable=True),
        sa.Column("both_bad", sa.Boolean(), nullable=False),
        sa.Column("rationale", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["reviewer_id"], ["annotators.id"], name="fk_adjudications_reviewer_id"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_adjudications_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_adjudications"),
        sa.UniqueConstraint("task_id", "revision", name="uq_adjudications_task_id_revision"),
    )
    op.create_table(
        "exported",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("export_id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("annotator_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["annotator_id"], ["annotators.id"], name="fk_exported_annotator_id"),
        sa.ForeignKeyConstraint(
            ["export_id"], ["exports.id"], name="fk_exported_export_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_exported_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_exported"),
        sa.UniqueConstraint(
            "export_id", "task_id", "annotator_id", name="uq_exported_export_id_task_id_annotator_id"
        ),
    )
    op.create_index("ix_exported_task_id", "exported", ["task_id"])
    op.create_index("ix_exported_annotator_id", "exported", ["annotator_id"])
    op.create_table(
        "flags",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("assignment_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("resolved_at", sa.DateTime(), nullable=True),
        sa.Column("resolved_by", sa.Integer(), nullable=True),
        sa.CheckConstraint("kind IN ('skip', 'flag', 'content')", name="ck_flags_kind"),
        sa.ForeignKeyConstraint(["assignment_id"], ["assignments.id"], name="fk_flags_assignment_id"),
        sa.ForeignKeyConstraint(["resolved_by"], ["annotators.id"], name="fk_flags_resolved_by"),
        sa.PrimaryKeyConstraint("id", name="pk_flags"),
    )
    op.create_index("ix_flags_assignment_id", "flags", ["assignment_id"])

    op.create_table(
        "deliveries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("webhook_id", sa.Integer(), nullable=False),
        sa.Column("judgment_id", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(), nullable=False),
        sa.Column("delivered_at", sa.DateTime(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["judgment_id"], ["judgments.id"], name="fk_deliveries_judgment_id"),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name="fk_deliveries_webhook_id"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("webhook_id", "judgment_id", name="uq_deliveries_webhook_id_judgment_id"),
    )
    op.create_index("ix_deliveries_due", "deliveries", ["delivered_at", "next_at"])

    op.add_column(
        "projects", sa.Column("gold_feedback", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("projects", sa.Column("form", sa.JSON(), nullable=True))
    op.add_column("projects", sa.Column("consent", sa.Text(), nullable=True))
    op.add_column("projects", sa.Column("warning", sa.Text(), nullable=True))
    op.add_column("projects", sa.Column("practice_tasks", sa.Integer(), server_default="0", nullable=False))
    op.add_column("projects", sa.Column("practice_needed", sa.Float(), server_default="0", nullable=False))

    op.add_column("tasks", sa.Column("is_practice", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.drop_index("ix_tasks_queue", "tasks")
    order: list[str | sa.TextClause] = [
        "project_id", "status", "is_gold", "is_practice", sa.text("priority DESC"), "id",
    ]  # fmt: skip
    op.create_index("ix_tasks_queue", "tasks", order)

    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_index("ix_assignments_room", "assignments", ["task_id", "state", "leased_until"])

    op.execute(
        "INSERT INTO guidelines (project_id, version, text, created_at) "
        "SELECT id, guideline_version, guideline, created_at FROM projects"
    )


def downgrade() -> None:
    # Plain DROP COLUMN, not alembic's copy of the table: dropping the old copy would cascade on SQLite.
    op.drop_index("ix_assignments_room", "assignments")
    op.drop_index("ix_sessions_expires_at", "sessions")
    op.drop_index("ix_tasks_queue", "tasks")
    op.create_index("ix_tasks_queue", "tasks", ["status", "priority", "id"])
    op.execute("UPDATE tasks SET status = 'withdrawn' WHERE is_practice")
    op.drop_column("tasks", "is_practice")
    for column in ("practice_needed", "practice_tasks", "warning", "consent", "form", "gold_feedback"):
        op.drop_column("projects", column)
    for table in (
        "deliveries",
        "flags",
        "exported",
        "adjudications",
        "webhooks",
        "invitations",
        "guidelines",
        "exports",
        "enrolments",
        "api_tokens",
    ):
        op.drop_table(table)
