"""Leaves nulls out of JSON answers for callers that send `Dustrun-Omit-Null: true`.

It works on the encoded answer, so that it covers every route, replayed answers and errors alike. Only nulls of the
answer's own fields go: what people and programs wrote (`DATA`) is theirs, and a null in it may mean something.
"""

from __future__ import annotations

from typing import Any

from starlette.types import Message, Scope, Send

from dustrun.core.values.exact_json import loads_own
from dustrun.core.values.wire_pieces import Encode, wire_pieces
from dustrun.errors import Code, Invalid, Problem
from dustrun.sdk.threads import run_beside

HEADER = "Dustrun-Omit-Null"
DATA = frozenset(
    {
        "abi",
        "after",
        "before",
        "body",
        "dataSchema",
        "def",
        "default",
        "definition",
        "event",
        "exampleData",
        "exampleInput",
        "exampleOutput",
        "input",
        "requestBody",
        "inputSchema",
        "keystore",
        "maskedData",
        "newValue",
        "oldValue",
        "parts",
        "outputSchema",
        "payload",
        "rest",  # of a policy, whose nulls switch something off
        "payloadSchema",
        "propValues",
        "request",
        "result",
        "resultSchema",
        "results",
        "uiMetadata",
        "value",
        "values",
        "workflowDefinition",
    }
)
"""Fields whose values are kept as they are."""
SIDES = frozenset({"before", "after", "left", "right"})
"""The two sides of a difference, beside its `path`: there null is a value, and absence is none."""
_NAME = HEADER.lower().encode()
_LARGE = 16 * 1024


def omitting(scope: Scope, send: Send, encode: Encode) -> Send:
    """`send`, or one that leaves out nulls if the caller asks for that; raises `Invalid` for a malformed header.
    `encode` writes the answer anew."""
    asked = b""
    for name, value in scope["headers"]:
        if name == _NAME:
            asked = value.lower()
            break
    else:
        return send
    if asked not in (b"true", b"false"):
        problem = Problem(HEADER, "must be `true` or `false`")
        raise Invalid("A header is not valid.", code=Code.PARAMETER_INVALID, details=[problem])
    return _Omitting(send, encode) if asked == b"true" else send


class _Omitting:
    """Holds a JSON answer back until it is complete, and sends it without nulls; lets everything else pass."""

    def __init__(self, send: Send, encode: Encode) -> None:
        self._send = send
        self._encode = encode
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_json(message):
            self._start = message
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._finish(self._start)
        else:
            await self._send(message)

    async def _finish(self, start: Message) -> None:
        is_large = len(self._body) > _LARGE
        body = await run_beside(shorten, self._body, self._encode) if is_large else shorten(self._body, self._encode)
        headers = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
        start["headers"] = [*headers, (b"content-length", str(len(body)).encode())]
        await self._send(start)
        await self._send({"type": "http.response.body", "body": body})


def _is_json(start: Message) -> bool:
    return any(name.lower() == b"content-type" and value == b"application/json" for name, value in start["headers"])


def shorten(body: bytes, encode: Encode) -> bytes:
    """An envelope without nulls; a document that is no envelope, such as OpenAPI's, is not changed."""
    answer = loads_own(body)
    if not (isinstance(answer, dict) and "requestId" in answer):
        return body
    return b"".join(wire_pieces({name: without_nulls(item) for name, item in answer.items()}, encode))


def without_nulls(value: Any) -> Any:
    """A part of an answer without the nulls of its own fields."""
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    sides = SIDES if "path" in value else frozenset()
    return {
        name: item if name in DATA or name in sides else without_nulls(item)
        for name, item in value.items()
        if item is not None or name in sides
    }
