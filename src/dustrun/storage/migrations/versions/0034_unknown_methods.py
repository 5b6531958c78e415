"""Which methods of a known contract's ABI its code does not have."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    """Applies it. ABIs that are there were not checked."""
    comment = "JSON list of the ABI's methods that are not in the code; null: not checked"
    op.add_column("known_contracts", sa.Column("unknown_methods", sa.Text(), nullable=True, comment=comment))
