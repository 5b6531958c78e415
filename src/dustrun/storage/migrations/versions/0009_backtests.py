"""Back-tests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
_RUNNING = sa.text("status = 'running'")


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "backtests",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Text(), nullable=False, comment="the trigger"),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False, comment="in whose name its runs are simulated"),
        sa.Column(
            "asked", sa.Text(), nullable=False, comment="JSON: {from, to, fromBlock, toBlock, limit, propValues}"
        ),
        sa.Column("status", sa.Text(), nullable=False, comment="running, done, failed"),
        sa.Column("events", sa.Text(), nullable=False, comment="JSON: [{key, payload, occurredAt, blocks, skip}]"),
        sa.Column("is_cut", sa.Integer(), nullable=False, comment="1 if there were more events than the limit"),
        sa.Column("report", sa.Text(), nullable=True, comment="JSON, once it is done"),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"]),
        sa.ForeignKeyConstraint(["workflow_id"], ["workflows.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_backtests_workflow_id_id", "backtests", ["workflow_id", "id"])
    op.create_index("ix_backtests_running", "backtests", ["status"], sqlite_where=_RUNNING, postgresql_where=_RUNNING)
