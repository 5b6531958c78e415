"""What a store holds, row by row: a database of a server leaves no file that a test could read."""

from __future__ import annotations

import sqlalchemy as sa

from dustrun.storage.db.tables import metadata


def rows_of(url: str) -> dict[str, bytes]:
    """Every row of every table, with bytes as they are."""
    engine = sa.create_engine(url)
    found: dict[str, bytes] = {}
    with engine.connect() as connection:
        for table in metadata.sorted_tables:
            pieces = [
                value if isinstance(value, bytes) else str(value).encode()
                for row in connection.execute(sa.select(table))
                for value in row
            ]
            found[f"table {table.name}"] = b"\n".join(pieces)
    engine.dispose()
    return found
