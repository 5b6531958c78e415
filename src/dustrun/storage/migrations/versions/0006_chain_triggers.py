"""Headers that were seen of watched chains, and where the events of triggers are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "chain_headers",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("is_canonical", sa.Integer(), nullable=False, comment="0: a reorg removed it"),
        sa.PrimaryKeyConstraint("chain_id", "hash", name=op.f("pk_chain_headers")),
    )
    op.create_index("ix_chain_headers_chain_id_number", "chain_headers", ["chain_id", "number"], unique=False)
    op.create_table(
        "watched_chains",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("genesis", sa.Text(), nullable=False, comment="hash of block 0: another one is another chain"),
        sa.PrimaryKeyConstraint("chain_id", name=op.f("pk_watched_chains")),
    )
    op.create_table(
        "chain_events",
        sa.Column("subscription_pk", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("block_hash", sa.Text(), nullable=False),
        sa.Column("is_live", sa.Integer(), nullable=False, comment="0: a reorg removed its block"),
        sa.Column("retractions", sa.Integer(), nullable=False, comment="runs that told of its removal"),
        sa.Column(
            "was",
            sa.Text(),
            nullable=True,
            comment="JSON: the event's outcome, reason and message before it was removed",
        ),
        sa.ForeignKeyConstraint(
            ["subscription_pk"], ["subscriptions.pk"], name=op.f("fk_chain_events_subscription_pk")
        ),
        sa.PrimaryKeyConstraint("subscription_pk", "key", name=op.f("pk_chain_events")),
    )
    op.create_index(
        "ix_chain_events_subscription_pk_block_number",
        "chain_events",
        ["subscription_pk", "block_number"],
        unique=False,
    )
