"""A mailbox, for the trigger `email-received`.

The server connects to `host` by IMAP, through the outbound guard, and only reads. Many providers ask for an app
password.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dustrun.sdk.connector import secret_connector
from dustrun.sdk.fields import Fields, secret


class Data(Fields):
    """Where the mailbox is, and whose it is."""

    host: str = Field(
        min_length=1,
        max_length=253,
        description="Host name or IP address of the IMAP server.",
        json_schema_extra={"x-destination": True},
    )
    port: int = Field(993, ge=1, le=65535, description="Its port.", json_schema_extra={"x-destination": True})
    user: str = Field(min_length=1, max_length=255, description="Whose mailbox it is.")
    password: str = secret(min_length=1, max_length=4096, description="The password, or an app password.")
    tls: Literal["verify-full", "disable"] = Field(
        "verify-full",
        description="`verify-full`: encrypted, and the server's certificate is checked; `disable`: not encrypted, for "
        "a server on this machine.",
        json_schema_extra={"x-destination": True},
    )


@secret_connector(
    data=Data,
    example={"host": "imap.example.com", "user": "orders@example.com", "password": "pw_0123456789"},
    tags=["email"],
)
def imap(_: Data) -> None:
    """Accepts every address; the guard decides when it connects."""
