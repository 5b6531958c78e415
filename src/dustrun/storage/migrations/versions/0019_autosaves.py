"""Drafts that an editor saved by itself, and that nothing has used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Applies it."""
    op.add_column(
        "workflows",
        sa.Column(
            "autosave",
            sa.Text(),
            nullable=True,
            comment="of a draft that nothing has used, JSON: {version, key, session, since, at}",
        ),
    )
