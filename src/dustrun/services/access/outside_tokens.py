"""Access tokens of an outside issuer (OAuth), which stand for API keys.

Signature, issuer, audience and time are checked, and the operator names the key of each subject."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any, Final

from dustrun import clock, log
from dustrun.errors import Temporary, Unauthenticated
from dustrun.sdk.context import Http, HttpRequest
from dustrun.sdk.threads import run_beside
from dustrun.services.access.api_keys import is_good, principal_of
from dustrun.services.access.principal import Principal
from dustrun.settings import Settings
from dustrun.storage.access import keys as rows
from dustrun.storage.db.database import Database

_logger = log.get(__name__)
_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Only such whose keys an issuer can publish: a shared secret would make every reader of it an issuer."""
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_LEEWAY_S: Final = 30
_FRESH_S: Final = 600.0
_AGAIN_S: Final = 30.0
_MOST_BYTES: Final = 262_144
_MOST_TOKEN: Final = 16_384
_TIMEOUT_S: Final = 10.0
_METADATA: Final = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")


def is_token(secret: str) -> bool:
    """Whether a bearer credential has the form of a signed token, which no API key has."""
    return secret.count(".") == 2


class OutsideTokens:
    """Finds the key that a token stands for. The issuer's keys are read through the outbound guard, and kept for ten
    minutes; a token that names another one has them read again, at most every half minute."""

    def __init__(self, settings: Settings, database: Database, http: Http, *, again_s: float = _AGAIN_S) -> None:
        self.issuer = settings.oauth_issuer
        self.audience = settings.oauth_audience or f"{settings.base_url()}/mcp"
        self._key_of = dict(entry.rsplit("=", 1) for entry in settings.oauth_keys)
        self._database = database
        self._http = http
        self._known: dict[str, Any] = {}
        self._read_at: float | None = None
        self._reads = 0
        self._reading = asyncio.Lock()
        self._again_s = again_s

    async def find(self, token: str) -> Principal:
        """The principal of the token's subject; raises `Unauthenticated`, and `Temporary` without the issuer's keys."""
        if self.issuer is None or len(token) > _MOST_TOKEN:
            raise Unauthenticated("This server takes no such tokens; send an API key.")
        claims = await self._verified(token)
        subject = claims["sub"]
        key_id = self._key_of.get(subject) if isinstance(subject, str) else None
        row = None if key_id is None else await self._database.look_up(lambda tx: rows.find_any(tx, key_id))
        if row is None or not is_good(row):
            raise Unauthenticated("The token is valid, but nobody has given its subject a key here.")
        principal = principal_of(row)
        ends_at = int(claims["exp"]) * 1000
        return replace(principal, expires_at=min(ends_at, principal.expires_at or ends_at))

    async def _verified(self, token: str) -> dict[str, Any]:
        import jwt  # slow import

        try:
            head = jwt.get_unverified_header(token)
            if head.get("alg") not in _ALGORITHMS or str(head.get("typ") or "").lower() not in _TYPES:
                raise Unauthenticated("The token is of no kind that this server takes.")
            key = await self._key(str(head.get("kid") or ""))
            found: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name],
                audience=self.audience,
                issuer=self.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"], "strict_aud": False},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"The token is not valid: {_why(error)}.") from None
        return found

    async def _key(self, key_id: str) -> Any:
        """The issuer's key of an id; one without a name is found if it is the only one."""
        if not self._is_fresh(_FRESH_S) or (self._find(key_id) is None and not self._is_fresh(self._again_s)):
            await self._read()
        found = self._find(key_id)
        if found is None:
            raise Unauthenticated("The token is signed by no key of the issuer.")
        return found

    def _find(self, key_id: str) -> Any:
        if not key_id and len(self._known) == 1:
            return next(iter(self._known.values()))
        return self._known.get(key_id)

    def _is_fresh(self, for_s: float) -> bool:
        return self._read_at is not None and clock.monotonic_s() - self._read_at < for_s

    async def _read(self) -> None:
        """Reads the issuer's keys, once for all that wait; the old ones stay if they cannot be read."""
        before = self._reads
        async with self._reading:
            if self._reads == before:
                await self._read_now()
            if self._read_at is None:
                raise Temporary("The issuer's keys cannot be read, so no token can be checked now.")

    async def _read_now(self) -> None:
        try:
            self._known = await run_beside(_keys_of, await self._get(await self._place()))
        except Exception as error:
            _logger.warning("the keys of the issuer of tokens cannot be read", error=str(error))
            if not self._known:
                return
        finally:
            self._reads += 1
        self._read_at = clock.monotonic_s()

    async def _place(self) -> str:
        """Where the issuer publishes its keys."""
        assert self.issuer is not None
        base = self.issuer.rstrip("/")
        for path in _METADATA:
            try:
                found = await self._get(base + path)
            except (LookupError, ValueError):
                continue
            if found.get("issuer") == self.issuer and isinstance(found.get("jwks_uri"), str):
                return str(found["jwks_uri"])
        raise LookupError("the issuer publishes no metadata in its own name")

    async def _get(self, url: str) -> dict[str, Any]:
        asked = HttpRequest("GET", url, {"Accept": "application/json"}, timeout_s=_TIMEOUT_S, max_bytes=_MOST_BYTES)
        answer = await self._http.request(replace(asked, max_redirects=0))
        if answer.status != 200:
            raise LookupError(f"{url} answers {answer.status}")
        found = json.loads(answer.body)
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found


def _keys_of(document: dict[str, Any]) -> dict[str, Any]:
    """The keys for signatures, by their ids; one that cannot be read is left out."""
    import jwt  # slow import

    found = {}
    for one in document.get("keys") or ():
        if not isinstance(one, dict) or one.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(one)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name in _ALGORITHMS:
            found[str(one.get("kid") or "")] = key
    return found


def _why(error: Exception) -> str:
    """What is wrong, without what the token says."""
    words = {
        "ExpiredSignatureError": "it has expired",
        "InvalidAudienceError": "it is for another audience",
        "InvalidIssuerError": "it is of another issuer",
        "ImmatureSignatureError": "its time has not come",
        "MissingRequiredClaimError": "it lacks exp, iss, aud or sub",
        "InvalidSignatureError": "its signature is wrong",
    }
    return words.get(type(error).__name__, "it cannot be read")
