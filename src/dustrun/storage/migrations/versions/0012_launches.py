"""Launches: runs that are started as one rehearsal showed them, by a decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Applies it."""
    op.add_column(
        "runs",
        sa.Column("rehearsal_run_id", sa.Text(), nullable=True, comment="of a launch: the simulation that it repeats"),
    )
    op.create_index(
        "ix_runs_rehearsal",
        "runs",
        ["org_id", "rehearsal_run_id"],
        unique=False,
        sqlite_where=sa.text("rehearsal_run_id IS NOT NULL"),
        postgresql_where=sa.text("rehearsal_run_id IS NOT NULL"),
    )
    op.add_column(
        "approvals",
        sa.Column(
            "launch",
            sa.Text(),
            nullable=True,
            comment="of a launch, JSON: {version, runId, closure, proposedBy, chatMessageId}; run_pk is its rehearsal",
        ),
    )
