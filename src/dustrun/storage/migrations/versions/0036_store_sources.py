"""What shaped rows of tables and variables, beside the keys that wrote them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"


def upgrade() -> None:
    """Applies it; of what is there already nothing is known, and the keys that wrote it are judged as before."""
    op.create_table(
        "store_sources",
        sa.Column("object", sa.Text(), nullable=False, comment="id of a table, or workflow/name of a variable"),
        sa.Column(
            "layer",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="0: live; else the pk of the simulation that sees it",
        ),
        sa.Column("part", sa.Text(), nullable=False, comment="a column; empty: which rows there are, or a variable"),
        sa.Column("source", sa.Text(), nullable=False, comment="as core/sources writes it"),
        sa.Column("is_change", sa.Integer(), nullable=False, comment="it changed or took away what was there"),
        sa.PrimaryKeyConstraint("object", "layer", "part", "source", "is_change", name=op.f("pk_store_sources")),
        comment="what shaped a store since its beginning",
        sqlite_with_rowid=False,
    )
    comment = "JSON: the sources by column of what a run wrote; empty column: whether there is such a row"
    op.add_column("table_rows", sa.Column("sources", sa.Text(), nullable=True, comment=comment))
