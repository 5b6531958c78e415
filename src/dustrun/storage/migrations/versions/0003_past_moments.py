"""The past moment that a back-test simulates a run at."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Applies it."""
    op.add_column(
        "runs",
        sa.Column(
            "as_of",
            sa.Text(),
            nullable=True,
            comment="of a back-test, JSON: {at, blocks}, the past moment that it simulates",
        ),
    )
