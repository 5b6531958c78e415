"""Imported OpenAPI documents, their operations, and the index of words that a search asks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _text(name: str, comment: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, comment=comment)


def upgrade() -> None:
    """Applies it."""
    op.create_table(
        "catalog_imports",
        _text("id"),
        _text("org_id"),
        _text("name", "the API, as types begin"),
        sa.Column(
            "number",
            sa.Integer(),
            nullable=False,
            comment="the version that is in use; 0: the first is still coming in",
        ),
        _text("document", "JSON of what is known of that version's document"),
        _text("choice", "JSON: address, server and variables, as given"),
        _text("effects", "JSON: by type, the effect that somebody has set"),
        sa.Column("operations", sa.Integer(), nullable=False),
        sa.Column("staging", sa.Text(), nullable=True, comment="who brings the next version in; null: nobody"),
        sa.Column("staging_at", sa.BigInteger(), nullable=True),
        _text("created_by", "id of the key"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.id"], name=op.f("fk_catalog_imports_org_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_catalog_imports")),
        sa.UniqueConstraint("org_id", "name", name=op.f("uq_catalog_imports_org_id_name")),
    )
    op.create_table(
        "catalog_versions",
        _text("import_id"),
        sa.Column("number", sa.Integer(), nullable=False),
        _text("hash", "SHA-256 of the document"),
        sa.Column("operations", sa.Integer(), nullable=False),
        _text("changes", "JSON: types that were added, changed and removed"),
        _text("created_by", "id of the key"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["import_id"], ["catalog_imports.id"], name=op.f("fk_catalog_versions_import_id")),
        sa.PrimaryKeyConstraint("import_id", "number", name=op.f("pk_catalog_versions")),
    )
    op.create_table(
        "catalog_operations",
        sa.Column("pk", _ROW_ID, autoincrement=True, nullable=False),
        _text("org_id"),
        _text("import_id"),
        _text("type"),
        _text("pin", "by which nodes name it"),
        sa.Column("since", sa.Integer(), nullable=False, comment="the first version of the document that has it"),
        sa.Column("until", sa.Integer(), nullable=True, comment="the first version after it; null: none"),
        _text("method"),
        _text("server"),
        _text("effect"),
        _text("summary"),
        _text("words", "what a search finds it by"),
        sa.Column("content", sa.LargeBinary(), nullable=False, comment="the operation, compressed"),
        sa.ForeignKeyConstraint(["import_id"], ["catalog_imports.id"], name=op.f("fk_catalog_operations_import_id")),
        sa.PrimaryKeyConstraint("pk", name=op.f("pk_catalog_operations")),
        sa.UniqueConstraint(
            "import_id", "type", "pin", "since", name=op.f("uq_catalog_operations_import_id_type_pin_since")
        ),
    )
    op.create_index("ix_catalog_operations_org_id_type", "catalog_operations", ["org_id", "type"])
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE catalog_search USING fts5(words, content='catalog_operations', content_rowid='pk')"
        )
        op.execute(
            "CREATE TRIGGER catalog_search_insert AFTER INSERT ON catalog_operations BEGIN"
            " INSERT INTO catalog_search (rowid, words) VALUES (new.pk, new.words); END"
        )
        op.execute(
            "CREATE TRIGGER catalog_search_delete AFTER DELETE ON catalog_operations BEGIN"
            " INSERT INTO catalog_search (catalog_search, rowid, words) VALUES ('delete', old.pk, old.words); END"
        )
    else:
        op.execute(
            "CREATE INDEX ix_catalog_operations_words ON catalog_operations USING gin (to_tsvector('simple', words))"
        )
