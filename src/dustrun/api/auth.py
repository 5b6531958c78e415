"""Authentication and authorisation: the bearer key, the rate limit, then the permission."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.responses import Response

from dustrun import ids, log
from dustrun.errors import Code, Forbidden, Unauthenticated
from dustrun.operations.declaration.operation import ANY_KEY
from dustrun.operations.declaration.parts import Parts
from dustrun.services.access.oidc.outside_tokens import is_token
from dustrun.services.access.principal import Principal
from dustrun.services.access.rate_limits import WrongKeys
from dustrun.settings import Settings

# The cookies of a browser's session, and what a request that bears one must show besides.
#
# A page of another site must not act with a user's cookie: `SameSite=Strict` keeps it from being sent, and since other
# ports of the same host are the same site, `Sec-Fetch-Site`, `Origin`, `Host` and a token in a header are checked as
# well (OWASP, Cross-Site Request Forgery Prevention).


CSRF_HEADER: Final = b"x-csrf-token"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def read(scope: MutableMapping[str, Any], name: str) -> str | None:
    """The session's id in a request's cookies; None without one."""
    for header, value in scope["headers"]:
        if header == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1"))
            except CookieError:
                continue
            for one in (f"__Host-{name}", name):
                if one in found:
                    return found[one].value
    return None


def has_any(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request bears a cookie that may be ours."""
    return any(header == b"cookie" and b"dustrun_" in value for header, value in scope["headers"])


def check_own_page(scope: MutableMapping[str, Any], settings: Settings) -> None:
    """Raises `Forbidden` unless the request comes from a page of this server, at a name that it is known by."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("The request comes from a page of another site.", code=Code.CROSS_SITE)
    host = headers.get(b"host", "")
    if _name_of(f"//{host}") not in _names(settings):
        raise Forbidden(
            f'This server does not go by the name "{host[:100]}". Set `public_url` (DUSTRUN_PUBLIC_URL) to the address '
            "that people open in their browsers.",
            code=Code.CROSS_SITE,
        )
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise Forbidden("The request comes from a page of another origin.", code=Code.CROSS_SITE)


def check_token(scope: MutableMapping[str, Any], csrf_hash: str) -> None:
    """Raises `Forbidden` if a request that may write lacks the session's token."""
    if scope["method"] in _SAFE:
        return
    sent = next((value.decode("latin-1") for name, value in scope["headers"] if name == CSRF_HEADER), "")
    if not hmac.compare_digest(ids.secret_hash(sent), csrf_hash):
        raise Forbidden(
            "The request lacks the token of its session: send the value of the readable cookie as `X-CSRF-Token`.",
            code=Code.CSRF_TOKEN_MISSING,
        )


def put(
    response: Response, scope: MutableMapping[str, Any], settings: Settings, name: str, secrets: Mapping[str, str]
) -> None:
    """Sets the session's cookies: `secrets` has `id` and `csrf`."""
    is_secure, prefix = _is_secure(scope, settings), "__Host-" if _is_secure(scope, settings) else ""
    common: dict[str, Any] = {"path": "/", "secure": is_secure, "samesite": "strict"}
    response.set_cookie(f"{prefix}{name}", secrets["id"], httponly=True, **common)
    response.set_cookie(f"{prefix}{name}_csrf", secrets["csrf"], httponly=False, **common)


def put_attempt(
    response: Response, scope: MutableMapping[str, Any], settings: Settings, name: str, secret: str, lasts_s: int
) -> None:
    """Sets the cookie of a browser that goes to sign in at the provider; `lasts_s` of 0 deletes it."""
    is_secure = _is_secure(scope, settings)
    place: dict[str, Any] = {"path": "/", "secure": is_secure, "samesite": "strict", "httponly": True}
    response.set_cookie(f"{'__Host-' if is_secure else ''}{name}", secret, max_age=lasts_s, **place)


def check_home(scope: MutableMapping[str, Any], settings: Settings) -> None:
    """Raises `Forbidden` unless the browser has opened the address that the provider sends people back to."""
    sent = {name: value.decode("latin-1") for name, value in scope["headers"]}.get(b"host", "")
    home = urlsplit(settings.base_url())
    asked, usual = urlsplit(f"//{sent}"), {"http": 80, "https": 443}.get(home.scheme)
    if (asked.hostname, asked.port or usual) != (home.hostname, home.port or usual):
        raise Forbidden(
            f"Open {settings.base_url()} to sign in: that is where the provider sends people back to (public_url).",
            code=Code.CROSS_SITE,
        )


def clear(response: Response, scope: MutableMapping[str, Any], settings: Settings, name: str) -> None:
    """Deletes the session's cookies."""
    is_secure = _is_secure(scope, settings)
    prefix = "__Host-" if is_secure else ""
    for one in (name, f"{name}_csrf"):
        response.delete_cookie(f"{prefix}{one}", path="/", secure=is_secure, samesite="strict")


def _is_secure(scope: MutableMapping[str, Any], settings: Settings) -> bool:
    """Whether the browser speaks https, itself or to a proxy in front of the server."""
    if scope.get("scheme") == "https":
        return True
    public = urlsplit(settings.public_url or "")
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    return public.scheme == "https" and _name_of(f"//{host}") == public.hostname


def _names(settings: Settings) -> frozenset[str | None]:
    public = urlsplit(settings.public_url).hostname if settings.public_url else None
    return _LOOPBACK | {settings.host, public}


def _name_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


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
    name = await parts.access.sessions.name() if has_any(scope) else ""
    session_id = read(scope, name) if name else None
    if session_id is None:
        raise Unauthenticated("Send your API key as `Authorization: Bearer <key>`.")
    check_own_page(scope, parts.settings)
    session = await parts.access.sessions.find(session_id)
    if session is None:
        raise Unauthenticated("The session has ended; sign in again.")
    check_token(scope, session.csrf_hash)
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
