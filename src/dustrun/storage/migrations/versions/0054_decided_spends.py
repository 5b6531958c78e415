"""Finds what a wallet's policy decided on since a time."""

from __future__ import annotations

from alembic import op

revision = "0054"
down_revision = "0053"


def upgrade() -> None:
    """Applies it."""
    op.create_index("ix_transactions_wallet_id_planned_at", "transactions", ["wallet_id", "planned_at"])
    op.create_index("ix_signatures_wallet_id_planned_at", "signatures", ["wallet_id", "planned_at"])
