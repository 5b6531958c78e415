"""A NATS server, for the trigger `nats`.

The server connects to `host` through the outbound guard, and to no other server that this one may name. Give `token`,
or `user` and `password`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dustrun.sdk.connector import secret_connector
from dustrun.sdk.fields import Fields, secret


class Data(Fields):
    """Where the server is, and whom it knows."""

    host: str = Field(
        min_length=1,
        max_length=253,
        description="Host name or IP address of the server.",
        json_schema_extra={"x-destination": True},
    )
    port: int = Field(4222, ge=1, le=65535, description="Its port.", json_schema_extra={"x-destination": True})
    user: str | None = Field(None, min_length=1, max_length=255, description="Whom to connect as.")
    password: str | None = secret(None, min_length=1, max_length=1024, description="The user's password.")
    token: str | None = secret(None, min_length=1, max_length=4096, description="The token, instead of a user.")
    tls: Literal["verify-full", "disable"] = Field(
        "verify-full",
        description="`verify-full`: encrypted, and the server's certificate is checked; `disable`: not encrypted, for "
        "a server on this machine.",
        json_schema_extra={"x-destination": True},
    )

    @model_validator(mode="after")
    def _check(self) -> Data:
        if (self.user is None) != (self.password is None) or (self.user is None) == (self.token is None):
            raise ValueError("give either `token`, or `user` and `password`")
        return self


@secret_connector(data=Data, example={"host": "nats.example.com", "token": "tok_0123456789"}, tags=["queue"])
def nats(_: Data) -> None:
    """Accepts every address; the guard decides when it connects."""
