"""What final transactions moved, for accounting; those that were final before are due for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Applies it."""
    op.create_index("ix_transactions_block", "transactions", ["chain_id", "block_number"], unique=False)
    op.create_table(
        "ledger_entries",
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="from 1 in its transaction"),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False, comment="time of the block"),
        sa.Column(
            "wallet_id", sa.Text(), nullable=False, comment="whose balance it changed: the sender's, or a paid wallet"
        ),
        sa.Column("address", sa.Text(), nullable=False, comment="of the wallet"),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="send, receive, fee, allowance"),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("units", sa.Text(), nullable=False, comment="digits, with a sign; of an allowance what may be taken"),
        sa.Column("counterparty", sa.Text(), nullable=True),
        sa.Column(
            "contract", sa.Text(), nullable=True, comment="that was called; of an allowance the one that records it"
        ),
        sa.Column("basis", sa.Text(), nullable=False, comment="balance, block, event, receipt: how exact it is"),
        sa.Column("outcome", sa.Text(), nullable=False, comment="of the transaction: final, reverted, cancelled"),
        sa.Column(
            "attempt", sa.Text(), nullable=False, comment="which of its attempts was mined: send, replace, cancel"
        ),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="how many were signed for its nonce"),
        sa.Column("decimals", sa.Integer(), nullable=True, comment="null if the token does not say"),
        sa.Column(
            "price", sa.Text(), nullable=True, comment="US dollars of one whole unit at that time; null if unknown"
        ),
        sa.Column("price_source", sa.Text(), nullable=True),
        sa.Column("price_at", sa.BigInteger(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("workflow_id", sa.Text(), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("mode", sa.Text(), nullable=False, comment="live, dust"),
        sa.Column("key_id", sa.Text(), nullable=True, comment="the API key that started the run"),
        sa.Column("approved_by", sa.Text(), nullable=True, comment="the key that approved it"),
        sa.Column("sources", sa.Text(), nullable=True, comment="JSON: what decided the spend"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["transaction_id"], ["transactions.id"], name=op.f("fk_ledger_entries_transaction_id")),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_ledger_entries_org_id")),
        sa.PrimaryKeyConstraint("transaction_id", "number", name=op.f("pk_ledger_entries")),
        comment="what final transactions moved; made after they are final, and unmade by a reorg",
    )
    op.create_index("ix_ledger_entries_at", "ledger_entries", ["org_id", "at", "transaction_id", "number"])
    op.create_index(
        "ix_ledger_entries_allowances",
        "ledger_entries",
        ["wallet_id"],
        unique=False,
        sqlite_where=sa.text("kind = 'allowance'"),
        postgresql_where=sa.text("kind = 'allowance'"),
    )
    op.create_table(
        "ledger_due",
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("chain_id", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False, comment="0: final before the ledger existed"),
        sa.ForeignKeyConstraint(["transaction_id"], ["transactions.id"], name=op.f("fk_ledger_due_transaction_id")),
        sa.PrimaryKeyConstraint("transaction_id", name=op.f("pk_ledger_due")),
        comment="final transactions that have no entries yet",
    )
    op.create_index("ix_ledger_due_chain_id", "ledger_due", ["chain_id", "since"])
    op.execute(
        "INSERT INTO ledger_due (transaction_id, chain_id, since) SELECT id, chain_id, 0 FROM transactions"
        " WHERE state IN ('final', 'reverted', 'cancelled') AND receipt IS NOT NULL"
    )
