"""`/v1/workflows/{id}/run-sync` and `/v1/runs/sync`: run, and wait for the answer."""

from __future__ import annotations

import functools
from typing import Any

from dustrun.api.envelope import EncodedAnswer, success_body
from dustrun.api.routes.run_call import RUN_CALL, trace_of
from dustrun.core.run.state import RunStatus
from dustrun.errors import Code
from dustrun.operations.declaration.encoding import as_it_is
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.runs import STARTING, WorkflowId
from dustrun.operations.shapes import runs as shapes
from dustrun.operations.shapes.findings import with_warnings
from dustrun.operations.shapes.run_sync import ConclusionAnswer, SyncBody, conclusion_shape
from dustrun.operations.shapes.runs import InlineBody, SyncAnswer, request_of
from dustrun.operations.shapes.workflows import HELLO
from dustrun.sdk.threads import run_sized
from dustrun.services.access.idempotency import Answer
from dustrun.services.runs.engine_port import CreatedRun
from dustrun.services.runs.runs import Run

noun = Noun("Runs")

_SYNC_S = 60.0


@noun.post(
    "/v1/workflows/{id}/run-sync",
    permission="workflow:execute",
    or_else="workflow:simulate",
    answers=ConclusionAnswer,
    refusals=RUN_CALL,
    accepted="The run has neither answered nor ended within `waitMs`; it continues.",
    shape=as_it_is,
    example={"payload": {"name": "Ada"}, "waitMs": 5000},
)
async def run_workflow_sync(call: Call, workflow_id: WorkflowId, body: SyncBody | None = None) -> EncodedAnswer:
    """Run a workflow and wait for its answer.

    Takes every field of the run call. The answer comes as soon as a `respond` node has answered (`response`) or the run
    has ended (`result`), and otherwise after `waitMs`, with status 202; an unfinished run continues. Repeating the
    request with the same Idempotency-Key returns the `runId` at once, as `running`. For a dry run (`simulate`), the
    permission `workflow:simulate` is enough."""
    wanted = body or SyncBody()
    created = await _start(call, workflow_id, wanted)
    found = await call.parts.runs.conclude(call.principal.org_id, created.run_id, created.events, wanted.wait_s)
    is_reader = call.principal.may("run:read")
    shown = functools.partial(with_warnings, ignored=call.ignored)
    status = 200 if found.is_due else 202

    def shape() -> EncodedAnswer:
        return EncodedAnswer(success_body(shown(conclusion_shape(found, is_reader=is_reader)), call.request_id), status)

    return await run_sized((found.answer, found.results), shape)


async def _start(call: Call, workflow_id: str, body: SyncBody) -> CreatedRun:
    replay_as_begun(call)
    return await call.parts.starts.start(
        call.principal, workflow_id, request_of(body, trace_of(call.parts, call.headers))
    )


def replay_as_begun(call: Call) -> None:
    """Answers a repeated request: the run began."""
    if call.pending is not None:
        call.pending.answer = functools.partial(_begun, call=call)


def _begun(created: CreatedRun, call: Call) -> Answer:
    begun = {"runId": created.run_id, "status": RunStatus.RUNNING.value}
    return Answer(200, success_body(with_warnings(begun, call.ignored), call.request_id), created.run_id)


@noun.post(
    "/v1/runs/sync",
    permission="run:inline",
    answers=SyncAnswer,
    refusals=[*STARTING, Code.TRIGGER_NOT_MANUAL, Code.RUN_TOO_LARGE_FOR_SYNC, Code.VERSION_NOT_ACCEPTED],
    shape=as_it_is,
    example={"definition": HELLO, "payload": {"name": "Ada"}},
)
async def run_inline_sync(call: Call, body: InlineBody) -> EncodedAnswer:
    """Run a definition without saving it, and wait up to 60 seconds for its end; at most 20 nodes.

    A run that has not ended by then continues; see its `status` and stream. What its nodes did is for keys with
    `run:read`. Repeating the request with the same Idempotency-Key returns the `runId` at once, as `running`; read the
    run for its result."""
    runs = call.parts.runs
    runs.check_sync(body.definition)
    replay_as_begun(call)
    created = await call.parts.starts.start_inline(call.principal, body.definition, request_of(body))
    await runs.waits.wait(call.principal.org_id, created.run_id, _SYNC_S)
    is_reader = call.principal.may("run:read")
    run = await runs.get(call.principal, created.run_id, slim=not is_reader)
    shown = functools.partial(with_warnings, ignored=call.ignored)
    return EncodedAnswer(await run_sized(run, lambda: success_body(shown(_sync(run, is_reader)), call.request_id)))


def _sync(run: Run, is_reader: bool) -> dict[str, Any]:
    ended = run.row.finished_at or run.row.started_at
    state = {"executionState": shapes.execution_state(run)} if is_reader else {}
    return {
        "runId": run.row.id,
        "status": run.row.status,
        "durationMs": max(0, ended - run.row.started_at),
        **state,
    }
