"""Turns that wait for a person's decision, and what they need to go on after a restart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
_OPEN = sa.text("finished_at IS NULL")


def upgrade() -> None:
    """Applies it."""
    op.add_column("turns", sa.Column("connector_id", sa.Text(), nullable=True, comment="whose model is asked"))
    op.add_column("turns", sa.Column("model", sa.Text(), nullable=True))
    op.add_column("turns", sa.Column("workflow_id", sa.Text(), nullable=True, comment="what the person looks at"))
    op.drop_index("ix_turns_streaming", "turns")
    op.create_index(
        "ix_turns_open", "turns", ["conversation_id"], unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN
    )
