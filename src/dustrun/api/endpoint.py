"""Serves one declared operation over HTTP.

The caller is authenticated, permission and rate are checked, the body is read within its limit and decoded exactly, and
a repeated Idempotency-Key is answered; parameters and body are validated, and all their problems reported together.
Then the handler runs, and its result is put into the envelope.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dustrun.api import idempotency
from dustrun.api.auth import admit
from dustrun.api.envelope import EncodedAnswer, Reading, request_id, send_body, success_body, whole_body
from dustrun.api.limits import read_json
from dustrun.core.validate import suggest
from dustrun.core.validate.ignored import ignored_fields
from dustrun.core.values.exact_json import MOST, is_large
from dustrun.errors import Code, DustrunError, Invalid, Problem
from dustrun.operations.declaration.operation import PUBLIC, Operation
from dustrun.operations.declaration.parts import Call, Parts, parts_of
from dustrun.operations.shapes.findings import with_warnings
from dustrun.sdk.threads import run_beside
from dustrun.services.access.idempotency import Answer, Duplicate, PendingKey, current, once
from dustrun.services.access.principal import Principal
from dustrun.services.problems import errors_in, problems_of

_NOBODY: Final = Principal(key_id="", org_id="", permissions=frozenset())
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_MOST_NAMED: Final = 20
_MISSING: Final = {"type": "missing", "loc": (), "msg": "Field required", "input": None}


class Endpoint:
    """One operation over HTTP."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._reading = None if operation.reads is None else Reading(operation.reads, frozenset(operation.needed))
        self._is_strict = operation.by_link is None and operation.path.startswith("/v1/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request whose `path_params` are known."""
        parts, operation = parts_of(scope), self._operation
        principal = _NOBODY if operation.permission == PUBLIC else await self._admitted(parts, scope)
        given = self._query(scope["query_string"]) if scope["query_string"] else {}
        given.update(scope["path_params"])
        body, document = b"", None
        if scope["method"] in _WITH_BODY:
            body, document = await read_json(scope, receive, parts.settings.max_body_bytes)
        call = Call(parts, principal, request_id(scope), scope["headers"])
        if operation.method == "POST" and operation.permission != PUBLIC:
            call.pending = idempotency.pending(parts, scope, principal, body, secret=operation.secret_body)
        if operation.takes_request:
            given["request"] = Request(scope)
        if call.pending is not None:
            response = await _answer_once(
                call, call.pending, functools.partial(self._respond, call, given, body, document)
            )
            await response(scope, receive, send)
            return
        made = await self._answer(call, given, body, document)
        if isinstance(made, Response):
            await made(scope, receive, send)
        else:
            await send_body(made.body, scope, receive, send, made.status)

    async def _admitted(self, parts: Parts, scope: Scope) -> Principal:
        operation = self._operation
        by_link = operation.by_link(Request(scope)) if operation.by_link is not None else None
        return by_link or await admit(parts, scope, operation.permission, or_else=operation.or_else)

    def _query(self, sent: bytes) -> dict[str, Any]:
        """The parameters of the query: the last of each, or all of one that is a list. Refuses unknown ones, since a
        misspelt filter would not filter."""
        found: dict[str, list[str]] = {}
        for name, value in parse_qsl(sent.decode("latin-1"), keep_blank_values=True):
            found.setdefault(name, []).append(value)
        if self._is_strict and any(name not in self._known for name in found):
            problems = [
                Problem(name[:80], f"There is no such parameter.{_meant(name, list(self._known))}")
                for name in [name for name in found if name not in self._known][:_MOST_NAMED]  # each takes its time
            ]
            raise Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=problems)
        return {name: values if self._known.get(name) else values[-1] for name, values in found.items()}

    @functools.cached_property
    def _known(self) -> dict[str, bool]:
        """The parameters of the query, and whether each is a list."""
        return {one.name: one.is_list for one in self._operation.parameters if not one.is_in_path}

    async def _respond(self, call: Call, given: dict[str, Any], sent: bytes, document: Any) -> Response:
        made = await self._answer(call, given, sent, document)
        return made if isinstance(made, Response) else EncodedAnswer(made.body, made.status)

    async def _answer(self, call: Call, given: dict[str, Any], sent: bytes, document: Any) -> Response | Answer:
        operation = self._operation
        if is_large(sent):
            arguments = await run_beside(self._validated, given, sent, document)
        else:
            arguments = self._validated(given, sent, document)
        body = arguments.get("body")
        if operation.may_ignore:
            call.ignored += ignored_fields(body)
        if call.pending is not None:
            call.pending.answer = functools.partial(self._shaped, call=call, body=body)
        result = await operation.handler(call, **arguments)
        if isinstance(result, Response):
            return result
        stored = call.pending.recorded if call.pending is not None else None
        if stored is not None:
            return stored
        if operation.size(result) > MOST:
            return await run_beside(functools.partial(self._shaped, result, call=call, body=body))
        return self._shaped(result, call, body, is_small=operation.weighs_whole)

    # --- validation ---

    def _validated(self, given: dict[str, Any], sent: bytes, document: Any) -> dict[str, Any]:
        """The handler's arguments; raises `Invalid` with the problems of the parameters and of the body."""
        operation, arguments, outside, inside = self._operation, dict[str, Any](), list[Problem](), list[Problem]()
        if operation.input_model is not None:
            try:
                arguments = operation.arguments(operation.input_model.model_validate(given))
            except ValidationError as error:
                outside = problems_of(error.errors(include_url=False))
        if operation.takes_request:
            arguments["request"] = given["request"]
        if operation.body is not None:
            try:
                arguments["body"] = self._body(sent, document)
            except ValidationError as error:
                validate = operation.body_adapter.validate_python
                inside = problems_of(errors_in(error, document, validate), model=operation.body_model)
            except _NoBody:
                inside = problems_of([_MISSING])
        if inside:
            raise Invalid("The request body is not valid.", details=[*outside, *inside])
        if outside:
            raise Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=outside)
        return arguments

    def _body(self, sent: bytes, document: Any) -> BaseModel | None:
        if not sent and self._operation.must_have_body:
            raise _NoBody
        body: BaseModel | None = self._operation.body_adapter.validate_python(document, from_attributes=True)
        return body

    # --- the answer ---

    def _shaped(self, result: Any, call: Call, body: Any, *, is_small: bool = False) -> Answer:
        data = self._operation.encode(result)
        if self._reading is not None:
            data = self._reading.shown(data, call.principal, body)
        if call.ignored:
            data = with_warnings(data, call.ignored)
        found = data.get("id") if isinstance(data, dict) else None
        return Answer(
            status=200,
            body=(whole_body if is_small else success_body)(data, call.request_id),
            resource_id=found if isinstance(found, str) else None,
            secret=self._operation.secret,
        )


class _NoBody(Exception):
    """A request has no body, and must have one."""


def _meant(name: str, known: list[str]) -> str:
    return suggest(name[:80], known) or (
        f" Known parameters: {', '.join(known)}." if known else " This route has no parameters."
    )


# --- replay ---


async def _answer_once(call: Call, pending: PendingKey, answer: Callable[[], Awaitable[Response]]) -> Response:
    replayed = await idempotency.find(call.parts, pending)
    if replayed is not None:
        return replayed
    token = current.set(pending)
    try:
        response = await answer()
        if pending.recorded is None and response.status_code < 300:
            await _record_alone(call, pending, response)
        return response
    except Duplicate:
        return await idempotency.replay(call.parts, pending)
    except DustrunError:
        # refused perhaps only because the first request with this key has just done it
        replayed = await idempotency.find(call.parts, pending)
        if replayed is None:
            raise
        return replayed
    finally:
        current.reset(token)


async def _record_alone(call: Call, pending: PendingKey, response: Response) -> None:
    """For a call that wrote nothing: stores its answer for replay as well."""
    pending.answer = lambda _: Answer(status=response.status_code, body=bytes(response.body))
    await call.parts.writer.write(once(lambda _: None, pending))
