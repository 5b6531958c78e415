"""Folders and tags of workflows, and keys that are limited to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0048"
down_revision = "0046"


def upgrade() -> None:
    """Applies it; workflows that there are lie in no folder and have no tags."""
    op.add_column("workflows", sa.Column("folder", sa.Text(), nullable=True, comment="a path, like payroll/europe"))
    op.add_column(
        "workflows",
        sa.Column(
            "tags",
            sa.Text(),
            nullable=False,
            server_default="",
            comment="space-separated, with leading and trailing space; empty: none",
        ),
    )
    op.add_column(
        "api_keys",
        sa.Column(
            "workflow_scope",
            sa.Text(),
            nullable=True,
            comment="JSON list of folders, tags and ids that workflow_ids is made of; null: it is given as it is",
        ),
    )
