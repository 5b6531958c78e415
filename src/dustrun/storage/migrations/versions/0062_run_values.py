"""Stores each large value of a run once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0062"
down_revision = "0061"
# code that does not know the marks cannot read the rows that have them
contracts = "0062"


def upgrade() -> None:
    """Applies it; the runs that are there keep what their rows have."""
    op.create_table(
        "run_values",
        sa.Column("run_pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False, comment="SHA-256 of the content, in hexadecimal"),
        sa.Column("content", sa.Text(), nullable=False, comment="JSON, maybe with marks of further values"),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="size of the whole value as JSON"),
        sa.PrimaryKeyConstraint("run_pk", "digest", name=op.f("pk_run_values")),
        comment="large values, in whose place payload, input, result and facts have U+0001 and the digest",
    )
