"""People, and whose each API key is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    """Applies it; keys that there are stay nobody's, until an administrator says whose they are."""
    comment = "whose it is; null: nobody's, or nobody has said"
    op.add_column("api_keys", sa.Column("person_id", sa.Text(), nullable=True, comment=comment))
    where = sa.text("person_id IS NOT NULL")
    op.create_index("ix_api_keys_person_id", "api_keys", ["person_id"], sqlite_where=where, postgresql_where=where)
    op.create_table(
        "people",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False, comment="in lower case"),
        sa.Column("key_id", sa.Text(), nullable=False, comment="what sessions of the person stand for"),
        sa.Column("invited_by", sa.Text(), nullable=False, comment="id of the key"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("joined_at", sa.BigInteger(), nullable=True, comment="when a link of theirs was first used"),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_people_org_id")),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_people_key_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_people")),
        sa.UniqueConstraint("org_id", "email", name=op.f("uq_people_org_id_email")),
    )
    op.create_index("ix_people_org_id_id", "people", ["org_id", "id"])
