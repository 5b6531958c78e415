"""An index of ended runs by version, for lists of a version's runs and for the newest passed run of each mode."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Applies it."""
    op.create_index(
        "ix_runs_ended_version",
        "runs",
        ["workflow_id", "version", "status", "mode", "pk", "passed"],
        unique=False,
        sqlite_where=sa.text("finished_at IS NOT NULL"),
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
