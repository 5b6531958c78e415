"""`POST /v1/workflows/{id}/run`: starts a run. By hand, for speed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from dustrun.api import idempotency, openapi
from dustrun.api.auth import admit
from dustrun.api.envelope import EncodedAnswer, answer, request_id, success_body
from dustrun.api.limits import read_json
from dustrun.api.routing import RawRoute
from dustrun.core.run.trace import parse as parse_traceparent
from dustrun.core.values.exact_json import MOST
from dustrun.errors import Code, Invalid
from dustrun.operations.declaration.parts import Parts, parts_of
from dustrun.operations.runs import GATE, STARTING
from dustrun.operations.shapes.runs import RunBody, RunIdAnswer, request_of
from dustrun.sdk.threads import run_sized
from dustrun.services.access.idempotency import Answer, Duplicate, PendingKey, current
from dustrun.services.access.principal import Principal
from dustrun.services.problems import errors_in, problems_of

RUN_CALL = [
    *STARTING,
    *GATE,
    Code.WORKFLOW_ARCHIVED,
    Code.WORKFLOW_UNKNOWN,
    Code.VERSION_UNKNOWN,
    Code.STATE_CONFLICT,
]


async def parse_body(document: Any, size: int | None = None) -> RunBody:
    """Parses the body of a run call, which had `size` bytes; absent, `null` and `{}` mean the same."""
    if document is None:
        return RunBody()
    if size is not None and size <= MOST:  # then it has no more parts than that
        return _parse(document)
    return await run_sized(document, _parse, document)


def _parse(document: Any) -> RunBody:
    try:
        return RunBody.model_validate(document)
    except ValidationError as error:
        details = problems_of(errors_in(error, document, RunBody.model_validate), model=RunBody)
        raise Invalid("The request body is not valid.", details=details) from None


def trace_of(parts: Parts, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str] | None:
    """The caller's span from `traceparent`, if tracing is on."""
    if parts.settings.otlp_endpoint is None:
        return None
    sent = next((value.decode("latin-1") for name, value in headers if name == b"traceparent"), None)
    return {"parent": sent} if sent is not None and parse_traceparent(sent) is not None else None


async def run_workflow(scope: Scope, receive: Receive, send: Send) -> None:
    """Run a workflow now.

    Works for draft, active and paused workflows; `maxRuns` and the cooldown do not apply. The answer is sent once the
    run and its first event are stored, before the run ends. To open the stream first, choose the `runId`. For a dry
    run (`simulate`), the permission `workflow:simulate` is enough."""
    parts = parts_of(scope)
    principal = await admit(parts, scope, "workflow:execute", or_else="workflow:simulate")
    body, document = await read_json(scope, receive, parts.settings.max_body_bytes)
    workflow_id = scope["path_params"]["id"]
    pending = idempotency.pending(parts, scope, principal, body)
    if pending is not None:
        await _run_once(pending, principal, workflow_id, document, scope, receive, send)
        return
    trace = trace_of(parts, scope["headers"])
    run_body = await parse_body(document, len(body))
    created = await parts.starts.start(principal, workflow_id, request_of(run_body, trace))
    await answer({"runId": created.run_id}, scope, receive, send)


async def _run_once(
    pending: PendingKey,
    principal: Principal,
    workflow_id: str,
    document: Any,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """The run call with an Idempotency-Key."""
    parts, found = parts_of(scope), request_id(scope)
    response = await idempotency.find(parts, pending)
    if response is None:
        pending.answer = lambda created: Answer(200, success_body({"runId": created.run_id}, found), created.run_id)
        token = current.set(pending)
        try:
            trace = trace_of(parts, scope["headers"])
            await parts.starts.start(principal, workflow_id, request_of(await parse_body(document), trace))
            assert pending.recorded is not None
            response = EncodedAnswer(pending.recorded.body)
        except Duplicate:
            response = await idempotency.replay(parts, pending)
        finally:
            current.reset(token)
    await response(scope, receive, send)


raw_routes = [
    RawRoute(
        "/v1/workflows/{id}/run",
        run_workflow,
        method="POST",
        permission="workflow:execute",
        or_else="workflow:simulate",
    )
]


_BODY = {
    "schema": {"anyOf": [{"$ref": "#/components/schemas/RunBody"}, {"type": "null"}]},
    "examples": {
        "plain": {"summary": "A live run of the draft, or of the live version", "value": {}},
        "simulate": {
            "summary": "A dry run with your own id",
            "value": {"simulate": True, "runId": "run_try-1", "payload": {"limit": 2000}},
        },
    },
}


@openapi.later
def _describe_run_call() -> None:
    openapi.add_model(RunBody)
    body = {"required": False, "content": {"application/json": _BODY}}
    answers = {200: {"content": openapi.enveloped(RunIdAnswer)}}
    openapi.add(raw_routes[0], "Runs", answers, RUN_CALL, requestBody=body)
