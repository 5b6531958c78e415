"""Find at once what needs a person: payments that are held after a restore, and triggers that stand still."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    """Applies it."""
    held = sa.text("state = 'planned' AND refusal IS NOT NULL")
    op.create_index("ix_transactions_held", "transactions", ["org_id"], sqlite_where=held, postgresql_where=held)
    stalled = sa.text("stalled_since IS NOT NULL")
    op.create_index(
        "ix_subscriptions_stalled", "subscriptions", ["org_id"], sqlite_where=stalled, postgresql_where=stalled
    )
