"""How far the clocks of the processes that share a store are from the database's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Applies it."""
    op.add_column(
        "processes",
        sa.Column("skew_ms", sa.BigInteger(), nullable=True, comment="of its clock, ahead of the database's"),
    )
