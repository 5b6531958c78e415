"""The payload that an inbound request gives a workflow: its body as an object, headers and query without secrets."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl

from dustrun.core.text.masking import MASK
from dustrun.core.values import exact_json

MAX_KEY: Final = 200
FORM: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS = 1000
_MOST_SHOWN = 16_384
_SECRET = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "x-auth-token", "x-csrf-token"}
)


class WrongType(ValueError):
    """The content type is not accepted."""


def parse(body: bytes, content_type: str | None) -> dict[str, Any]:
    """The body as an object: a JSON object and the fields of a form as they are, another JSON value as `value`, text as
    `text`. Raises `WrongType`, or `ValueError` for a body that is not what its type says."""
    if not body.strip():
        return {}
    kind, charset = _kind_of(content_type)
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise WrongType(f"The charset {charset[:40]!r} is not accepted; send UTF-8.")
    if kind == "application/json" or kind.endswith("+json"):
        value = exact_json.loads_unique(body)
        return value if isinstance(value, dict) else {"value": value}
    if kind == FORM:
        return _form(_text(body))
    if kind.startswith("text/") or kind.endswith("+xml") or kind == "application/xml":
        return {"text": _text(body)}
    raise WrongType(f"{_named(kind)} is not accepted; send JSON, a form, or text.")


def _named(kind: str) -> str:
    return f'The content type "{kind[:80]}"' if kind else "A body without a content type"


def _kind_of(content_type: str | None) -> tuple[str, str]:
    kind, _, parameters = (content_type or "").partition(";")
    found = (part.strip().partition("=") for part in parameters.split(";"))
    charset = next((value for name, _, value in found if name.strip().lower() == "charset"), "")
    return kind.strip().lower(), charset.strip().strip('"').lower()


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise ValueError("the body is not UTF-8") from None


def _form(text: str) -> dict[str, Any]:
    """The fields of a form; one that comes several times is a list."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError:
        raise ValueError(f"the form is malformed, or has over {_MOST_FIELDS} fields") from None
    return collected(pairs)


def collected(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Values by name; those of a name that comes several times as a list."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def shown_headers(headers: Mapping[str, str], secret: Collection[str]) -> dict[str, str]:
    """The headers as a workflow and the log see them: secrets masked, and no more than fits."""
    left, shown = _MOST_SHOWN, {}
    for name, value in headers.items():
        kept = MASK if name in _SECRET or name in secret else value
        left -= len(name) + len(kept)
        if left < 0:
            break
        shown[name] = kept
    return shown


def query_of(text: str) -> dict[str, str]:
    """The query of the address; of a name that comes several times, the last value."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=100, errors="replace")
    except ValueError:
        return {}
    return dict(pairs) if len(text) <= _MOST_SHOWN else {}


def text_of(value: Any) -> str:
    """A value as part of an identity: `1`, `1.0` and `1e0` are one number."""
    if isinstance(value, Decimal):
        digits = exact_json.plain_digits(value)
        return digits.rstrip("0").rstrip(".") if "." in digits else digits
    return str(value)


def key_of(kind: str, value: str) -> str:
    """The key of an event by an identity that its sender gives; a long one is hashed."""
    if len(value) <= MAX_KEY and value.isprintable():
        return f"{kind}:{value}"
    return f"{kind}-sha256:{hashlib.sha256(value.encode()).hexdigest()}"
