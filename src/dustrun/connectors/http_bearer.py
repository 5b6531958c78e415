"""A bearer token for HTTP requests.

Sends `Authorization: Bearer <token>`, for what APIs call an API key, personal access token or bot token.
"""

from __future__ import annotations

from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import HttpData, http_connector, with_header
from dustrun.sdk.fields import secret


class Data(HttpData):
    """The token."""

    token: str = secret(
        description="The token, without the word Bearer.", min_length=1, max_length=16_384, pattern=r"^[\x21-\x7e]+$"
    )


@http_connector(data=Data, example={"token": "tok_0123456789", "testUrl": "https://api.example.com/me"}, tags=["http"])
def http_bearer(data: Data, request: HttpRequest) -> HttpRequest:
    """Sets the header Authorization."""
    return with_header(request, "Authorization", f"Bearer {data.token}")
