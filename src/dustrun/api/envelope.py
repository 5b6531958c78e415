"""The envelope of every answer: `{"code", "message", "data" or "details", "requestId"}`."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import orjson
from starlette.responses import Response

from dustrun.api.limits import retry_after
from dustrun.core.text.redaction import hide_bytes
from dustrun.core.values.exact_json import dumps_wire
from dustrun.core.values.wire_pieces import wire_pieces
from dustrun.errors import DustrunError

_REQUEST_ID = "dustrun.request_id"
_MUST_RETRY_AFTER = frozenset({429, 503})


def put_request_id(scope: MutableMapping[str, Any], request_id: str) -> None:
    """Stores the id in the request's scope."""
    scope[_REQUEST_ID] = request_id


def request_id(scope: MutableMapping[str, Any]) -> str:
    """The id of one request."""
    found: str = scope[_REQUEST_ID]
    return found


class Answered(Response):
    """A JSON answer whose body is already encoded."""

    media_type = "application/json"


def success_body(data: Any, request_id: str) -> bytes:
    """The envelope of a successful answer."""
    answer = {"code": 200, "message": "success", "data": data, "requestId": request_id}
    return b"".join(map(hide_bytes, wire_pieces(answer)))


def success(data: Any, request_id: str, status: int = 200) -> Response:
    """A successful answer."""
    return Answered(success_body(data, request_id), status)


def failure_body(error: DustrunError, request_id: str) -> bytes:
    """The envelope of an error."""
    shown = {"code": int(error.code), "message": error.message, "details": error.public_details()}
    return hide_bytes(dumps_wire({**shown, "requestId": request_id}))


def failure(error: DustrunError, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """An error answer; 429 and 503 always have `Retry-After`, 401 has the authentication scheme."""
    status = error.code.status
    sent = dict(headers or {})
    if status in _MUST_RETRY_AFTER:
        sent["Retry-After"] = retry_after(error.retry_after_s)
    if status == 401:
        sent.setdefault("WWW-Authenticate", "Bearer")
    return Answered(failure_body(error, request_id), status, headers=sent)


def request_id_of_body(body: str) -> str | None:
    """The `requestId` inside a stored answer."""
    found = orjson.loads(body).get("requestId")
    return found if isinstance(found, str) else None
