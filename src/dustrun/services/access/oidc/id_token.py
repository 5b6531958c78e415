"""Checks of an ID token besides its signature, issuer and audience (OpenID Connect Core, 3.1.3.7)."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final

from dustrun.errors import Code, Forbidden

SKEW_S: Final = 60
"""How far the clocks of this server and of a provider may be apart."""


def refuse(message: str) -> Forbidden:
    """The error of an answer that signs nobody in."""
    return Forbidden(message, code=Code.SIGN_IN_REFUSED)


def check_times(claims: Mapping[str, Any], *, now_s: int, begun_s: int | None = None) -> None:
    """Raises `Forbidden` if the token has ended, or is from the future, or from before the sign-in began; how many
    seconds the clocks seem apart is named."""
    issued_s, ends_s = _seconds(claims, "iat"), _seconds(claims, "exp")
    if issued_s > now_s + SKEW_S:
        raise _apart(issued_s - now_s, "ahead of")
    if begun_s is not None and issued_s < begun_s - SKEW_S:
        raise _apart(begun_s - issued_s, "behind")
    if ends_s < now_s - SKEW_S:
        raise _apart(now_s - ends_s, "behind", "at least ")


def check_party(claims: Mapping[str, Any], client_id: str) -> None:
    """Raises `Forbidden` if the token was made for another client, though it names this one too."""
    audience, party = claims["aud"], claims.get("azp")
    is_shared = isinstance(audience, list) and len(audience) > 1
    if party != client_id and (is_shared or party is not None):
        raise refuse("The provider's ID token was made for another client (azp). Check sign_in_client_id.")


def check_nonce(claims: Mapping[str, Any], nonce: str) -> None:
    """Raises `Forbidden` if the token belongs to another sign-in."""
    said = claims.get("nonce")
    if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
        raise refuse("The provider's ID token belongs to another sign-in (nonce). Sign in again.")


def _seconds(claims: Mapping[str, Any], name: str) -> int:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(f"The provider's ID token is not valid: {name} must be a number of seconds.")
    return int(value)


def _apart(by_s: int, where: str, at_least: str = "") -> Forbidden:
    return refuse(
        f"The provider's clock is {at_least}{by_s} seconds {where} this server's, and {SKEW_S} are the most. Whoever "
        "runs them must set both by a time server (NTP)."
    )
