"""How many bytes each run stores, and the runs of an organisation together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0056"
down_revision = "0055"


def upgrade() -> None:
    """Applies it; the server measures the runs that are there while it works."""
    op.create_table(
        "run_sizes",
        sa.Column("run_pk", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="of its texts in runs, executions and events"),
        sa.PrimaryKeyConstraint("run_pk", name=op.f("pk_run_sizes")),
        comment="as measured after a run's newest start, wait or end",
    )
    op.create_table(
        "stored_bytes",
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="the sum of run_sizes of its runs"),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_stored_bytes_org_id")),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_stored_bytes")),
    )
