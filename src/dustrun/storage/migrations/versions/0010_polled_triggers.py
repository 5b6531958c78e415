"""Why a trigger could not look."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Applies it."""
    comment = "why the newest attempt to watch failed; null since one went well"
    op.add_column("subscriptions", sa.Column("last_error", sa.Text(), nullable=True, comment=comment))
