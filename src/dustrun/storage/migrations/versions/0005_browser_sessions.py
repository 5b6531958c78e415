"""Browser sessions, and the one-time links that start one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "web_sessions",
        sa.Column("hash", sa.Text(), nullable=False, comment="hex SHA-256 of the id in the cookie"),
        sa.Column("csrf_hash", sa.Text(), nullable=False, comment="hex SHA-256 of the token that writes must send"),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"]),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_table(
        "sign_in_links",
        sa.Column("hash", sa.Text(), nullable=False, comment="hex SHA-256 of the token in the link"),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"]),
        sa.PrimaryKeyConstraint("hash"),
    )
