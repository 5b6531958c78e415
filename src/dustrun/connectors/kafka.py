"""A Kafka cluster, for the trigger `kafka`.

The server connects to `servers`, and to the brokers that these name, each through the outbound guard. Give `mechanism`,
`user` and `password` if the cluster asks for them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dustrun.sdk.connector import secret_connector
from dustrun.sdk.fields import Fields, secret

Server = Annotated[str, Field(max_length=260, pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):[0-9]{1,5}$")]


class Data(Fields):
    """Where the cluster is, and whom it knows."""

    servers: list[Server] = Field(
        min_length=1,
        max_length=10,
        description="Brokers to begin with, each as `host:port`.",
        json_schema_extra={"x-destination": True},
    )
    mechanism: Literal["plain", "scram-sha-256", "scram-sha-512"] | None = Field(
        None, description="How the user logs in (SASL); null: without a user."
    )
    user: str | None = Field(None, min_length=1, max_length=255, description="Whom to connect as.")
    password: str | None = secret(None, min_length=1, max_length=4096, description="The user's password.")
    tls: Literal["verify-full", "disable"] = Field(
        "verify-full",
        description="`verify-full`: encrypted, and each broker's certificate is checked; `disable`: not encrypted, for "
        "a cluster on this machine.",
        json_schema_extra={"x-destination": True},
    )

    @model_validator(mode="after")
    def _check(self) -> Data:
        if len({self.mechanism is None, self.user is None, self.password is None}) != 1:
            raise ValueError("give `mechanism`, `user` and `password`, or none of them")
        return self


@secret_connector(
    data=Data,
    example={
        "servers": ["kafka-1.example.com:9093"],
        "mechanism": "scram-sha-512",
        "user": "dustrun",
        "password": "pw_0123456789",
    },
    tags=["queue"],
)
def kafka(_: Data) -> None:
    """Accepts every address; the guard decides when it connects."""
