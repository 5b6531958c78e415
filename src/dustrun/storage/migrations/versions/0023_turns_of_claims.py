"""Indexes by which free runs are claimed, organisation after organisation, without reading those of other processes,
and by which the runs of a limited workflow are found in their order."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"

_IS_OPEN = "status IN ('running', 'waiting')"
_IS_LIMITED = f"concurrency_key IS NOT NULL AND {_IS_OPEN}"


def upgrade() -> None:
    """Applies it."""
    op.create_index(
        "ix_runs_limited",
        "runs",
        ["workflow_id", "concurrency_key", "pk"],
        unique=False,
        sqlite_where=sa.text(_IS_LIMITED),
        postgresql_where=sa.text(_IS_LIMITED),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "ix_runs_claims",
            "runs",
            ["claimed_by", "org_id", "pk"],
            unique=False,
            postgresql_where=sa.text(_IS_OPEN),
        )
