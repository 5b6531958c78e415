"""Transactions and approvals by time, for the triggers that look for what happened to them."""

from __future__ import annotations

from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Applies it."""
    op.create_index("ix_transactions_org_id_updated_at", "transactions", ["org_id", "updated_at"], unique=False)
    op.create_index("ix_approvals_org_id_created_at", "approvals", ["org_id", "created_at"], unique=False)
    op.create_index("ix_approvals_org_id_decided_at", "approvals", ["org_id", "decided_at"], unique=False)
