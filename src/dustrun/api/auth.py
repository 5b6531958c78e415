"""Authentication and authorisation: the bearer key, the rate limit, then the permission."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from dustrun import ids, log
from dustrun.api import cookies
from dustrun.api.limits import WrongKeys
from dustrun.api.parts import Parts
from dustrun.errors import Unauthenticated
from dustrun.services.access.outside_tokens import is_token
from dustrun.services.access.principal import Principal

PUBLIC = "public"
ANY_KEY = "any key"
_PRINCIPAL = "dustrun.principal"


def bearer_of(scope: MutableMapping[str, Any]) -> str | None:
    """The key of `Authorization: Bearer <key>`, or None."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").partition(" ")
            return key.strip() if scheme.lower() == "bearer" else None
    return None


async def authenticate(parts: Parts, scope: MutableMapping[str, Any]) -> Principal:
    """Returns the caller of the bearer key; raises `Unauthenticated`."""
    key = bearer_of(scope)
    if key is None:
        return await _by_session(parts, scope)
    principal = parts.access.keys.find_cached(key) or await _look_up(parts, scope, key)
    scope[_PRINCIPAL] = principal
    log.bind(org_id=principal.org_id)
    return principal


async def _by_session(parts: Parts, scope: MutableMapping[str, Any]) -> Principal:
    """The caller of a browser's session, for a request that its own page sent."""
    name = await parts.access.sessions.name() if cookies.has_any(scope) else ""
    session_id = cookies.read(scope, name) if name else None
    if session_id is None:
        raise Unauthenticated("Send your API key as `Authorization: Bearer <key>`.")
    cookies.check_own_page(scope, parts.settings)
    session = await parts.access.sessions.find(session_id)
    if session is None:
        raise Unauthenticated("The session has ended; sign in again.")
    cookies.check_token(scope, session.csrf_hash)
    scope[_PRINCIPAL] = session.principal
    log.bind(org_id=session.principal.org_id)
    return session.principal


async def _look_up(parts: Parts, scope: MutableMapping[str, Any], key: str) -> Principal:
    async def find() -> Principal:
        keys = parts.access.keys
        # each waits for its turn: the first of many with an expired entry has looked it up for all of them
        principal = keys.find_cached(key) or await keys.find(key)
        if principal is None:
            raise Unauthenticated("The API key is not valid.")
        return principal

    return await _slowing_guesses(parts.access.wrong_keys, scope, key, find)


async def _slowing_guesses(
    wrong: WrongKeys, scope: MutableMapping[str, Any], secret: str, find: Callable[[], Awaitable[Principal]]
) -> Principal:
    """The caller whom `find` finds by the secret; whoever tries many that are wrong has to wait."""
    secret_hash, address = ids.secret_hash(secret), (scope.get("client") or ("",))[0]
    async with wrong.turn_of(secret_hash):
        wrong.check(address, secret_hash)
        try:
            principal = await find()
        except Unauthenticated:
            wrong.was_wrong(secret_hash)
            raise
        wrong.was_good(address, secret_hash)
    return principal


async def admit_reader(parts: Parts, scope: MutableMapping[str, Any], token: str | None, permission: str) -> Principal:
    """As `admit`, for a stream, which a token of its own also opens."""
    if token is None or bearer_of(scope) is not None:
        return await admit(parts, scope, permission)
    find = partial(parts.streams.use_token, token, scope["path"])
    principal = await _slowing_guesses(parts.access.wrong_tokens, scope, token, find)
    parts.access.limiter.take(principal.org_id)
    return principal


async def admit_outside(parts: Parts, scope: MutableMapping[str, Any]) -> Principal:
    """As `admit`, for a route that also takes tokens of an outside issuer; no other does."""
    token = bearer_of(scope)
    if token is None or not is_token(token):
        return await admit(parts, scope, ANY_KEY)
    find = partial(parts.access.outside_tokens.find, token)
    principal = await _slowing_guesses(parts.access.wrong_keys, scope, token, find)
    scope[_PRINCIPAL] = principal
    log.bind(org_id=principal.org_id)
    parts.access.limiter.take(principal.org_id)
    return principal


async def admit(
    parts: Parts, scope: MutableMapping[str, Any], permission: str, *, or_else: str | None = None
) -> Principal:
    """Authenticates, takes one token of the organisation's rate limit, and checks the permission. `or_else`: a lesser
    one that is enough for some requests of the route; its service tells which."""
    principal = await authenticate(parts, scope)
    parts.access.limiter.take(principal.org_id)
    if permission != ANY_KEY and not (or_else is not None and principal.may(or_else)):
        principal.need(permission)
    return principal


def principal_of(scope: MutableMapping[str, Any]) -> Principal | None:
    """The caller that `authenticate` found for this request, if any."""
    found: Principal | None = scope.get(_PRINCIPAL)
    return found
