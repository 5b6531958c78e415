"""`/v1/workflows/{id}/run` and `/v1/runs`: starts, reads and controls runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.core.run.journal import item_frame
from dustrun.core.run.state import Mode, RunStatus
from dustrun.errors import Code, Invalid, Problem
from dustrun.operations.declaration.encoding import as_it_is, data_of
from dustrun.operations.declaration.fields import ANY_OF, MAX_INTEGER, Commas, Instant, Paged, moment_ms
from dustrun.operations.declaration.operation import Group, Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes import runs as shapes
from dustrun.operations.shapes.comparison import ComparisonAnswer
from dustrun.operations.shapes.effects import EffectsAnswer
from dustrun.operations.shapes.runs import (
    CountsAnswer,
    InlineBody,
    ResolveBody,
    RetriedAnswer,
    RetryBody,
    RunAnswer,
    RunIdAnswer,
    RunListItem,
    RunPageAnswer,
    WorkflowCountsAnswer,
    request_of,
)
from dustrun.operations.shapes.workflows import HELLO
from dustrun.sdk.threads import run_sized
from dustrun.services.access.paging import Paging
from dustrun.services.actions import TEST
from dustrun.services.runs import run_metrics
from dustrun.services.runs.engine_port import CreatedRun
from dustrun.services.runs.pages import RunPage
from dustrun.services.runs.runs import Resolution, Run
from dustrun.services.runs.shown_values import Answering
from dustrun.storage.runs.run_lists import RunFilters

noun = Noun("Runs")

RunId = Annotated[str, Named("id"), Field(description="Id of the run.", max_length=128)]
NodeId = Annotated[str, Named("nodeId"), Field(description="Id of the node, or its path like `each[3].pay`.")]
WorkflowId = Annotated[str, Named("id"), Field(description="Id of the workflow.", max_length=128)]
Statuses = Annotated[list[RunStatus] | None, Commas, Named("status"), Field(description=f"Statuses, {ANY_OF}.")]
Modes = Annotated[list[Mode] | None, Commas, Named("mode"), Field(description=f"Modes, {ANY_OF}.")]
Included = Annotated[list[Literal["sources"]] | None, Commas, Field(description="What else the report has.")]
Since = Annotated[Instant | None, Named("since"), Field(description="Started at or after this instant.")]
Until = Annotated[Instant | None, Named("until"), Field(description="Started before this instant.")]
OfVersion = Annotated[
    int | None, Named("version"), Field(ge=1, le=MAX_INTEGER, description="Only runs of this version of the workflow.")
]
OfWorkflow = Annotated[str | None, Named("workflowId"), Field(description="Only runs of this workflow.")]
GATE = [Code.REHEARSAL_MISSING, Code.VERSION_NOT_ACCEPTED]
STARTING = [
    Code.BOTH_MODES,
    Code.RUN_ID_MALFORMED,
    Code.RUN_ID_USED,
    Code.PAYLOAD_INVALID,
    Code.CHAT_MESSAGE_UNKNOWN,
    Code.TRIGGER_NODE_UNKNOWN,
    Code.DEFINITION_INVALID,
    Code.HOST_NOT_ALLOWED,
    Code.RUN_LIMIT,
]


# --- inline ---


@noun.post(
    "/v1/runs",
    permission="run:inline",
    answers=RunIdAnswer,
    refusals=[*STARTING, Code.TRIGGER_NOT_MANUAL, Code.VERSION_NOT_ACCEPTED],
    example={"definition": HELLO, "payload": {"name": "Ada"}, "simulate": True},
)
async def run_inline(call: Call, body: InlineBody) -> CreatedRun:
    """Run a definition without saving it."""
    return await call.parts.starts.start_inline(call.principal, body.definition, request_of(body))


# --- reading ---


class RunQuery(Group):
    """Which runs are listed."""

    statuses: Statuses = Field(None, alias="status")
    modes: Modes = Field(None, alias="mode")
    since: Since = None
    until: Until = None
    q: str | None = Field(
        None,
        max_length=256,
        description="Text in the run's id, its workflow's name, what started it, its error or its last message. The "
        "newest runs of the other filters are searched for a third of a second: a page may have fewer runs than "
        "`limit`, or none, and `hasMore`; `cursor` then goes on.",
    )
    started_by: str | None = Field(
        None,
        alias="startedBy",
        max_length=64,
        description="Only runs that this person, service account or key started, by id; `me`: the caller, with all "
        "keys and sessions of theirs. Runs that a trigger or another run started are not among them.",
    )
    action_tests: bool = Field(
        True, alias="actionTests", description="Also runs of `POST /v1/actions/{type}/test`, which are of no workflow."
    )
    cursor: str | None = Field(
        None,
        pattern="^[0-9]{1,18}$",
        description="`nextCursor` of the page before, instead of `offset`: no run is shown twice if others start.",
    )


def _filters(
    statuses: list[RunStatus] | None, modes: list[Mode] | None, since: str | None, until: str | None
) -> RunFilters:
    return RunFilters(
        statuses=tuple(status.value for status in statuses or ()),
        modes=tuple(mode.value for mode in modes or ()),
        since=moment_ms(since) if since is not None else None,
        until=moment_ms(until) if until is not None else None,
    )


def _refused(name: str, message: str) -> Invalid:
    return Invalid("A parameter is not valid.", code=Code.PARAMETER_INVALID, details=[Problem(name, message)])


async def _page(call: Call, query: RunQuery, paging: Paging, workflow_id: str | None, version: int | None) -> RunPage:
    if query.cursor is not None and paging.offset:
        raise _refused("offset", "give either a cursor or an offset")
    if query.q and paging.offset:
        raise _refused("offset", "pages of a search are found with `cursor`")
    filters = replace(
        _filters(query.statuses, query.modes, query.since, query.until),
        workflow_id=workflow_id,
        version=version,
        before=int(query.cursor) if query.cursor is not None else None,
        without_source=None if query.action_tests else TEST,
        keys=None if query.started_by is None else await call.parts.runs.keys_of(call.principal, query.started_by),
    )
    return await call.parts.runs.list_page(call.principal, filters, paging, query.q)


@noun.get(
    "/v1/runs",
    permission="run:read",
    answers=RunPageAnswer,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_runs(
    call: Call, query: RunQuery, paging: Paged, workflow_id: OfWorkflow = None, version: OfVersion = None
) -> RunPage:
    """List the organisation's runs, newest first.

    `version` needs `workflowId`.
    """
    return await _page(call, query, paging, workflow_id, version)


@noun.get(
    "/v1/workflows/{id}/runs",
    permission="run:read",
    answers=RunPageAnswer,
    refusals=[Code.WORKFLOW_UNKNOWN],
)
async def list_workflow_runs(
    call: Call, workflow_id: WorkflowId, query: RunQuery, paging: Paged, version: OfVersion = None
) -> RunPage:
    """List a workflow's runs, newest first."""
    return await _page(call, query, paging, workflow_id, version)


