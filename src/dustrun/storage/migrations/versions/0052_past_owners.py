"""Who answered for a service account before, and until when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0052"
down_revision = "0051"


def upgrade() -> None:
    """Applies it."""
    comment = "JSON list of [person, until]: they may know the keys of that time"
    op.add_column(
        "service_accounts", sa.Column("past_owners", sa.Text(), nullable=False, server_default="[]", comment=comment)
    )
