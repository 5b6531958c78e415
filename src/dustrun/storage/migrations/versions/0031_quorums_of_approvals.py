"""Questions that several hands must approve, and organisations of one person."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Applies it."""
    comment = "how many hands must approve it; null: one"
    op.add_column("approvals", sa.Column("quorum", sa.Integer(), nullable=True, comment=comment))
    comment = "JSON list of approvals so far, of a quorum: {by, at, comment}"
    op.add_column("approvals", sa.Column("votes", sa.Text(), nullable=True, comment=comment))
    comment = "of a spend of several transactions, JSON: what is approved of each; binding is over them"
    op.add_column("approvals", sa.Column("parts", sa.Text(), nullable=True, comment=comment))
    comment = "1: whoever administers it may approve what their own runs ask"
    op.add_column("organizations", sa.Column("single_person", sa.Integer(), nullable=True, comment=comment))
