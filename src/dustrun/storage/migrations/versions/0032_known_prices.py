"""The last credible price of each asset, so that a leap is noticed after a restart too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "known_prices",
        sa.Column("asset", sa.Text(), nullable=False, comment="like eip155:1/native"),
        sa.Column("usd", sa.Text(), nullable=False, comment="exact US dollars of a whole unit"),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("asset", name=op.f("pk_known_prices")),
        comment="the last credible price of each asset, about as it was",
    )
