"""A user name and password for HTTP requests.

Sends `Authorization: Basic …` (RFC 7617), in UTF-8.
"""

from __future__ import annotations

import base64

from pydantic import Field

from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import HttpData, http_connector, with_header
from dustrun.sdk.fields import secret


class Data(HttpData):
    """The user name and password."""

    username: str = Field(description="User name, without a colon.", max_length=1024, pattern=r"^[^\x00-\x1f\x7f:]*$")
    password: str = secret(description="Password.", min_length=1, max_length=16_384, pattern=r"^[^\x00-\x1f\x7f]+$")


@http_connector(
    data=Data,
    example={"username": "treasury", "password": "correct-horse", "testUrl": "https://api.example.com/me"},
    tags=["http"],
)
def http_basic(data: Data, request: HttpRequest) -> HttpRequest:
    """Sets the header Authorization."""
    pair = base64.b64encode(f"{data.username}:{data.password}".encode()).decode()
    return with_header(request, "Authorization", f"Basic {pair}")
