"""Roles of organisations, and who has which."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0043"


def upgrade() -> None:
    """Applies it; people that there are keep their permissions and have no role."""
    op.create_table(
        "roles",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("permissions", sa.Text(), nullable=False, comment="JSON list"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_roles_org_id")),
        sa.PrimaryKeyConstraint("org_id", "name", name=op.f("pk_roles")),
    )
    op.add_column("people", sa.Column("role", sa.Text(), nullable=True, comment="null: permissions of their own"))
