"""Accounts of programs, and which of them each API key is of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0049"
down_revision = "0048"


def upgrade() -> None:
    """Applies it; keys that there are stay what they are."""
    op.create_table(
        "service_accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=True, comment="null: permissions of its own"),
        sa.Column("permissions", sa.Text(), nullable=False, comment="JSON list"),
        sa.Column("workflow_ids", sa.Text(), nullable=True, comment="JSON list, as of its keys; null: all"),
        sa.Column("workflow_scope", sa.Text(), nullable=True, comment="JSON list of folders and tags, as of its keys"),
        sa.Column("wallet_ids", sa.Text(), nullable=True, comment="JSON list, as of its keys; null: all"),
        sa.Column("owner_id", sa.Text(), nullable=True, comment="the person who answers for it"),
        sa.Column("created_by", sa.Text(), nullable=False, comment="id of the key"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column(
            "deleted_at", sa.BigInteger(), nullable=True, comment="rows stay: who stood behind its keys is not lost"
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_service_accounts_org_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["people.id"], name=op.f("fk_service_accounts_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_accounts")),
    )
    where = sa.text("deleted_at IS NULL")
    op.create_index(
        "ix_service_accounts_org_id_name",
        "service_accounts",
        ["org_id", "name"],
        unique=True,
        sqlite_where=where,
        postgresql_where=where,
    )
    comment = "the account whose it is; null: no service account's"
    op.add_column("api_keys", sa.Column("service_account_id", sa.Text(), nullable=True, comment=comment))
    where = sa.text("service_account_id IS NOT NULL")
    op.create_index(
        "ix_api_keys_service_account_id",
        "api_keys",
        ["service_account_id"],
        sqlite_where=where,
        postgresql_where=where,
    )
