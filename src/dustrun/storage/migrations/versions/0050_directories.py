"""Users and groups that a directory provisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0050"
down_revision = "0049"


def upgrade() -> None:
    """Applies it; no directory provisions anybody yet."""
    op.create_table(
        "directory_users",
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("user_key", sa.Text(), nullable=False, comment="user_name in lower case"),
        sa.Column("external_id", sa.Text(), nullable=True, comment="who it is in the directory"),
        sa.Column("names", sa.Text(), nullable=False, comment="JSON: displayName and the parts of name"),
        sa.Column(
            "by_groups", sa.Integer(), nullable=False, comment="1: groups of the directory decide what they may do"
        ),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name=op.f("fk_directory_users_person_id")),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_directory_users_org_id")),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_directory_users")),
        sa.UniqueConstraint("org_id", "user_key", name=op.f("uq_directory_users_org_id_user_key")),
    )
    op.create_index("ix_directory_users_org_id_external_id", "directory_users", ["org_id", "external_id"])
    op.create_table(
        "directory_groups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True, comment="what it is in the directory"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_directory_groups_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_directory_groups")),
        sa.UniqueConstraint("org_id", "name", name=op.f("uq_directory_groups_org_id_name")),
    )
    op.create_table(
        "directory_members",
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["directory_groups.id"], name=op.f("fk_directory_members_group_id")),
        sa.ForeignKeyConstraint(
            ["person_id"], ["directory_users.person_id"], name=op.f("fk_directory_members_person_id")
        ),
        sa.PrimaryKeyConstraint("group_id", "person_id", name=op.f("pk_directory_members")),
    )
    op.create_index("ix_directory_members_person_id", "directory_members", ["person_id"])
