"""Changes of rows of managed tables, for the triggers that watch a table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"

_IS_WATCHING = "type = 'table-row' AND state <> 'ended'"


def upgrade() -> None:
    """Applies it; what was changed before is no event."""
    op.add_column(
        "managed_tables",
        sa.Column(
            "change_count",
            sa.BigInteger(),
            nullable=False,
            server_default="0",
            comment="changes of rows ever recorded",
        ),
    )
    op.create_table(
        "table_changes",
        sa.Column("table_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False, comment="in commit order, from 1 on"),
        sa.Column("row_before", sa.Text(), nullable=True, comment="JSON; null: the row was added"),
        sa.Column("row_after", sa.Text(), nullable=True, comment="JSON; null: the row was removed"),
        sa.Column(
            "run_id", sa.Text(), nullable=True, comment="the run that made it; null: a person or program, by the API"
        ),
        sa.Column("mode", sa.Text(), nullable=False, comment="live, dust: of that run"),
        sa.Column("depth", sa.Integer(), nullable=False, comment="how many runs that triggers started led to it"),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["table_id"], ["managed_tables.id"], name=op.f("fk_table_changes_table_id")),
        sa.PrimaryKeyConstraint("table_id", "seq", name=op.f("pk_table_changes")),
        comment="of live rows of tables that a trigger watches, until it has seen them",
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_subscriptions_tables",
        "subscriptions",
        ["org_id"],
        unique=False,
        sqlite_where=sa.text(_IS_WATCHING),
        postgresql_where=sa.text(_IS_WATCHING),
    )
