"""Templates that an organisation makes from its workflows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0055"
down_revision = "0054"


def upgrade() -> None:
    """Applies it; nobody has made one yet."""
    op.create_table(
        "workflow_templates",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_id", sa.Text(), nullable=False),
        sa.Column("source_workflow_id", sa.Text(), nullable=False, comment="what it was made from"),
        sa.Column("current", sa.Integer(), nullable=False, comment="the version that is used"),
        sa.Column("created_by", sa.Text(), nullable=False, comment="id of the key"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_workflow_templates_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow_templates")),
        comment="an organisation's own; those that come with the server are files",
    )
    op.create_index("ix_workflow_templates_org_id_id", "workflow_templates", ["org_id", "id"])
    op.create_table(
        "template_versions",
        sa.Column("template_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False, comment="as of workflows"),
        sa.Column(
            "definition",
            sa.Text(),
            nullable=False,
            comment="JSON, without secrets, connectors, wallets and pinned results",
        ),
        sa.Column("trigger_type", sa.Text(), nullable=False),
        sa.Column("node_types", sa.Text(), nullable=False, comment="as of versions of workflows"),
        sa.Column("node_count", sa.Integer(), nullable=False),
        sa.Column("version_by", sa.Text(), nullable=False, comment="id of the key"),
        sa.Column("version_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["template_id"], ["workflow_templates.id"], name=op.f("fk_template_versions_template_id")
        ),
        sa.PrimaryKeyConstraint("template_id", "version", name=op.f("pk_template_versions")),
    )
    op.create_table(
        "template_uses",
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("template_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["workflow_id"], ["workflows.id"], name=op.f("fk_template_uses_workflow_id")),
        sa.ForeignKeyConstraint(["template_id"], ["workflow_templates.id"], name=op.f("fk_template_uses_template_id")),
        sa.PrimaryKeyConstraint("workflow_id", name=op.f("pk_template_uses")),
        comment="workflows that were made from an own template",
    )
    op.create_index("ix_template_uses_template_id", "template_uses", ["template_id"])
