"""Until which run a variable had what shaped it: whoever overwrites it replaces that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    """Applies it; what was kept before counts as still there, until somebody writes the variable."""
    comment = "of a variable: pk of the newest run when it was overwritten; null: not yet"
    op.add_column("store_sources", sa.Column("until_run", sa.BigInteger(), nullable=True, comment=comment))
