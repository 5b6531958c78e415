"""Shared by all tables: the metadata with its naming convention, and the integer primary key type."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Integer, MetaData

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
