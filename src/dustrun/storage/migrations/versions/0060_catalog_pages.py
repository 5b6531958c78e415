"""Pages of the catalogue read from the index alone."""

from __future__ import annotations

from alembic import op

revision = "0060"
down_revision = "0059"

_INDEX = "ix_catalog_operations_org_id_type"


def upgrade() -> None:
    """Applies it."""
    op.drop_index(_INDEX, "catalog_operations")
    op.create_index(_INDEX, "catalog_operations", ["org_id", "type", "import_id", "since", "until"])
