"""A PostgreSQL database, for the trigger `postgres-row`.

The server connects to `host` through the outbound guard, and only reads. Give it a user that may do nothing else than
read the tables that are watched.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dustrun.sdk.connector import secret_connector
from dustrun.sdk.fields import Fields, secret


class Data(Fields):
    """Where the database is, and whom it knows."""

    host: str = Field(
        min_length=1,
        max_length=253,
        description="Host name or IP address of the server.",
        json_schema_extra={"x-destination": True},
    )
    port: int = Field(5432, ge=1, le=65535, description="Its port.", json_schema_extra={"x-destination": True})
    database: str = Field(min_length=1, max_length=63, description="Name of the database.")
    user: str = Field(min_length=1, max_length=63, description="Whom to connect as.")
    password: str = secret(min_length=1, max_length=1024, description="The user's password.")
    tls: Literal["verify-full", "require", "disable"] = Field(
        "verify-full",
        description="`verify-full`: encrypted, and the server's certificate is checked; `require`: encrypted, whoever "
        "answers; `disable`: not encrypted, for a server on this machine.",
        json_schema_extra={"x-destination": True},
    )


@secret_connector(
    data=Data,
    example={"host": "db.example.com", "database": "shop", "user": "dustrun", "password": "pw_0123456789"},
    tags=["database"],
)
def postgres(_: Data) -> None:
    """Accepts every address; the guard decides when it connects."""
