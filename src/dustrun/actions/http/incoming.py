"""Interprets HTTP responses: the meaning of a status, and the body as a JSON value."""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from dustrun.core.values.exact_json import JsonError, loads
from dustrun.core.values.retry_after import retry_after_s
from dustrun.errors import DustrunError, Permanent, Temporary
from dustrun.sdk import HttpResponse

PASSING: Final = frozenset({429, 502, 503, 504})
"""Temporary statuses."""
_NOT_DONE: Final = frozenset({429, 503})
_JSON = re.compile(r"(application|text)/([a-z0-9.!#$&^_-]+\+)?json")
_TEXT = re.compile(r"text/.*|application/(.*\+)?(xml|javascript|yaml|x-www-form-urlencoded|graphql|x-ndjson)")
_CHARSET = re.compile(r'charset="?([A-Za-z0-9_.:-]+)"?', re.I)
_EXCERPT_CHARS: Final = 300


def failure(response: HttpResponse, what: str, *, is_read: bool, now_ms: int) -> DustrunError | None:
    """The error of a status; None below 400. `what` names the request."""
    status = response.status
    if status < 400:
        return None
    message = f"{what} got status {status}{_excerpt(response)}"
    asked_s = retry_after_s(response.headers.get("retry-after", ""), now_ms)
    if is_read and (status in (408, 429) or status >= 500):
        return Temporary(message, retry_after_s=asked_s)
    if status in _NOT_DONE and asked_s is not None and not response.was_taken:
        return Temporary(message, retry_after_s=asked_s)
    return Permanent(message)


def _excerpt(response: HttpResponse) -> str:
    value, _ = read_body(response)
    if value is None or _is_binary(response):
        return "."
    text = response.body.decode("utf-8", "replace")
    return f": {text[:_EXCERPT_CHARS]}{'…' if len(text) > _EXCERPT_CHARS else ''}"


def read_body(response: HttpResponse) -> tuple[Any, str | None]:
    """The body: JSON as an exact value, text as a string, anything else as base64, none as null. Also returns a warning
    if JSON cannot be parsed; the body is then text, because a response that arrived must not fail the node.
    """
    if not response.body:
        return None, None
    if _JSON.fullmatch(_media_type(response)):
        try:
            return loads(response.body), None
        except JsonError as error:
            return _text(response), f"The response is declared as JSON but is not: {error}. It is returned as text."
    return (base64.b64encode(response.body).decode() if _is_binary(response) else _text(response)), None


def _media_type(response: HttpResponse) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_binary(response: HttpResponse) -> bool:
    media_type = _media_type(response)
    if _JSON.fullmatch(media_type) or _TEXT.fullmatch(media_type):
        return False
    if media_type:
        return True
    try:
        response.body.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


def _text(response: HttpResponse) -> str:
    found = _CHARSET.search(response.headers.get("content-type", ""))
    for charset in (found[1] if found else "utf-8", "utf-8"):
        try:
            return response.body.decode(charset)
        except (UnicodeError, LookupError):
            continue
    return response.body.decode("latin-1")
