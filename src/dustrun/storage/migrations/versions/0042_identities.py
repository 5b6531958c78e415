"""Who a person is at an identity provider, and sign-ins that have begun there."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"


def upgrade() -> None:
    """Applies it; nobody signs in by a provider yet."""
    op.create_table(
        "identities",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="who it is at the issuer"),
        sa.Column("sealed", sa.Text(), nullable=True, comment="refresh token; null: nothing to ask the issuer with"),
        sa.Column("checked_at", sa.BigInteger(), nullable=False, comment="when the issuer last let them in"),
        sa.Column(
            "ended_at", sa.BigInteger(), nullable=True, comment="when the issuer, or their groups, no longer did"
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_identities_org_id")),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_identities_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identities")),
        sa.UniqueConstraint("org_id", "issuer", "subject", name=op.f("uq_identities_org_id_issuer_subject")),
    )
    op.create_index("ix_identities_person_id", "identities", ["person_id"])
    op.create_table(
        "sign_in_attempts",
        sa.Column("hash", sa.Text(), nullable=False, comment="hex SHA-256 of the state that the provider sends back"),
        sa.Column(
            "browser_hash", sa.Text(), nullable=False, comment="hex SHA-256 of the secret in the browser's cookie"
        ),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_sign_in_attempts")),
    )
