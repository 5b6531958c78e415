"""Contracts that an organisation has named or called, with the implementation of proxies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "known_contracts",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False, comment="EIP-55 checksummed"),
        sa.Column("name", sa.Text(), nullable=True, comment="null: only its implementation is remembered"),
        sa.Column("kind", sa.Text(), nullable=True, comment="like router, token, vault"),
        sa.Column("abi", sa.Text(), nullable=True, comment="JSON"),
        sa.Column(
            "implementation",
            sa.Text(),
            nullable=True,
            comment="of a proxy: the one that was first seen, or accepted since",
        ),
        sa.Column("created_by", sa.Text(), nullable=True, comment="id of the key that named it"),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_known_contracts_org_id")),
        sa.PrimaryKeyConstraint("org_id", "chain_id", "address", name=op.f("pk_known_contracts")),
        comment="contracts that an organisation has named or called",
    )
