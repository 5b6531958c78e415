"""Since when a trigger stands still, and how far the triggers of a chain are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Applies it."""
    since = "when it began to stand still; null while it goes on"
    op.add_column("subscriptions", sa.Column("stalled_since", sa.BigInteger(), nullable=True, comment=since))
    op.create_index(
        "ix_subscriptions_failed",
        "subscriptions",
        ["pk"],
        unique=False,
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )
    seen = "JSON: {head, targets, behind, error}, as its watcher sees it"
    op.create_table(
        "chain_progress",
        sa.Column("chain_id", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("state", sa.Text(), nullable=False, comment=seen),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id"),
    )
