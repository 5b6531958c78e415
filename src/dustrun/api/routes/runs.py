"""`/v1/workflows/{id}/run` and `/v1/runs`: starts, reads and controls runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import Depends, Path, Query
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from dustrun.api import idempotency, openapi
from dustrun.api.auth import admit
from dustrun.api.envelope import Answered, answer, request_id, success_body
from dustrun.api.limits import read_json
from dustrun.api.parts import Parts, parts_of
from dustrun.api.routing import Call, RawRoute, Routes
from dustrun.api.shapes import runs as shapes
from dustrun.api.shapes.comparison import ComparisonAnswer
from dustrun.api.shapes.effects import EffectsAnswer
from dustrun.api.shapes.runs import (
    CountsAnswer,
    InlineBody,
    ResolveBody,
    RetriedAnswer,
    RetryBody,
    RunAnswer,
    RunBody,
    RunIdAnswer,
    RunListItem,
    RunPageAnswer,
)
from dustrun.api.shapes.wire import ANY_OF, MAX_INTEGER, Commas, Instant, Paged, moment_ms
from dustrun.core.run.journal import item_frame
from dustrun.core.run.state import Mode, RunStatus
from dustrun.core.run.trace import parse as parse_traceparent
from dustrun.core.values.weight import MOST
from dustrun.errors import Code, Invalid, Problem
from dustrun.records import dataclass
from dustrun.sdk.threads import run_sized
from dustrun.services.access.idempotency import Answer, Duplicate, Pending, current
from dustrun.services.access.paging import Paging
from dustrun.services.access.principal import Principal
from dustrun.services.problems import errors_in, problems_of
from dustrun.services.runs.engine_port import Created
from dustrun.services.runs.lists.pages import RunPage
from dustrun.services.runs.runs import Resolution, Run
from dustrun.services.runs.start_request import RunRequest
from dustrun.storage.runs.run_lists import Filters

routes = Routes("Runs")
router = routes.router

RunId = Annotated[str, Path(alias="id", description="Id of the run.", max_length=128)]
NodeId = Annotated[str, Path(alias="nodeId", description="Id of the node, or its path like `each[3].pay`.")]
WorkflowId = Annotated[str, Path(alias="id", description="Id of the workflow.", max_length=128)]
Statuses = Annotated[list[RunStatus] | None, Commas, Query(alias="status", description=f"Statuses, {ANY_OF}.")]
Modes = Annotated[list[Mode] | None, Commas, Query(alias="mode", description=f"Modes, {ANY_OF}.")]
Included = Annotated[list[Literal["sources"]] | None, Commas, Query(description="What else the report has.")]
Since = Annotated[Instant | None, Query(alias="since", description="Started at or after this instant.")]
Until = Annotated[Instant | None, Query(alias="until", description="Started before this instant.")]
OfVersion = Annotated[
    int | None, Query(alias="version", ge=1, le=MAX_INTEGER, description="Only runs of this version of the workflow.")
]
OfWorkflow = Annotated[str | None, Query(alias="workflowId", description="Only runs of this workflow.")]
Search = Annotated[
    str | None,
    Query(
        max_length=256,
        description="Text in the run's id, its workflow's name, what started it, its error or its last message. The "
        "newest runs of the other filters are searched for a third of a second: a page may have fewer runs than "
        "`limit`, or none, and `hasMore`; `cursor` then goes on.",
    ),
]
Cursor = Annotated[
    str | None,
    Query(
        pattern="^[0-9]{1,18}$",
        description="`nextCursor` of the page before, instead of `offset`: no run is shown twice if others start.",
    ),
]
STARTING = [
    Code.BOTH_MODES,
    Code.RUN_ID_MALFORMED,
    Code.RUN_ID_USED,
    Code.PAYLOAD_INVALID,
    Code.CHAT_MESSAGE_UNKNOWN,
    Code.TRIGGER_NODE_UNKNOWN,
    Code.DEFINITION_INVALID,
    Code.HOST_NOT_ALLOWED,
]
_GATE = [Code.REHEARSAL_MISSING, Code.VERSION_NOT_ACCEPTED]
RUN_CALL = [
    *STARTING,
    *_GATE,
    Code.WORKFLOW_ARCHIVED,
    Code.WORKFLOW_UNKNOWN,
    Code.VERSION_UNKNOWN,
    Code.STATE_CONFLICT,
]


# --- the run call: bare, for speed ---


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


def request_of(body: RunBody, trace: dict[str, str] | None = None) -> RunRequest:
    """Converts the body for the service."""
    return RunRequest(
        payload=body.payload or {},
        version=body.version,
        run_id=body.run_id,
        simulate=body.simulate or False,
        dust_test=body.dust_test or False,
        chat_message_id=body.chat_message_id,
        trigger_node_id=body.trigger_node_id,
        prop_values=body.prop_values or {},
        trace=trace,
    )


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
    pending: Pending,
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
            response = Answered(pending.recorded.body)
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


# --- inline ---


def _created(created: Created) -> dict[str, Any]:
    return {"runId": created.run_id}


@routes.post(
    "/v1/runs",
    permission="run:inline",
    answers=RunIdAnswer,
    shape=_created,
    refusals=[*STARTING, Code.TRIGGER_NOT_MANUAL, Code.VERSION_NOT_ACCEPTED],
)
async def run_inline(call: Call, body: InlineBody) -> Created:
    """Run a definition without saving it."""
    return await call.parts.starts.start_inline(call.principal, body.definition, request_of(body))


# --- reading ---


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The parameters that the lists of runs share."""

    filters: Filters
    paging: Paging
    q: str | None


