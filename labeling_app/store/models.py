"""The tables. SQLAlchemy Core, the same on SQLite and PostgreSQL; migrations/ makes and alters them.

Times are UTC without a zone. Texts of models and people are JSON columns, because PostgreSQL's text type
refuses the NUL character that a model may well write. What holds a judgment is never deleted by a cascade.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

ROLES = ("annotator", "reviewer", "admin")

annotators = Table(
    "annotators",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("public_id", String(32), nullable=False, unique=True),  # the name in exports and the audit log
    Column("login", String(100), nullable=False, unique=True),
    Column("password_hash", String(255)),  # null: signs in elsewhere (OIDC)
    Column("oidc_issuer", String(255)),
    Column("oidc_subject", String(255)),
    Column("role", String(20), nullable=False),
    Column("active", Boolean, nullable=False, default=True),
    Column("created_at", DateTime, nullable=False),
    UniqueConstraint("oidc_issuer", "oidc_subject"),
    CheckConstraint("role IN ('annotator', 'reviewer', 'admin')", name="role"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),  # SHA-256: a copy of the database opens no session
    Column("annotator_id", ForeignKey("annotators.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created_at", DateTime, nullable=False),
    Column("expires_at", DateTime, nullable=False, index=True),
)

login_failures = Table(
    "login_failures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("login", String(100), nullable=False),
    Column("address", String(64), nullable=False),
    Column("at", DateTime, nullable=False, index=True),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("guideline", Text, nullable=False),
    Column("guideline_version", Integer, nullable=False, default=1),
    Column("overlap", Integer, nullable=False, default=1),
    Column(
        "gold_rate", Float, nullable=False, default=0.0
    ),  # of the tasks given out, the share with a known answer
    Column("gold_feedback", Boolean, nullable=False, default=False, server_default=false()),  # told at once
    Column("asks", String(20), nullable=False, default="ranking"),
    Column("form", JSON),  # what else is asked: dimensions, rationale, rewrite (store/forms.py)
    Column("consent", Text),  # shown before the first task, and has to be agreed to
    Column("warning", Text),  # a content warning; whoever turns the project down is not asked again
    Column("practice_tasks", Integer, nullable=False, default=0, server_default="0"),
    Column(
        "practice_needed", Float, nullable=False, default=0.0, server_default="0"
    ),  # share that must be right
    Column("active", Boolean, nullable=False, default=True),
    Column("created_at", DateTime, nullable=False),
    CheckConstraint("asks IN ('ranking', 'pair', 'ratings')", name="asks"),
    CheckConstraint("overlap >= 1", name="overlap"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("external_id", Text, nullable=False),  # the record's id
    Column("prompt", JSON, nullable=False),  # the messages, as the record has them
    Column("extra", JSON, nullable=False),  # the record's other fields, given back by the export
    Column("sha256", String(64), nullable=False),  # of the texts: is it the same task? "": they were removed
    Column("priority", Float, nullable=False, default=0.0),  # higher comes first
    Column("n_required", Integer, nullable=False),
    Column("n_judgments", Integer, nullable=False, default=0),
    Column("is_gold", Boolean, nullable=False, default=False),
    Column(
        "gold", JSON
    ),  # the known answer: {"ranks": […]} or {"all_bad": true}, with an "explanation" or without
    Column("is_practice", Boolean, nullable=False, default=False, server_default=false()),
    Column("status", String(20), nullable=False, default="open"),
    Column("version", Integer, nullable=False, default=0),
    Column("created_at", DateTime, nullable=False),
    UniqueConstraint("project_id", "external_id"),
    CheckConstraint("status IN ('open', 'done', 'withdrawn')", name="status"),
)
# The order in which tasks are given out: the first entry of the range is the next task.
Index(
    "ix_tasks_queue",
    tasks.c.project_id,
    tasks.c.status,
    tasks.c.is_gold,
    tasks.c.is_practice,
    tasks.c.priority.desc(),
    tasks.c.id,
)

completions = Table(
    "completions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("task_id", ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("content", JSON, nullable=False),  # the text that is shown, a JSON string
    Column("source", JSON),
    Column("extra", JSON, nullable=False),
    Column("sha256", String(64), nullable=False),
    UniqueConstraint("task_id", "ordinal"),
)

assignments = Table(
    "assignments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("public_id", String(32), nullable=False, unique=True),  # all that a browser ever sees of a task
    Column("task_id", ForeignKey("tasks.id"), nullable=False),
    Column("annotator_id", ForeignKey("annotators.id"), nullable=False),
    Column("state", String(20), nullable=False),
    Column("leased_until", DateTime, nullable=False),
    Column("presented_order", JSON, nullable=False),  # ordinals, top to bottom
    Column("seed", Integer, nullable=False),  # random.Random(seed).shuffle gives presented_order
    Column("created_at", DateTime, nullable=False),
    UniqueConstraint("task_id", "annotator_id"),
    CheckConstraint("state IN ('leased', 'submitted', 'skipped', 'expired')", name="state"),
    Index("ix_assignments_lease", "state", "leased_until"),
    Index("ix_assignments_annotator", "annotator_id", "state"),
    Index("ix_assignments_room", "task_id", "state", "leased_until"),  # is there room on a task?
)

drafts = Table(
    "drafts",
    metadata,
    Column("assignment_id", ForeignKey("assignments.id", ondelete="CASCADE"), primary_key=True),
    Column("payload", JSON, nullable=False),
    Column("client_seq", Integer, nullable=False),
    Column("updated_at", DateTime, nullable=False),
)

judgments = Table(
    "judgments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("assignment_id", ForeignKey("assignments.id"), nullable=False),
    Column("revision", Integer, nullable=False),  # 1, 2, …: an edit is a new row, the highest one counts
    Column("submit_key", String(64), nullable=False, unique=True),
    Column("ranks", JSON),  # one per ordinal: 1 is best, equal is a tie, null is not judged
    Column("both_bad", Boolean, nullable=False, default=False),  # every output is bad
    Column("strength", JSON),
    Column("ratings", JSON),
    Column("rationale", JSON),
    Column("edited_text", JSON),
    Column("seconds", Float),
    Column("guideline_version", Integer, nullable=False),
    Column("late", Boolean, nullable=False, default=False),  # came after its lease had ended
    Column("created_at", DateTime, nullable=False),
    UniqueConstraint("assignment_id", "revision"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("actor", String(64), nullable=False),  # an annotator's public_id, or "command line"
    Column("action", String(40), nullable=False),
    Column("entity", String(80), nullable=False),
    Column("before", Text),  # canonical JSON, as it was hashed
    Column("after", Text),
    Column("prev_hash", String(64), nullable=False, unique=True),  # unique: the chain cannot fork
    Column("hash", String(64), nullable=False, unique=True),
)

guidelines = Table(
    "guidelines",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("created_at", DateTime, nullable=False),
)

enrolments = Table(  # one person in one project: what came before the first task, and how it went
    "enrolments",
    metadata,
    Column("annotator_id", ForeignKey("annotators.id"), primary_key=True),
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("consented_at", DateTime),
    Column("consent_version", String(64)),  # SHA-256 of the text that was agreed to
    Column("warned_at", DateTime),
    Column("warning_version", String(64)),
    Column("declined_at", DateTime),  # turned down after the content warning, or by an admin
    Column("practice_done", Integer, nullable=False, default=0, server_default="0"),
    Column("practice_right", Float, nullable=False, default=0.0, server_default="0"),
    Column("qualified_at", DateTime),
    Column("chosen_at", DateTime),  # the project chosen last comes first
)

flags = Table(  # why a task was skipped, or what a reviewer should look at
    "flags",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("assignment_id", ForeignKey("assignments.id"), nullable=False, index=True),
    Column("kind", String(20), nullable=False),
    Column("reason", JSON),  # the annotator's words
    Column("created_at", DateTime, nullable=False),
    Column("resolved_at", DateTime),
    Column("resolved_by", ForeignKey("annotators.id")),
    CheckConstraint("kind IN ('skip', 'flag', 'content')", name="kind"),
)

adjudications = Table(  # a reviewer's last word on a task; append-only like judgments, the newest counts
    "adjudications",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("task_id", ForeignKey("tasks.id"), nullable=False),
    Column("reviewer_id", ForeignKey("annotators.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("ranks", JSON),
    Column("both_bad", Boolean, nullable=False, default=False),
    Column("rationale", JSON),
    Column("created_at", DateTime, nullable=False),
    UniqueConstraint("task_id", "revision"),
)

invitations = Table(
    "invitations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("role", String(20), nullable=False),
    Column("made_by", ForeignKey("annotators.id")),  # null: the command line
    Column("created_at", DateTime, nullable=False),
    Column("expires_at", DateTime, nullable=False),
    Column("used_at", DateTime),
    Column("used_by", ForeignKey("annotators.id")),
    CheckConstraint("role IN ('annotator', 'reviewer', 'admin')", name="role"),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("name", String(100), nullable=False),
    Column("can_write", Boolean, nullable=False, default=False),
    Column("project_id", ForeignKey("projects.id")),  # null: every project
    Column("created_at", DateTime, nullable=False),
    Column("expires_at", DateTime),
    Column("revoked_at", DateTime),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", String(64), nullable=False),  # signs what is sent (HMAC-SHA256)
    Column("active", Boolean, nullable=False, default=True),
    Column("created_at", DateTime, nullable=False),
)

deliveries = Table(  # an outbox: written with the judgment, emptied by a thread, so that none is forgotten
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("webhook_id", ForeignKey("webhooks.id"), nullable=False),
    Column("judgment_id", ForeignKey("judgments.id"), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", DateTime, nullable=False),
    Column("delivered_at", DateTime),
    Column("problem", Text),
    UniqueConstraint("webhook_id", "judgment_id"),
    Index("ix_deliveries_due", "delivered_at", "next_at"),
)

exports = Table(
    "exports",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False),  # the file's name, or "API"
    Column("fingerprint", String(64), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("created_at", DateTime, nullable=False),
)

exported = Table(  # whose judgment of which task went out in which export: what `label forget` lists
    "exported",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("export_id", ForeignKey("exports.id", ondelete="CASCADE"), nullable=False),
    Column("task_id", ForeignKey("tasks.id"), nullable=False, index=True),
    Column("annotator_id", ForeignKey("annotators.id"), index=True),  # null: a task without a judgment
    UniqueConstraint("export_id", "task_id", "annotator_id"),
)
