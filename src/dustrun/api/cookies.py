"""The cookies of a browser's session, and what a request that bears one must show besides.

A page of another site must not act with a user's cookie: `SameSite=Strict` keeps it from being sent, and since other
ports of the same host are the same site, `Sec-Fetch-Site`, `Origin`, `Host` and a token in a header are checked as well
(OWASP, Cross-Site Request Forgery Prevention).
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.responses import Response

from dustrun import ids
from dustrun.errors import Code, Forbidden
from dustrun.settings import Settings

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