async def _list_query(  # async: FastAPI runs plain functions in a thread
    paging: Paged,
    statuses: Statuses = None,
    modes: Modes = None,
    since: Since = None,
    until: Until = None,
    q: Search = None,
    cursor: Cursor = None,
) -> ListQuery:
    if cursor is not None and paging.offset:
        raise _refused("offset", "give either a cursor or an offset")
    if q and paging.offset:
        raise _refused("offset", "pages of a search are found with `cursor`")
    filters = _filters(statuses, modes, since, until)
    return ListQuery(replace(filters, before=int(cursor) if cursor is not None else None), paging, q)


ListParameters = Annotated[ListQuery, Depends(_list_query)]


def _filters(
    statuses: list[RunStatus] | None, modes: list[Mode] | None, since: str | None, until: str | None
) -> Filters:
    return Filters(
        statuses=tuple(status.value for status in statuses or ()),
        modes=tuple(mode.value for mode in modes or ()),
        since=moment_ms(since) if since is not None else None,
        until=moment_ms(until) if until is not None else None,
    )


def _refused(name: str, message: str) -> Invalid:
    return Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=[Problem(name, message)])


async def _page(call: Call, query: ListQuery, workflow_id: str | None, version: int | None) -> RunPage:
    filters = replace(query.filters, workflow_id=workflow_id, version=version)
    return await call.parts.runs.list_page(call.principal, filters, query.paging, query.q)


