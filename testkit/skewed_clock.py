"""A database whose clock is wrong: its machine's may be so, and no test can change that of this one."""

from __future__ import annotations

import psycopg
import sqlalchemy as sa

_CLOCK = """
CREATE SCHEMA IF NOT EXISTS wrong;
CREATE OR REPLACE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    $$ SELECT pg_catalog.clock_timestamp() + interval 'AHEAD milliseconds' $$;
ALTER DATABASE NAME SET search_path = wrong, pg_catalog, public;
"""


def set_ahead(url: str, by_ms: int) -> None:
    """Sets the clock of a database so far ahead of this machine's. Sessions opened after the first time see it."""
    parsed = sa.make_url(url)
    assert parsed.database is not None
    with psycopg.connect(host=str(parsed.query["host"]), user="postgres", dbname=parsed.database) as connection:
        connection.execute(_CLOCK.replace("AHEAD", str(by_ms)).replace("NAME", parsed.database).encode())
