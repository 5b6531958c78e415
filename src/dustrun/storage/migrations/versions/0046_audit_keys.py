"""Keys that sign exports of the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0044"


def upgrade() -> None:
    """Applies it; the first export makes a key."""
    op.create_table(
        "audit_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False, comment="under whose data key it is sealed"),
        sa.Column("public_key", sa.Text(), nullable=False, comment="Ed25519, Base64"),
        sa.Column("sealed", sa.Text(), nullable=False, comment="private key"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_audit_keys_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_keys")),
    )
