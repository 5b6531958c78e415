"""Finds audited changes by who made them, what they did and to what, and when."""

from __future__ import annotations

from alembic import op

revision = "0058"
down_revision = "0057"


def upgrade() -> None:
    """Applies it."""
    op.create_index("ix_audit_org_id_key_id_id", "audit", ["org_id", "key_id", "id"])
    op.create_index("ix_audit_org_id_action_id", "audit", ["org_id", "action", "id"])
    op.create_index("ix_audit_org_id_subject_id", "audit", ["org_id", "subject", "id"])
    op.create_index("ix_audit_org_id_at_id", "audit", ["org_id", "at", "id"])
