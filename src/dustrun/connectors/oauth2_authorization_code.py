"""OAuth 2 with a person's consent: somebody opens the provider's page once, and agrees.

`dustrun connector connect` (or `POST /v1/connectors/{id}/consent`) tells the address of that page. The provider sends
the browser back to `/v1/oauth/callback` of this server, which must be known to it as the redirect URI. The server gets
the tokens by authorization code with PKCE (RFC 6749 §4.1, RFC 7636), stores them encrypted, renews them, and sends the
access token as a bearer token. A refresh token is never sent twice unless the provider is known to allow that.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field, field_validator

from dustrun.sdk import HttpRequest
from dustrun.sdk.connector import SECRET, TokenData, token_connector, token_request
from dustrun.sdk.fields import secret

_OWN = frozenset(
    {"response_type", "client_id", "redirect_uri", "scope", "state", "code_challenge", "code_challenge_method"}
)


class Data(TokenData):
    """The client, and where people consent."""

    authorize_url: str = Field(
        description="The provider's authorization endpoint, which people open in their browser.",
        max_length=2048,
        pattern=r"^https?://[^\s\"'<>]+$",
        json_schema_extra={"x-destination": True},
    )
    client_secret: str | None = secret(None, description="The client's secret; a public client has none.", **SECRET)
    issuer: str | None = Field(
        None,
        description="The provider's issuer, if it says who it is when it sends people back (RFC 9207). Default: the "
        "origin of authorizeUrl.",
        max_length=2048,
        pattern=r"^https?://\S+$",
    )
    authorize_parameters: dict[str, str] = Field(
        default_factory=dict,
        description="What the provider wants to be asked besides, like access_type=offline.",
        max_length=20,
        examples=[{"access_type": "offline", "prompt": "consent"}],
    )

    @field_validator("authorize_parameters")
    @classmethod
    def _only_others(cls, given: dict[str, str]) -> dict[str, str]:
        """The server's own parameters protect the consent."""
        taken = sorted(_OWN & given.keys())
        if taken:
            raise ValueError(f"leave out {', '.join(taken)}: the server sets {'it' if len(taken) == 1 else 'them'}")
        return given


@token_connector(
    data=Data,
    example={
        "authorizeUrl": "https://auth.example.com/oauth/authorize",
        "tokenUrl": "https://auth.example.com/oauth/token",
        "clientId": "dustrun",
        "clientSecret": "secret-0123456789",
        "scope": "orders:write",
    },
    tags=["http", "oauth2"],
)
def oauth2_authorization_code(data: Data, **grant: str) -> HttpRequest:
    """Builds the token request; its grant is a code or a refresh token. Scopes were agreed on at the provider's page,
    and a request that works once is not repeated."""
    asked = data.model_copy(update={"scope": None})
    return replace(token_request(asked, data.client_secret, **grant), safe=False)
