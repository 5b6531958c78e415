"""OAuth 2 between machines (client credentials grant): a client ID and secret are exchanged for access tokens.

The server requests a token from `tokenUrl` (RFC 6749 §4.4), stores it encrypted until shortly before it expires, and
sends it as a bearer token. Nodes that need a token at the same time share one request.
"""

from __future__ import annotations

from pydantic import Field

from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import SECRET, TokenData, token_connector, token_request
from dustrun.sdk.fields import secret


class Data(TokenData):
    """The client, its secret and the audience."""

    client_secret: str = secret(description="The client's secret.", **SECRET)
    audience: str | None = Field(None, description="Audience, if the provider requires one.", max_length=2048)


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
    """Builds the token request."""
    return token_request(data, data.client_secret, grant_type="client_credentials", audience=data.audience)
