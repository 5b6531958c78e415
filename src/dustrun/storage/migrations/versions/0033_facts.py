"""What triggers for the server's own events are told, in commit order; connectors whose calls fail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    """Applies it; a trigger that has a cursor of before reads once more by time."""
    op.create_table(
        "facts",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
            comment="in commit order: the cursor of those who read",
        ),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="transaction, approval, connector"),
        sa.Column(
            "subject_id", sa.Text(), nullable=False, comment="of what it tells: the id of the transaction, for example"
        ),
        sa.Column("what", sa.Text(), nullable=False, comment="like reverted, asked, refused"),
        sa.Column(
            "place",
            sa.Text(),
            nullable=False,
            comment="what tells it from another of the same name: the block's hash",
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column(
            "run_pk", sa.BigInteger(), nullable=True, comment="the run in which it happened, if the subject has none"
        ),
        sa.Column("data", sa.Text(), nullable=True, comment="JSON object: what the subject does not say"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_facts")),
        comment="what triggers for the server's own events are told; written with what it tells",
    )
    op.create_index("ix_facts_org_id_kind_id", "facts", ["org_id", "kind", "id"], unique=False)
    comment = "when its calls began to fail; null: they do not"
    op.add_column("connectors", sa.Column("failing_since", sa.BigInteger(), nullable=True, comment=comment))
    comment = "JSON {what, message}: how they fail"
    op.add_column("connectors", sa.Column("failure", sa.Text(), nullable=True, comment=comment))
