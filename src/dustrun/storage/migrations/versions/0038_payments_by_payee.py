"""Payments by who was paid, for whoever approves the next one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    """Applies it."""
    of_payments = sa.text("kind = 'send'")
    op.create_index(
        "ix_ledger_entries_paid",
        "ledger_entries",
        ["org_id", "counterparty", "at"],
        unique=False,
        sqlite_where=of_payments,
        postgresql_where=of_payments,
    )
