"""Tables of imported OpenAPI documents and their operations, with the index of words that a search asks."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    event,
)

from dustrun.storage.db.metadata import ROW_ID, metadata

catalog_imports = Table(
    "catalog_imports",
    metadata,
    Column("id", Text, primary_key=True),
    Column("org_id", Text, ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False, comment="the API, as types begin"),
    Column("number", Integer, nullable=False, comment="the version that is in use; 0: the first is still coming in"),
    Column("document", Text, nullable=False, comment="JSON of what is known of that version's document"),
    Column("choice", Text, nullable=False, comment="JSON: address, server and variables, as given"),
    Column("effects", Text, nullable=False, comment="JSON: by type, the effect that somebody has set"),
    Column("operations", Integer, nullable=False),
    Column("staging", Text, comment="who brings the next version in; null: nobody"),
    Column("staging_at", BigInteger),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("org_id", "name"),
)
catalog_versions = Table(
    "catalog_versions",
    metadata,
    Column("import_id", Text, ForeignKey("catalog_imports.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("hash", Text, nullable=False, comment="SHA-256 of the document"),
    Column("operations", Integer, nullable=False),
    Column("changes", Text, nullable=False, comment="JSON: types that were added, changed and removed"),
    Column("created_by", Text, nullable=False, comment="id of the key"),
    Column("created_at", BigInteger, nullable=False),
)
catalog_operations = Table(
    "catalog_operations",
    metadata,
    Column("pk", ROW_ID, primary_key=True, autoincrement=True),
    Column("org_id", Text, nullable=False),
    Column("import_id", Text, ForeignKey("catalog_imports.id"), nullable=False),
    Column("type", Text, nullable=False),
    Column("pin", Text, nullable=False, comment="by which nodes name it"),
    Column("since", Integer, nullable=False, comment="the first version of the document that has it"),
    Column("until", Integer, comment="the first version after it; null: none"),
    Column("method", Text, nullable=False),
    Column("server", Text, nullable=False),
    Column("effect", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("words", Text, nullable=False, comment="what a search finds it by"),
    Column("content", LargeBinary, nullable=False, comment="the operation, compressed"),
    UniqueConstraint("import_id", "type", "pin", "since"),
    Index("ix_catalog_operations_org_id_type", "org_id", "type", "import_id", "since", "until"),
)

_SQLITE: Final = (
    "CREATE VIRTUAL TABLE catalog_search USING fts5(words, content='catalog_operations', content_rowid='pk')",
    "CREATE TRIGGER catalog_search_insert AFTER INSERT ON catalog_operations BEGIN"
    " INSERT INTO catalog_search (rowid, words) VALUES (new.pk, new.words); END",
    "CREATE TRIGGER catalog_search_delete AFTER DELETE ON catalog_operations BEGIN"
    " INSERT INTO catalog_search (catalog_search, rowid, words) VALUES ('delete', old.pk, old.words); END",
)
_POSTGRESQL: Final = (
    "CREATE INDEX ix_catalog_operations_words ON catalog_operations USING gin (to_tsvector('simple', words))",
)


@event.listens_for(catalog_operations, "after_create")
def _index_words(_target: object, connection: Connection, **_: Any) -> None:
    for statement in _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL:
        connection.exec_driver_sql(statement)
