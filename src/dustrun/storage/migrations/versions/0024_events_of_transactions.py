"""Which transaction an event of a chain is part of, and where in it: in another block it may be elsewhere."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Applies it."""
    of_transaction = "the transaction that it is part of; null in rows of older versions"
    op.add_column("chain_events", sa.Column("subject", sa.Text(), nullable=True, comment=of_transaction))
    position = "its position in the transaction now; null: the one in its key"
    op.add_column("chain_events", sa.Column("seen", sa.Text(), nullable=True, comment=position))
    op.create_index("ix_chain_events_subscription_pk_subject", "chain_events", ["subscription_pk", "subject"])
