"""Tools of MCP servers, as somebody has looked at them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Applies it."""
    comment = "JSON of the tools of an MCP server, as somebody has looked at them"
    op.add_column("connectors", sa.Column("tools", sa.Text(), nullable=True, comment=comment))
