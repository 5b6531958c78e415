"""Who made a key: one that was made by another does not approve what that other one spends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Applies it. Of keys that there are, nobody knows who made them but the audit log, which is read here."""
    op.add_column(
        "api_keys",
        sa.Column(
            "created_by", sa.Text(), nullable=True, comment="the key that created it; null: the server's operator"
        ),
    )
    op.execute(
        "UPDATE api_keys SET created_by = (SELECT MIN(audit.key_id) FROM audit"
        " WHERE audit.org_id = api_keys.org_id AND audit.action = 'key.create' AND audit.subject = api_keys.id)"
    )
