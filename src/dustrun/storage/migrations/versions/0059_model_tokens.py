"""The tokens that models of nodes use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0059"
down_revision = "0058"


def upgrade() -> None:
    """Applies it; what was used before is not counted."""
    op.create_table(
        "model_tokens",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False, comment="since the Unix epoch"),
        sa.Column(
            "tokens", sa.BigInteger(), nullable=False, comment="that models of nodes used in it, read and written"
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_model_tokens_org_id")),
        sa.PrimaryKeyConstraint("org_id", "hour", name=op.f("pk_model_tokens")),
    )
