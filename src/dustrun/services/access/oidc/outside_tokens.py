"""Access tokens of an outside issuer (OAuth), which stand for API keys.

Signature, issuer, audience and time are checked, and the operator names the key of each subject."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from dustrun.errors import Unauthenticated
from dustrun.sdk.context import Http
from dustrun.services.access.api_keys import is_good, principal_of
from dustrun.services.access.oidc.issuer import AGAIN_S, MOST_TOKEN, OF_OPENID, Issuer
from dustrun.services.access.principal import Principal
from dustrun.settings import Settings
from dustrun.storage.access import keys as rows
from dustrun.storage.db.database import Database

_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_LEEWAY_S: Final = 30
_METADATA: Final = ("/.well-known/oauth-authorization-server", OF_OPENID)
_OPTIONS: Final = {"require": ["exp", "iss", "aud", "sub"], "strict_aud": False}


def is_token(secret: str) -> bool:
    """Whether a bearer credential has the form of a signed token, which no API key has."""
    return secret.count(".") == 2


class OutsideTokens:
    """Finds the key that a token stands for."""

    def __init__(self, settings: Settings, database: Database, http: Http, *, again_s: float = AGAIN_S) -> None:
        issuer = settings.oauth_issuer
        self._issuer = None if issuer is None else Issuer(issuer, http, _METADATA, again_s=again_s)
        self._audience = settings.oauth_audience or f"{settings.base_url()}/mcp"
        self._key_of = dict(entry.rsplit("=", 1) for entry in settings.oauth_keys)
        self._database = database

    async def find(self, token: str) -> Principal:
        """The principal of the token's subject; raises `Unauthenticated`, and `Temporary` without the issuer's keys."""
        if self._issuer is None or len(token) > MOST_TOKEN:
            raise Unauthenticated("This server takes no such tokens; send an API key.")
        claims: dict[str, Any] = await self._issuer.claims_of(
            token, types=_TYPES, audience=self._audience, leeway_s=_LEEWAY_S, options=_OPTIONS
        )
        subject = claims["sub"]
        key_id = self._key_of.get(subject) if isinstance(subject, str) else None
        row = None if key_id is None else await self._database.look_up(lambda tx: rows.find_any(tx, key_id))
        if row is None or not is_good(row):
            raise Unauthenticated("The token is valid, but nobody has given its subject a key here.")
        principal = principal_of(row)
        ends_at = int(claims["exp"]) * 1000
        return replace(principal, expires_at=min(ends_at, principal.expires_at or ends_at))
