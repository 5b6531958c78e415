"""Prices that a person approved where nothing else vouched for them, which known prices nothing has confirmed, and all
who approved what the ledger lists."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    """Applies it."""
    comment = "exact US dollars of a whole unit, or base units for a unit of gas"
    op.create_table(
        "approved_values",
        sa.Column("wallet_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="an asset, or the gas of a chain like gas:1"),
        sa.Column("value", sa.Text(), nullable=False, comment=comment),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("wallet_id", "subject", name=op.f("pk_approved_values")),
        comment="prices that a person approved with a spend, where nothing else vouched for them",
    )
    lone = "1: one source alone has named it, and nothing has confirmed it"
    op.add_column("known_prices", sa.Column("is_lone", sa.Integer(), nullable=True, comment=lone))
    every = "JSON list: every key that approved it; null: none, or written before"
    op.add_column("ledger_entries", sa.Column("approvers", sa.Text(), nullable=True, comment=every))
