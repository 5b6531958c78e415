"""Limits on what a request sends: the size of its body, and its content type."""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import Any

from starlette.types import Message, Receive

from dustrun.core.values import exact_json
from dustrun.core.values.exact_json import JsonError, is_large
from dustrun.errors import Code, DustrunError, Invalid
from dustrun.sdk.threads import run_beside


def _header(scope: MutableMapping[str, Any], name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


def _too_large(limit: int) -> DustrunError:
    return DustrunError(f"The body is larger than {limit} bytes.", code=Code.BODY_TOO_LARGE)


async def read_body(scope: MutableMapping[str, Any], receive: Receive, limit: int) -> bytes:
    """Reads the body, counting bytes as they arrive, since `Content-Length` may be wrong or absent."""
    declared = _header(scope, b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise Invalid("The connection was closed before the complete body arrived.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def check_content_type(scope: MutableMapping[str, Any]) -> None:
    """Raises 415 unless the body is declared as JSON, in UTF-8 and without an encoding."""
    encoding = _header(scope, b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise DustrunError(
            f'Content-Encoding "{encoding.decode("latin-1")}" is not supported.', code=Code.CONTENT_TYPE_UNSUPPORTED
        )
    content_type = _header(scope, b"content-type")
    if content_type == b"application/json":
        return
    media, _, parameters = (content_type or b"").decode("latin-1").partition(";")
    name, _, charset = parameters.strip().partition("=")
    plain = not name or (name.strip().lower() == "charset" and charset.strip().strip('"').lower() in ("utf-8", "utf8"))
    if media.strip().lower() != "application/json" or not plain:
        raise DustrunError("The body must be application/json in UTF-8.", code=Code.CONTENT_TYPE_UNSUPPORTED)


async def read_json(scope: MutableMapping[str, Any], receive: Receive, limit: int) -> tuple[bytes, Any]:
    """Reads the body's bytes and its document, decoded exactly; an absent or blank body is `(b"", None)`."""
    body = await read_body(scope, receive, limit)
    if not body.strip():
        return b"", None
    check_content_type(scope)
    try:
        if is_large(body):
            return body, await run_beside(exact_json.loads_unique, body)
        return body, exact_json.loads_unique(body)
    except JsonError as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from None


def retry_after(seconds: float | None) -> str:
    """The value of `Retry-After`: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds or 1)))
