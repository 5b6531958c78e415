"""Shared by all tables: the metadata with its naming convention, and the integer primary key type."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Index, Integer, MetaData, event, text

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# In SQLite only `INTEGER PRIMARY KEY` is the row id; PostgreSQL needs 64 bits.
ROW_ID: Final = BigInteger().with_variant(Integer, "sqlite")


def partial_index(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """An index of the rows that satisfy `where`, for both databases."""
    return Index(name, *columns, unique=unique, info={"where": where})


@event.listens_for(metadata, "before_create")
def _set_its_conditions(_target: object, connection: Connection, **_: Any) -> None:
    set_conditions(connection.dialect.name)


def set_conditions(*dialects: str) -> None:
    """Gives the partial indexes their conditions, and tables the room that they leave in their pages (`fillfactor`, in
    percent), before DDL is made from the metadata, for these databases: for a `postgresql_where` SQLAlchemy imports all
    its PostgreSQL drivers, which costs a start 30 ms and 2 MiB."""
    for table in metadata.tables.values():
        if "fillfactor" in table.info and "postgresql" in dialects:
            table.dialect_kwargs["postgresql_with"] = {"fillfactor": table.info["fillfactor"]}
        for index in table.indexes:
            if "where" in index.info:
                condition = text(index.info["where"])
                index.dialect_kwargs.update({f"{dialect}_where": condition for dialect in dialects})
