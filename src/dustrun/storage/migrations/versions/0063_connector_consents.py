"""Connectors that a person has consented to at their provider, and consents that have begun."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0063"
down_revision = "0062"


def upgrade() -> None:
    """Applies it."""
    op.add_column("connectors", sa.Column("connected_at", sa.BigInteger(), nullable=True, comment="of the consent"))
    op.add_column("connectors", sa.Column("sealed_refresh", sa.Text(), nullable=True, comment="the refresh token"))
    since = "when the refresh token was sent, until what came of it is stored"
    op.add_column("connectors", sa.Column("renewing_since", sa.BigInteger(), nullable=True, comment=since))
    rotates = "whether the provider answers with a new refresh token; null: not known"
    op.add_column("connectors", sa.Column("rotates", sa.Integer(), nullable=True, comment=rotates))
    op.create_table(
        "consent_attempts",
        sa.Column("id", sa.Text(), nullable=False, comment="hex SHA-256 of the state that the provider sends back"),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("connector_id", sa.Text(), nullable=False),
        sa.Column("connector_version", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False, comment="who began it"),
        sa.Column("browser_hash", sa.Text(), nullable=True, comment="of the secret in the browser's cookie"),
        sa.Column("sealed", sa.Text(), nullable=False, comment="the PKCE verifier"),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name="fk_consent_attempts_org_id"),
        sa.PrimaryKeyConstraint("id", name="pk_consent_attempts"),
    )
