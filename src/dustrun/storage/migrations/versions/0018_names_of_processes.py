"""Names of the processes that share a store, for people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Applies it."""
    op.add_column("processes", sa.Column("name", sa.Text(), nullable=True, comment="host and process id, for people"))
