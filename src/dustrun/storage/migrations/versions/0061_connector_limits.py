"""Limits keys and service accounts to connectors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0061"
down_revision = "0060"


def upgrade() -> None:
    """Applies it."""
    of_key = "JSON list: the only connectors that the key can use; null: all"
    op.add_column("api_keys", sa.Column("connector_ids", sa.Text(), nullable=True, comment=of_key))
    of_account = "JSON list, as of its keys; null: all"
    op.add_column("service_accounts", sa.Column("connector_ids", sa.Text(), nullable=True, comment=of_account))
