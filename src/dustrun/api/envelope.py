"""The envelope of every answer: `{"code", "message", "data" or "details", "requestId"}`; and what of `data` a
key is shown that may change a thing and not read it.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Final

import orjson
from pydantic import ConfigDict, Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dustrun.api.limits import retry_after
from dustrun.api.shapes.wire import Answer
from dustrun.core.text.redaction import hide_bytes
from dustrun.core.values.exact_json import dumps, dumps_wire
from dustrun.core.values.fields import Fields
from dustrun.core.values.wire_pieces import wire_pieces
from dustrun.errors import Code, DustrunError, Invalid, Problem
from dustrun.records import dataclass
from dustrun.services.access.principal import Principal

_REQUEST_ID = "dustrun.request_id"
_WHOLE_ANSWER = "dustrun.whole_answer"
_WAS_ANSWERED = "dustrun.was_answered"
_JSON = (b"content-type", b"application/json")
WholeAnswer = Callable[[int, list[tuple[bytes, bytes]], bytes], bool]
"""Sends 200 or 202 with headers and a whole body; False, with nothing sent, if the connection needs the usual way."""
_MUST_RETRY_AFTER = frozenset({429, 503})
EXACT_NUMBERS: Final = "Dustrun-Exact-Numbers"
_EXACT_NUMBERS: Final = EXACT_NUMBERS.lower().encode()
_is_exact: ContextVar[bool] = ContextVar("is_exact", default=False)


def read_numbers(scope: Scope) -> None:
    """Whether this request's answer has big integers as numbers; raises `Invalid` for a malformed header."""
    for name, value in scope["headers"]:
        if name == _EXACT_NUMBERS:
            if value.lower() not in (b"true", b"false"):
                problem = Problem(EXACT_NUMBERS, "must be `true` or `false`")
                raise Invalid("A header is not valid.", code=Code.PARAMETER_INVALID, details=[problem])
            _is_exact.set(value.lower() == b"true")
            return


def is_exact() -> bool:
    """Whether this request's answer has big integers as numbers."""
    return _is_exact.get()


def encode(value: Any) -> bytes:
    """A part of an answer as JSON: integers beyond 2^53 as text, or as numbers if the caller reads these exactly."""
    return dumps(value) if _is_exact.get() else dumps_wire(value)


def put_request_id(scope: MutableMapping[str, Any], request_id: str) -> None:
    """Stores the id in the request's scope."""
    scope[_REQUEST_ID] = request_id


def request_id(scope: MutableMapping[str, Any]) -> str:
    """The id of one request."""
    found: str = scope[_REQUEST_ID]
    return found


def put_whole_answer(scope: MutableMapping[str, Any], answer: WholeAnswer) -> None:
    """Stores the connection's way to send a whole answer at once."""
    scope[_WHOLE_ANSWER] = answer


def forbid_whole_answer(scope: MutableMapping[str, Any]) -> None:
    """For a request whose answer is changed on its way."""
    scope.pop(_WHOLE_ANSWER, None)


def answered_whole(scope: MutableMapping[str, Any]) -> int | None:
    """The status of a success that was sent whole; None if none was."""
    status: int | None = scope.get(_WAS_ANSWERED)
    return status


async def answer(data: Any, scope: Scope, receive: Receive, send: Send, status: int = 200) -> None:
    """Sends a successful answer, 200 or 202, at once if the connection allows that."""
    found = request_id(scope)
    whole: WholeAnswer | None = scope.get(_WHOLE_ANSWER)
    if whole is not None and whole(status, [_JSON, (b"x-request-id", found.encode())], success_body(data, found)):
        scope[_WAS_ANSWERED] = status
        return
    await success(data, found, status)(scope, receive, send)


class Answered(Response):
    """A JSON answer whose body is already encoded."""

    media_type = "application/json"


def success_body(data: Any, request_id: str) -> bytes:
    """The envelope of a successful answer."""
    answer = {"code": 200, "message": "success", "data": data, "requestId": request_id}
    return b"".join(map(hide_bytes, wire_pieces(answer, encode)))


def success(data: Any, request_id: str, status: int = 200) -> Response:
    """A successful answer."""
    return Answered(success_body(data, request_id), status)


def failure_body(error: DustrunError, request_id: str) -> bytes:
    """The envelope of an error."""
    shown = {"code": int(error.code), "message": error.message, "details": error.public_details()}
    return hide_bytes(encode({**shown, "requestId": request_id}))


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


# --- for keys that may not read ---

_NEEDED: Final = frozenset(
    [
        *("id", "runId", "workflowId", "walletId"),
        *("version", "draftVersion", "liveVersion", "workflowVersion", "status"),
        *("createdAt", "updatedAt", "startedAt", "finishedAt", "decidedAt", "revokedAt", "archivedAt"),
    ]
)


class Unread(Answer):
    """The part of an answer that a key without the permission to read it gets: ids, versions, states, times, and the
    fields that it has sent."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"required": ["hiddenWithout"]})

    hidden_without: str = Field(
        description="The permission that the key lacks; with it, the answer is whole.", examples=["workflow:read"]
    )
    id: str | None = None
    version: int | None = None
    status: str | None = None
    updated_at: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Who may read what a write answers with. `needed`: fields that the others need besides the usual ones."""

    permission: str
    needed: frozenset[str] = frozenset()

    def shown(self, data: dict[str, Any], principal: Principal, body: Any) -> dict[str, Any]:
        """The answer, as far as the caller may read it."""
        if principal.may(self.permission):
            return data
        sent = body.model_dump(by_alias=True, exclude_unset=True) if isinstance(body, Fields) else {}
        echoed = {name: value for name, value in data.items() if name in sent and sent[name] == value}
        part: dict[str, Any] = _part(data, _NEEDED | self.needed)
        return {**part, **echoed, "hiddenWithout": self.permission}


def _part(value: Any, names: frozenset[str]) -> Any:
    """The fields of these names, at every depth."""
    if isinstance(value, list):
        return [_part(item, names) for item in value]
    if isinstance(value, dict):
        return {name: _part(item, names) for name, item in value.items() if name in names}
    return value
