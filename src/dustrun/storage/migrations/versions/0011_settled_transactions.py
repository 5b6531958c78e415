"""Finds the transactions that became final lately."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Applies it."""
    op.create_index("ix_transactions_finished", "transactions", ["chain_id", "finished_at"], unique=False)
