"""Outbound hooks: where events are sent, how far each hook has read, and its deliveries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "hook_deliveries",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False, comment="also the webhook-id, of every attempt"),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("hook_id", sa.Text(), nullable=False),
        sa.Column(
            "queue",
            sa.Text(),
            nullable=False,
            comment="deliveries of one queue are sent in order: the run's id, or its own",
        ),
        sa.Column("event_id", sa.Text(), nullable=False, comment="run id and number of the event, or notice"),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False, comment="JSON, as sent"),
        sa.Column("status", sa.Text(), nullable=False, comment="pending, retrying, success, failure"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "next_at", sa.BigInteger(), nullable=True, comment="of the first open delivery of a queue: when it is due"
        ),
        sa.Column("attempt_log", sa.Text(), nullable=False, comment="JSON list of the newest attempts"),
        sa.Column(
            "response", sa.Text(), nullable=True, comment="JSON: status, headers and first bytes of the newest answer"
        ),
        sa.Column("replay_of", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_hook_deliveries")),
        sa.UniqueConstraint("id", name=op.f("uq_hook_deliveries_id")),
    )
    op.create_index("ix_hook_deliveries_created_at", "hook_deliveries", ["created_at"], unique=False)
    op.create_index(
        "ix_hook_deliveries_due",
        "hook_deliveries",
        ["hook_id", "next_at"],
        unique=False,
        sqlite_where=sa.text("next_at IS NOT NULL"),
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_index("ix_hook_deliveries_hook_id_pk", "hook_deliveries", ["hook_id", "pk"], unique=False)
    op.create_index(
        "ix_hook_deliveries_open",
        "hook_deliveries",
        ["hook_id", "queue", "pk"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index("ix_hook_deliveries_org_id_pk", "hook_deliveries", ["org_id", "pk"], unique=False)
    op.create_table(
        "hook_notices",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False, comment="like workflow.paused"),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=True, comment="of the run; null: of no run"),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False, comment="JSON object"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hook_notices")),
        comment="events for hooks that are not in a run's stream",
    )
    op.create_index("ix_hook_notices_org_id_id", "hook_notices", ["org_id", "id"], unique=False)
    op.create_table(
        "hooks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event_types", sa.Text(), nullable=False, comment="JSON list of types and patterns like run.*"),
        sa.Column("workflow_ids", sa.Text(), nullable=True, comment="JSON list; null: all workflows and inline runs"),
        sa.Column("modes", sa.Text(), nullable=False, comment="JSON list: the modes of runs that it is told of"),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column(
            "sealed",
            sa.Text(),
            nullable=False,
            comment="JSON: the signing secret, and the previous one during a rotation",
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="active, disabled"),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False, comment="failed attempts in a row"),
        sa.Column("failing_since", sa.BigInteger(), nullable=True, comment="the first of them"),
        sa.Column(
            "resume_at", sa.BigInteger(), nullable=True, comment="nothing is sent before, while the receiver fails"
        ),
        sa.Column(
            "activity_id", sa.BigInteger(), nullable=False, comment="deliveries were made of the activity up to here"
        ),
        sa.Column(
            "notice_id", sa.BigInteger(), nullable=False, comment="deliveries were made of the notices up to here"
        ),
        sa.Column(
            "moves",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="rises with each move of the two cursors",
        ),
        sa.Column("created_by", sa.Text(), nullable=False, comment="id of the key"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_hooks_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hooks")),
        comment="where events of an organisation's runs are sent",
    )
    op.create_index("ix_hooks_org_id_id", "hooks", ["org_id", "id"], unique=False)
    op.create_table(
        "hook_runs",
        sa.Column("hook_id", sa.Text(), nullable=False),
        sa.Column("run_pk", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False, comment="deliveries were made of the run's events up to here"),
        sa.ForeignKeyConstraint(["hook_id"], ["hooks.id"], name=op.f("fk_hook_runs_hook_id")),
        sa.ForeignKeyConstraint(["run_pk"], ["runs.pk"], name=op.f("fk_hook_runs_run_pk")),
        sa.PrimaryKeyConstraint("hook_id", "run_pk", name=op.f("pk_hook_runs")),
        comment="open runs that a hook follows",
        sqlite_with_rowid=False,
    )
    op.create_index("ix_hook_runs_run_pk", "hook_runs", ["run_pk"], unique=False)
