"""Shared by OAuth 2 connector types: the client, and the token request."""

from __future__ import annotations

import base64
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from pydantic import Field

from dustrun.sdk.connector import HttpData
from dustrun.sdk.context import HttpRequest

SECRET: Final[dict[str, Any]] = {"min_length": 1, "max_length": 16_384, "pattern": r"^[\x21-\x7e]+$"}
_TIMEOUT_S: Final = 20.0
_MAX_BYTES: Final = 65_536


class TokenData(HttpData):
    """OAuth 2 client data that every grant needs."""

    token_url: str = Field(
        description="The provider's token endpoint; the client's secret is sent there.",
        max_length=2048,
        pattern=r"^https?://\S+$",
        json_schema_extra={"x-destination": True},
    )
    client_id: str = Field(description="The client ID.", min_length=1, max_length=1024, pattern=r"^[\x21-\x7e]+$")
    client_auth: Literal["header", "body"] = Field(
        "header", description="Where the client's secret goes: the header Authorization, or the form."
    )
    scope: str | None = Field(None, description="Scopes, separated by spaces.", max_length=2048)


def token_request(data: TokenData, client_secret: str | None, **form: str | None) -> HttpRequest:
    """The token request (RFC 6749 §2.3.1, §4.4.2, §6); form fields that are None are omitted."""
    fields = {name: value for name, value in {**form, "scope": data.scope}.items() if value is not None}
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    if client_secret is not None and data.client_auth == "header":
        pair = f"{quote(data.client_id, safe='')}:{quote(client_secret, safe='')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        fields["client_id"] = data.client_id
        if client_secret is not None:
            fields["client_secret"] = client_secret
    return HttpRequest(
        method="POST",
        url=data.token_url,
        headers=headers,
        body=urlencode(fields).encode(),
        timeout_s=_TIMEOUT_S,
        max_redirects=0,
        max_bytes=_MAX_BYTES,
        safe=True,  # a repeated request only issues another token
    )
