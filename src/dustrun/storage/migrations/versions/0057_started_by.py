"""Finds the runs that a key started."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0057"
down_revision = "0056"

_BY_HAND = "trigger_source IN ('api', 'retry', 'launch', 'action-test')"


def upgrade() -> None:
    """Applies it."""
    op.create_index(
        "ix_runs_started_by",
        "runs",
        ["org_id", "triggered_by", "pk", "workflow_id", "trigger_source"],
        sqlite_where=sa.text(_BY_HAND),
        postgresql_where=sa.text(_BY_HAND),
    )
    ended = sa.text(f"finished_at IS NOT NULL AND {_BY_HAND}")
    op.create_index(
        "ix_runs_ended_started_by",
        "runs",
        ["org_id", "triggered_by", "status", "mode", "pk", "workflow_id", "finished_at", "trigger_source"],
        sqlite_where=ended,
        postgresql_where=ended,
    )
