"""What an event of a chain says, from when its transaction is seen until it is recorded: a reorg may come between."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    """Applies it."""
    comment = "JSON: what it says, until it is recorded"
    op.add_column("chain_events", sa.Column("content", sa.Text(), nullable=True, comment=comment))
