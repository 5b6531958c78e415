"""OAuth 2 between machines: a client's id and secret give an access token.

The server asks `tokenUrl` for a token (RFC 6749 §4.4), keeps it sealed until shortly before it ends, and sends it as a
bearer token. Several nodes that need one at once share one request.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import token_connector
from dustrun.sdk.fields import secret
from dustrun.sdk.oauth import SECRET, TokenData, token_request


class Data(TokenData):
    """The client."""

    client_secret: str = secret(description="The client's secret.", **SECRET)
    audience: str | None = Field(None, description="Audience, where the provider wants one.", max_length=2048)


@token_connector(
    data=Data,
    example={
        "tokenUrl": "https://auth.example.com/oauth/token",
        "clientId": "dustrun",
        "clientSecret": "secret-0123456789",
        "scope": "orders:write",
    },
    tags=["http", "oauth2"],
)
def oauth2_client_credentials(data: Data) -> HttpRequest:
    """The request for an access token."""
    return token_request(data, data.client_secret, grant_type="client_credentials", audience=data.audience)
