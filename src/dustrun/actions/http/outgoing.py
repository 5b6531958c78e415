"""Builds HTTP requests, and displays them without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from dustrun.core.text.secret_rules import may_be_credential
from dustrun.core.values.exact_json import JsonError, dumps, loads, plain_digits
from dustrun.sdk import HttpRequest

Scalar = str | bool | int | Decimal | None
MASK: Final = "***"
_ADDRESS = re.compile(r"0x[0-9a-f]{40}", re.I)


def text_of(value: Scalar) -> str:
    """A scalar value as text for a header, query or form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return plain_digits(value)
    return "" if value is None else str(value)


def pairs(values: Mapping[str, Scalar | list[Scalar]]) -> Iterator[tuple[str, str]]:
    """(name, text) pairs, one per item of a list; null omits a name."""
    for name, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                yield name, text_of(item)


def with_query(url: str, query: Mapping[str, Scalar | list[Scalar]]) -> str:
    """The URL with additional query parameters."""
    more = urlencode(list(pairs(query)), quote_via=quote)
    if not more:
        return url
    bare = url.partition("#")[0]
    if "?" not in bare:
        return f"{bare}?{more}"
    return f"{bare}{more}" if bare.endswith(("?", "&")) else f"{bare}&{more}"


def form_body(values: Mapping[str, Scalar | list[Scalar]]) -> bytes:
    """An `application/x-www-form-urlencoded` body."""
    return urlencode(list(pairs(values))).encode()


def json_body(value: Any) -> bytes:
    """A JSON body with exact numbers."""
    return dumps(value)


def has_header(headers: Mapping[str, str], name: str) -> bool:
    """Whether a header is set, ignoring case."""
    return any(given.lower() == name.lower() for given in headers)


def shown(request: HttpRequest) -> dict[str, Any]:
    """A request as a simulation reports it: complete, with secrets masked and JSON as a value."""
    what: dict[str, Any] = {
        "method": request.method,
        "url": _shown_url(request.url),
        "headers": {name: MASK if may_be_credential(name) else value for name, value in request.headers.items()},
    }
    if request.body is not None:
        what["body"] = _shown_body(request)
    return what


def _shown_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    named = parse_qsl(parts.query, keep_blank_values=True)
    host = f"{MASK}@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    masked = [(name, MASK if _is_secret_value(name, value) else value) for name, value in named]
    if masked == named:
        return urlunsplit(parts._replace(netloc=host))
    return urlunsplit(parts._replace(netloc=host, query=urlencode(masked, quote_via=quote, safe="*")))


def _is_secret_value(name: str, value: str) -> bool:
    """Whether a query parameter is secret. `token=0x…` with an address names a contract."""
    is_contract = _ADDRESS.fullmatch(value) is not None and not may_be_credential(re.sub("token", "", name, flags=re.I))
    return may_be_credential(name) and not is_contract


def _shown_body(request: HttpRequest) -> Any:
    body = request.body or b""
    content_type = next((value for name, value in request.headers.items() if name.lower() == "content-type"), "")
    if "json" in content_type.lower():
        try:
            return loads(body)
        except JsonError:
            pass
    return body.decode("utf-8", "replace")
