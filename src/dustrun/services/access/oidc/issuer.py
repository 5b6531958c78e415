"""An issuer of signed tokens: what it says of itself, its keys, and whether a token is its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from dustrun import clock, log
from dustrun.errors import Temporary, Unauthenticated
from dustrun.sdk.context import Http, HttpRequest
from dustrun.sdk.threads import run_beside

_logger = log.get(__name__)
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Only such whose keys an issuer can publish: a shared secret would make every reader of it an issuer."""
OF_OPENID: Final = "/.well-known/openid-configuration"
AGAIN_S: Final = 30.0
TIMEOUT_S: Final = 10.0
MOST_BYTES: Final = 262_144
MOST_TOKEN: Final = 16_384
_FRESH_S: Final = 600.0


class Issuer:
    """An issuer. What it publishes is read through the outbound guard, and kept for ten minutes; a token that names
    another key has the keys read again, at most every `again_s`."""

    def __init__(self, url: str, http: Http, places: Sequence[str], *, again_s: float = AGAIN_S) -> None:
        self.url = url
        self._http = http
        self._places = places
        self._about: dict[str, Any] = {}
        self._keys: dict[str, Any] = {}
        self._read_at: float | None = None
        self._reads = 0
        self._reading = asyncio.Lock()
        self._again_s = again_s

    async def about(self) -> dict[str, Any]:
        """Its metadata; raises `Temporary` if it was never read."""
        if not self._is_fresh(_FRESH_S):
            await self._read()
        return self._about

    async def claims_of(
        self, token: str, *, types: frozenset[str], audience: str, leeway_s: float, options: dict[str, Any]
    ) -> dict[str, Any]:
        """The claims of a token of this issuer, of one of these types and for this audience; raises
        `Unauthenticated`, and `Temporary` without the issuer's keys. `options` are PyJWT's."""
        import jwt  # slow import

        if len(token) > MOST_TOKEN:
            raise Unauthenticated("The token is too long.")
        try:
            head = jwt.get_unverified_header(token)
            if head.get("alg") not in ALGORITHMS or str(head.get("typ") or "").lower() not in types:
                raise Unauthenticated("The token is of no kind that this server takes.")
            key = await self._key(str(head.get("kid") or ""))
            found: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name],
                audience=audience,
                issuer=self.url,
                leeway=leeway_s,
                options=options,  # type: ignore[arg-type]
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
        if not key_id and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(key_id)

    def _is_fresh(self, for_s: float) -> bool:
        return self._read_at is not None and clock.monotonic_s() - self._read_at < for_s

    async def _read(self) -> None:
        """Reads what the issuer publishes, once for all that wait; what was read before stays if it cannot be."""
        before = self._reads
        async with self._reading:
            if self._reads == before:
                await self._read_now()
            if self._read_at is None:
                raise Temporary("The issuer's keys cannot be read, so no token can be checked now.")

    async def _read_now(self) -> None:
        try:
            await self.look()
        except Exception as error:
            _logger.warning("the keys of the issuer of tokens cannot be read", issuer=self.url, error=str(error))
            if self._keys:
                self._read_at = clock.monotonic_s()
        finally:
            self._reads += 1

    async def look(self) -> int:
        """Reads what the issuer publishes, and tells how many keys this server can use; raises what is wrong."""
        about = await self._published()
        self._keys = await run_beside(_keys_of, await self._get(about["jwks_uri"]))
        self._about, self._read_at = about, clock.monotonic_s()
        return len(self._keys)

    async def _published(self) -> dict[str, Any]:
        """The metadata that the issuer publishes in its own name, with the place of its keys."""
        base, wrong = self.url.rstrip("/"), []
        for path in self._places:
            try:
                found = await self._get(base + path)
            except (LookupError, ValueError) as error:
                wrong.append(str(error))
                continue
            if found.get("issuer") == self.url and isinstance(found.get("jwks_uri"), str):
                return found
            wrong.append(f"{base}{path} is of the issuer {str(found.get('issuer'))[:200]}")
        raise LookupError(f"the issuer publishes no metadata in its own name: {'; '.join(wrong)}")

    async def _get(self, url: str) -> dict[str, Any]:
        asked = HttpRequest("GET", url, {"Accept": "application/json"}, timeout_s=TIMEOUT_S, max_bytes=MOST_BYTES)
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
        if key.algorithm_name in ALGORITHMS:
            found[str(one.get("kid") or "")] = key
    return found


def _why(error: Exception) -> str:
    """The fault of a token, without its claims."""
    words = {
        "ExpiredSignatureError": "it has expired",
        "InvalidAudienceError": "it is for another audience",
        "InvalidIssuerError": "it is of another issuer",
        "ImmatureSignatureError": "its time has not come",
        "MissingRequiredClaimError": "it lacks a claim that it must have",
        "InvalidSignatureError": "its signature is wrong",
    }
    return words.get(type(error).__name__, "it cannot be read")
