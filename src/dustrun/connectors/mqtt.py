"""An MQTT broker, for the trigger `mqtt`.

The server connects to `host` through the outbound guard. Give `user` and `password` if the broker asks for them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dustrun.sdk.connector import secret_connector
from dustrun.sdk.fields import Fields, secret


class Data(Fields):
    """Where the broker is, and whom it knows."""

    host: str = Field(
        min_length=1,
        max_length=253,
        description="Host name or IP address of the broker.",
        json_schema_extra={"x-destination": True},
    )
    port: int = Field(8883, ge=1, le=65535, description="Its port.", json_schema_extra={"x-destination": True})
    user: str | None = Field(None, min_length=1, max_length=255, description="Whom to connect as.")
    password: str | None = secret(None, min_length=1, max_length=4096, description="The user's password.")
    tls: Literal["verify-full", "disable"] = Field(
        "verify-full",
        description="`verify-full`: encrypted, and the broker's certificate is checked; `disable`: not encrypted, for "
        "a broker on this machine.",
        json_schema_extra={"x-destination": True},
    )

    @model_validator(mode="after")
    def _check(self) -> Data:
        if self.password is not None and self.user is None:
            raise ValueError("`password` needs `user`")
        return self


@secret_connector(
    data=Data,
    example={"host": "mqtt.example.com", "user": "dustrun", "password": "pw_0123456789"},
    tags=["queue"],
)
def mqtt(_: Data) -> None:
    """Accepts every address; the guard decides when it connects."""
