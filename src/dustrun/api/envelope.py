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
from starlette.types import Message, Receive, Scope, Send

from dustrun.api.limits import retry_after
from dustrun.core.text.masking import hide_bytes
from dustrun.core.values.exact_json import Encode, dumps, dumps_wire, loads_own, wire_pieces
from dustrun.core.values.fields import Fields
from dustrun.errors import Code, DustrunError, Invalid, Problem
from dustrun.operations.declaration.answers import Answer
from dustrun.records import dataclass
from dustrun.sdk.threads import run_beside
from dustrun.services.access.principal import Principal

_REQUEST_ID = "dustrun.request_id"
_WHOLE_ANSWER = "dustrun.whole_answer"
_WAS_ANSWERED = "dustrun.was_answered"
_JSON = (b"content-type", b"application/json")
PRIVATE: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Of every answer that does not say otherwise: it may carry a key, and what workflows put in it is never a page."""
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
    await send_body(success_body(data, request_id(scope)), scope, receive, send, status)


async def send_body(body: bytes, scope: Scope, receive: Receive, send: Send, status: int = 200) -> None:
    """The same for an answer that is encoded already."""
    whole: WholeAnswer | None = scope.get(_WHOLE_ANSWER)
    if whole is not None and whole(status, [_JSON, *PRIVATE, (b"x-request-id", request_id(scope).encode())], body):
        scope[_WAS_ANSWERED] = status
        return
    await EncodedAnswer(body, status)(scope, receive, send)


class EncodedAnswer(Response):
    """A JSON answer whose body is already encoded."""

    media_type = "application/json"


def whole_body(data: Any, request_id: str) -> bytes:
    """The envelope of a successful answer that was weighed and is small."""
    return hide_bytes(encode({"code": 200, "message": "success", "data": data, "requestId": request_id}))


def success_body(data: Any, request_id: str) -> bytes:
    """The envelope of a successful answer of any size."""
    answer = {"code": 200, "message": "success", "data": data, "requestId": request_id}
    return b"".join(map(hide_bytes, wire_pieces(answer, encode)))


def success(data: Any, request_id: str, status: int = 200) -> Response:
    """A successful answer."""
    return EncodedAnswer(success_body(data, request_id), status)


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
    return EncodedAnswer(failure_body(error, request_id), status, headers=sent)


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


# Leaves nulls out of JSON answers for callers that send `Dustrun-Omit-Null: true`.
#
# It works on the encoded answer, so that it covers every route, replayed answers and errors alike. Only nulls of the
# answer's own fields go: what people and programs wrote (`DATA`) is theirs, and a null in it may mean something.


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
