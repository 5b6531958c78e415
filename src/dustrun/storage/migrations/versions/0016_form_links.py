"""Links to public forms."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "form_links",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False, comment="in whose name its runs are"),
        sa.Column("hash", sa.Text(), nullable=False, comment="SHA-256 of the secret part of the link"),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=False, comment="live, simulate, dust"),
        sa.Column("max_runs", sa.Integer(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False, comment="that it has started"),
        sa.Column("last_run_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_form_links_org_id")),
        sa.ForeignKeyConstraint(["workflow_id"], ["workflows.id"], name=op.f("fk_form_links_workflow_id")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_form_links_key_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_form_links")),
        sa.UniqueConstraint("hash", name=op.f("uq_form_links_hash")),
    )
    op.create_index("ix_form_links_workflow_id_created_at", "form_links", ["workflow_id", "created_at"], unique=False)
