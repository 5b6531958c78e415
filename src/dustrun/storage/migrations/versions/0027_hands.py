"""Who wrote what shapes spends, and what an acceptance has seen of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "hands",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="connector, table, variable, webhook, setting, name"),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False, comment="empty: nobody known"),
        sa.Column("wallets", sa.Text(), nullable=True, comment="what the key could spend from, as in versions"),
        sa.Column("writes", sa.BigInteger(), nullable=False, comment="those that were not good for every wallet"),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_hands_org_id")),
        sa.PrimaryKeyConstraint("org_id", "kind", "object", "key_id", name=op.f("pk_hands")),
    )
    seen = "JSON: by source and key, the number of writes that it had seen"
    op.add_column("version_acceptances", sa.Column("seen", sa.Text(), nullable=True, comment=seen))
