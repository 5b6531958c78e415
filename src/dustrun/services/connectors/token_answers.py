"""The answers of token endpoints (RFC 6749, sections 5.1 and 5.2)."""

from __future__ import annotations

from typing import Any, Final

from dustrun import clock
from dustrun.core.text.masking import LEAST, Mask
from dustrun.core.values import exact_json
from dustrun.core.values.exact_json import JsonError
from dustrun.errors import Permanent, Temporary
from dustrun.records import dataclass
from dustrun.sdk.context import HttpResponse

_UNSAID_MS: Final = 600_000
_EARLY_MS: Final = 60_000
_MAX_EXCERPT: Final = 300
_RENEW = "reconnect: get a new refresh token from the provider, and give it to the connector"
_CLIENT = "check clientId and clientSecret, which may have expired"
_MENDS: Final = {
    "invalid_grant": _RENEW,
    "interaction_required": _RENEW,  # Microsoft: the person must sign in
    "invalid_client": _CLIENT,
    "unauthorized_client": "allow the client this grant at the provider",
    "invalid_scope": "check scope",
}
"""Remedies for the errors of RFC 6749, section 5.2."""
_ENDS: Final = frozenset({"invalid_grant", "interaction_required", "bad_refresh_token"})


@dataclass(frozen=True, slots=True)
class Granted:
    """The provider's token response; `expires_at` is when to request the next token."""

    token: str
    expires_at: int
    refresh_token: str | None
    is_timed: bool = True
    """Whether the provider says when it ends."""


def read_answer(name: str, response: HttpResponse, mask: Mask) -> Granted:
    """Parses a token response (RFC 6749 §5.1); raises on an error response (§5.2), never quoting a secret."""
    if response.status == 429 or response.status >= 500:
        raise Temporary(f'The token endpoint of the connector "{name}" answered {response.status}.')
    try:
        answer = exact_json.loads(response.body)
    except JsonError:
        answer = None
    if response.status < 300 and not isinstance(answer, dict):
        raise Permanent(
            f'The token endpoint of the connector "{name}" answered {response.status} without a JSON object (RFC '
            "6749 section 5.1); check tokenUrl"
        )
    if response.status >= 300:
        raise Permanent(f'The token endpoint of the connector "{name}" answered {response.status}{_why(answer, mask)}.')
    token, kind = answer.get("access_token"), str(answer.get("token_type", "bearer"))
    if not isinstance(token, str) or not _is_usable(token):
        why = _why(answer, mask)
        raise Permanent(f'The token endpoint of the connector "{name}" returned no usable access_token{why}.')
    if kind.lower() != "bearer":
        mask.add([token])
        raise Permanent(
            f'The token endpoint of the connector "{name}" returned a token of type "{mask.text(kind)[:40]}"; only '
            "bearer is supported."
        )
    fresh = answer.get("refresh_token")
    lifetime_ms = _lifetime_ms(answer.get("expires_in"))
    renew_at = clock.now_ms() + lifetime_ms - min(_EARLY_MS, lifetime_ms // 5)
    is_timed = answer.get("expires_in") is not None
    return Granted(token, renew_at, fresh if isinstance(fresh, str) and fresh else None, is_timed)


def is_revocation(response: HttpResponse) -> bool:
    """Whether it says that the grant is no more: no token will come of it again."""
    try:
        answer = exact_json.loads(response.body)
    except JsonError:
        return False
    return response.status < 500 and isinstance(answer, dict) and str(answer.get("error")) in _ENDS


def _is_usable(token: str) -> bool:
    """Whether the token can be sent in a header and is long enough to mask."""
    return len(token) >= LEAST and token.isascii() and token.isprintable() and " " not in token


def _lifetime_ms(expires_in: Any) -> int:
    digits = str(expires_in)
    return int(digits) * 1000 if digits.isascii() and digits.isdigit() and len(digits) < 10 else _UNSAID_MS


def _why(answer: Any, mask: Mask) -> str:
    if not isinstance(answer, dict):
        return ""
    said = ": ".join(str(answer[part]) for part in ("error", "error_description") if isinstance(answer.get(part), str))
    mend = _MENDS.get(str(answer.get("error")))
    excerpt = f": {mask.text(said)[:_MAX_EXCERPT].removesuffix('.')}" if said else ""
    return excerpt if mend is None else f"{excerpt}; {mend}"
