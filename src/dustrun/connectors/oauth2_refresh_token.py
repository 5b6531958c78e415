"""OAuth 2 on behalf of a person: a refresh token is exchanged for access tokens.

Get the refresh token once through the provider's consent page. The server then requests access tokens from `tokenUrl`
(RFC 6749 §6) and sends them as bearer tokens. If the provider rotates refresh tokens, the new one is stored before the
access token that came with it is used.
"""

from __future__ import annotations

from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import SECRET, TokenData, token_connector, token_request
from dustrun.sdk.fields import secret


class Data(TokenData):
    """The client and the refresh token."""

    client_secret: str | None = secret(None, description="The client's secret; a public client has none.", **SECRET)
    refresh_token: str = secret(description="The refresh token.", **SECRET)


@token_connector(
    data=Data,
    example={
        "tokenUrl": "https://auth.example.com/oauth/token",
        "clientId": "dustrun",
        "clientSecret": "secret-0123456789",
        "refreshToken": "refresh-0123456789",
    },
    tags=["http", "oauth2"],
)
def oauth2_refresh_token(data: Data) -> HttpRequest:
    """Builds the token request."""
    return token_request(data, data.client_secret, grant_type="refresh_token", refresh_token=data.refresh_token)
