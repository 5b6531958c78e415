"""A secret in a header of your choice.

For APIs that expect their key in a custom header, such as `X-API-Key`.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import HttpData, http_connector, with_header
from dustrun.sdk.fields import secret

# Framing and routing headers, which the server sets.
_NOT_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})


class Data(HttpData):
    """The header."""

    name: str = Field(
        description="Name of the header.",
        max_length=256,
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$",
        examples=["X-API-Key"],
    )
    value: str = secret(description="Its value.", min_length=1, max_length=16_384, pattern=r"^[\x20-\x7e]+$")

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name.lower() in _NOT_OURS:
            raise ValueError(f'the header "{name}" is set by the server and cannot carry a credential')
        return name


@http_connector(
    data=Data,
    example={"name": "X-API-Key", "value": "key_0123456789", "testUrl": "https://api.example.com/me"},
    tags=["http"],
)
def http_header(data: Data, request: HttpRequest) -> HttpRequest:
    """Sets the header."""
    return with_header(request, data.name, data.value)