@routes.get(
    "/v1/runs",
    permission="run:read",
    answers=RunPageAnswer,
    shape=shapes.run_page_shape,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_runs(
    call: Call, query: ListParameters, workflow_id: OfWorkflow = None, version: OfVersion = None
) -> RunPage:
    """List the organisation's runs, newest first.

    `version` needs `workflowId`.
    """
    return await _page(call, query, workflow_id, version)


@routes.get(
    "/v1/workflows/{id}/runs",
    permission="run:read",
    answers=RunPageAnswer,
    shape=shapes.run_page_shape,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_workflow_runs(
    call: Call, workflow_id: WorkflowId, query: ListParameters, version: OfVersion = None
) -> RunPage:
    """List a workflow's runs, newest first."""
    return await _page(call, query, workflow_id, version)


def _counts(counts: dict[str, int]) -> dict[str, int]:
    by_status = {status.value: counts.get(status.value, 0) for status in RunStatus}
    return {**by_status, "total": sum(by_status.values())}


@routes.get(
    "/v1/workflows/{id}/runs/count",
    permission="run:read",
    answers=CountsAnswer,
    shape=_counts,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def count_workflow_runs(
    call: Call,
    workflow_id: WorkflowId,
    modes: Modes = None,
    since: Since = None,
    until: Until = None,
    version: OfVersion = None,
) -> dict[str, int]:
    """Count a workflow's runs by status."""
    filters = replace(_filters(None, modes, since, until), workflow_id=workflow_id, version=version)
    return await call.parts.runs.count(call.principal, filters)


@routes.get(
    "/v1/runs/status-counts",
    permission="run:read",
    answers=CountsAnswer,
    shape=_counts,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def count_runs(
    call: Call,
    modes: Modes = None,
    since: Since = None,
    until: Until = None,
    workflow_id: OfWorkflow = None,
    version: OfVersion = None,
) -> dict[str, int]:
    """Count the organisation's runs by status.

    `version` needs `workflowId`. The list's `q` counts nothing: no index finds a text.
    """
    filters = replace(_filters(None, modes, since, until), workflow_id=workflow_id, version=version)
    return await call.parts.runs.count(call.principal, filters)


@routes.get("/v1/runs/{id}", permission="run:read", answers=RunAnswer, refusals=[Code.RUN_UNKNOWN])
async def get_run(
    call: Call,
    run_id: RunId,
    summary: Annotated[bool, Query(description="Omit state and definition.")] = False,
    node_ids: Annotated[
        str | None, Query(alias="nodeIds", description="Only these nodes; comma-separated ids.")
    ] = None,
) -> dict[str, Any]:
    """Get one run: complete, slim, or limited to some nodes."""
    wanted = frozenset(part.strip() for part in node_ids.split(",")) if node_ids is not None else None
    run = await call.parts.runs.get(call.principal, run_id, slim=summary, node_ids=wanted)
    return await run_sized(run, shapes.run_shape, run, wanted)


@routes.get("/v1/runs/{id}/effects", permission="run:read", answers=EffectsAnswer, refusals=[Code.RUN_UNKNOWN])
async def get_run_effects(call: Call, run_id: RunId, include: Included = None) -> dict[str, Any]:
    """Get the effects of a run and of the runs that it called, or those that a simulation would have: requests,
    transactions, assumed values, warnings.

    With `include=sources`, also what shaped each spend: what could have changed who was paid and how much, and what
    decided that it happened."""
    return await call.parts.run_reports.effects(call.principal, run_id, with_sources="sources" in (include or ()))


@routes.get(
    "/v1/runs/{id}/compare/{otherId}",
    permission="run:read",
    answers=ComparisonAnswer,
    refusals=[Code.RUN_UNKNOWN, Code.STATE_CONFLICT],
)
async def compare_runs(
    call: Call, run_id: RunId, other_id: Annotated[str, Path(alias="otherId", description="Id of the other run.")]
) -> dict[str, Any]:
    """Compare two runs of a workflow, e.g. a rehearsal and the live run."""
    left, right, compared = await call.parts.run_reports.compare(call.principal, run_id, other_id)
    return {"left": shapes.list_item(left.row), "right": shapes.list_item(right.row), **compared}


# --- steering ---

_STEERED = ("mode", "isSimulation", "isDustTest", "sourceRunId", "cancelRequestedAt")


@routes.post(
    "/v1/runs/{id}/cancel",
    permission="run:cancel",
    reads="run:read",
    needed=_STEERED,
    answers=RunAnswer,
    shape=shapes.run_shape,
    refusals=[Code.RUN_UNKNOWN, Code.RUN_NOT_OPEN],
)
async def cancel_run(call: Call, run_id: RunId) -> Run:
    """Cancel a run: no new node starts, and interruptible nodes are interrupted."""
    return await call.parts.runs.cancel(call.principal, run_id)


@routes.post(
    "/v1/runs/{id}/retry",
    permission="workflow:execute",
    reads="run:read",
    needed=_STEERED,
    answers=RetriedAnswer,
    shape=shapes.retried_shape,
    refusals=[
        Code.RUN_UNKNOWN,
        Code.RUN_NOT_RETRYABLE,
        Code.TRANSACTION_OPEN,
        Code.STATE_CONFLICT,
        Code.WORKFLOW_ARCHIVED,
        Code.DEFINITION_INVALID,
        Code.HOST_NOT_ALLOWED,
        *_GATE,
    ],
)
async def retry_run(call: Call, run_id: RunId, body: RetryBody | None = None) -> Created:
    """Retry a run with the same mode, version and payload; results of succeeded nodes are kept."""
    return await call.parts.starts.retry(call.principal, run_id)


@routes.post(
    "/v1/runs/{id}/nodes/{nodeId}/resolve",
    permission="workflow:execute",
    reads="run:read",
    needed=_STEERED,
    answers=RunListItem,
    shape=shapes.list_item,
    refusals=[Code.RUN_UNKNOWN, Code.NODE_UNKNOWN, Code.NODE_NOT_UNCERTAIN],
)
async def resolve_node(call: Call, run_id: RunId, node_id: NodeId, body: ResolveBody) -> Any:
    """Resolve an `uncertain` node: its effect happened (with this result), or execute it again.

    Send `attempt`, or an `Idempotency-Key`, if you may have to repeat the request.
    """
    path = _path_of(node_id, body)
    answer = Resolution(body.outcome, body.result, body.attempt)
    return await call.parts.runs.resolve(call.principal, run_id, path, answer)


def _path_of(node_id: str, body: ResolveBody) -> str:
    if body.for_each_context is None:
        return node_id
    if "[" in node_id:
        problem = Problem("forEachContext", "give either a path or forEachContext, not both")
        raise Invalid("The node is identified twice.", details=[problem])
    frame = ""
    for position in body.for_each_context.stack:
        frame = item_frame(frame + position.parent_node_id, position.index)
    return frame + node_id