def _counts(counts: dict[str, int]) -> dict[str, int]:
    by_status = {status.value: counts.get(status.value, 0) for status in RunStatus}
    return {**by_status, "total": sum(by_status.values())}


@noun.get(
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


@noun.get(
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


def _by_workflow(found: list[tuple[str, dict[str, int]]]) -> list[dict[str, Any]]:
    return [{"workflowId": workflow_id, **_counts(counts)} for workflow_id, counts in found]


@noun.get(
    "/v1/runs/status-counts/by-workflow",
    permission="run:read",
    answers=list[WorkflowCountsAnswer],
    shape=_by_workflow,
)
async def count_runs_by_workflow(
    call: Call,
    modes: Modes = None,
    since: Since = None,
    limit: Annotated[int, Field(ge=1, le=1000, description="Most workflows.")] = 100,
) -> list[tuple[str, dict[str, int]]]:
    """Count the organisation's runs by workflow and status, the busiest workflow first.

    A workflow without such runs is not listed; inline runs are together, with an empty `workflowId`.
    """
    filters = await call.parts.runs.reachable(call.principal, _filters(None, modes, since, None))
    return await run_metrics.busiest(call.parts.database, call.principal, filters, limit)


@noun.get("/v1/runs/{id}", permission="run:read", answers=RunAnswer, refusals=[Code.RUN_UNKNOWN], shape=as_it_is)
async def get_run(
    call: Call,
    run_id: RunId,
    summary: Annotated[bool, Field(description="Omit state and definition.")] = False,
    node_ids: Annotated[
        str | None, Named("nodeIds"), Field(description="Only these nodes; comma-separated ids.")
    ] = None,
    omit_larger_than: Annotated[
        int | None,
        Named("omitLargerThan"),
        Field(ge=0, le=2**31, description="Omit payload, inputs and results of more bytes of JSON; tell their size."),
    ] = None,
) -> dict[str, Any]:
    """Get one run: complete, slim, or limited to some nodes.

    Inputs and results can have megabytes. With `omitLargerThan`, larger ones are null, with `inputOmitted` and
    `inputBytes`, or `resultOmitted` and `resultBytes`; the same holds for the payload. `nodeIds` without
    `omitLargerThan` then gets those of one node. An item of a loop is with the outermost loop."""
    wanted = frozenset(part.strip() for part in node_ids.split(",")) if node_ids is not None else None
    run = await call.parts.runs.get(
        call.principal, run_id, slim=summary, node_ids=wanted, answer=Answering(omit_larger_than)
    )
    return await run_sized(run, shapes.run_shape, run, wanted)


@noun.get(
    "/v1/runs/{id}/effects", permission="run:read", answers=EffectsAnswer, refusals=[Code.RUN_UNKNOWN], shape=as_it_is
)
async def get_run_effects(call: Call, run_id: RunId, include: Included = None) -> dict[str, Any]:
    """Get the effects of a run and of the runs that it called, or those that a simulation would have: requests,
    transactions, assumed values, warnings.

    With `include=sources`, also what shaped each spend: what could have changed who was paid and how much, and what
    decided that it happened."""
    return await call.parts.run_reports.effects(call.principal, run_id, with_sources="sources" in (include or ()))


@noun.get(
    "/v1/runs/{id}/compare/{otherId}",
    permission="run:read",
    answers=ComparisonAnswer,
    refusals=[Code.RUN_UNKNOWN, Code.STATE_CONFLICT],
    shape=as_it_is,
)
async def compare_runs(
    call: Call, run_id: RunId, other_id: Annotated[str, Named("otherId"), Field(description="Id of the other run.")]
) -> dict[str, Any]:
    """Compare two runs of a workflow, e.g. a rehearsal and the live run."""
    left, right, compared = await call.parts.run_reports.compare(call.principal, run_id, other_id)
    return {"left": data_of(RunListItem, left.row), "right": data_of(RunListItem, right.row), **compared}


# --- steering ---

_STEERED = ("mode", "isSimulation", "isDustTest", "sourceRunId", "cancelRequestedAt")


@noun.post(
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


@noun.post(
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
        Code.RUN_LIMIT,
        *GATE,
    ],
    example={},
)
async def retry_run(call: Call, run_id: RunId, body: RetryBody | None = None) -> CreatedRun:
    """Retry a run with the same mode, version and payload; results of succeeded nodes are kept."""
    return await call.parts.starts.retry(call.principal, run_id)


@noun.post(
    "/v1/runs/{id}/nodes/{nodeId}/resolve",
    permission="workflow:execute",
    reads="run:read",
    needed=_STEERED,
    answers=RunListItem,
    refusals=[Code.RUN_UNKNOWN, Code.NODE_UNKNOWN, Code.NODE_NOT_UNCERTAIN],
    example={"outcome": "happened", "result": {"id": "n-17"}},
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
