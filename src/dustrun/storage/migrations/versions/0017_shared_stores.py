"""Several servers on one store: which processes live, what each holds, and who advances a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "processes",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("roles", sa.Text(), nullable=False, comment="comma-separated: api, engine, triggers"),
        sa.Column("version", sa.Text(), nullable=False, comment="of Dustrun"),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column(
            "alive_until", sa.BigInteger(), nullable=False, comment="by the database's clock; later, others take over"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False, comment="what only one process does at a time"),
        sa.Column("holder", sa.Text(), nullable=False, comment="id of the process"),
        sa.Column("fence", sa.BigInteger(), nullable=False, comment="rises with each new holder"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.add_column(
        "runs",
        sa.Column("claimed_by", sa.Text(), nullable=True, comment="in a shared store: the process that advances it"),
    )
