"""`/v1/actions/{type}/run` and `/test`: one action outside a workflow."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Annotated

from pydantic import Field

from dustrun.api.envelope import EncodedAnswer, success_body
from dustrun.api.routes.run_sync import replay_as_begun
from dustrun.core.run.state import Mode
from dustrun.errors import Code
from dustrun.operations.declaration.encoding import as_it_is
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.findings import with_warnings
from dustrun.operations.shapes.run_sync import ActionCallAnswer, RunAction, TestAction, action_shape
from dustrun.sdk.threads import run_sized
from dustrun.services.actions import ActionCall

noun = Noun("Catalogue")

Type = Annotated[str, Field(description="Type of the action.", examples=["http-request"], max_length=128)]
_REFUSALS = [Code.HOST_NOT_ALLOWED, Code.TYPE_UNKNOWN, Code.ACTION_INPUT_INVALID, Code.RUN_LIMIT]
_ACCEPTED = "The action has not ended within `waitMs`; its run continues."


@noun.post(
    "/v1/actions/{type}/run",
    permission="run:inline",
    answers=ActionCallAnswer,
    refusals=[*_REFUSALS, Code.BOTH_MODES, Code.VERSION_NOT_ACCEPTED],
    accepted=_ACCEPTED,
    shape=as_it_is,
    example={"inputs": {"message": "hello"}},
)
async def run_action(call: Call, type: Type, body: RunAction) -> EncodedAnswer:
    """Run one action outside a workflow, and wait for its end.

    It is an inline run of one node: the same modes, policies, limits and record. Unless it is a simulation, an action
    that spends needs `wallet:spend`. The answer comes when it has ended, and otherwise after `waitMs`, with status 202;
    an unfinished run continues. Repeating the request with the same Idempotency-Key returns the `runId` at once, as
    `running`."""
    wanted = body.call(type, simulate=body.simulate or False, dust_test=body.dust_test or False)
    return await _answer(call, wanted, body.wait_s)


@noun.post(
    "/v1/actions/{type}/test",
    permission="run:inline",
    answers=ActionCallAnswer,
    refusals=_REFUSALS,
    accepted=_ACCEPTED,
    shape=as_it_is,
    example={"inputs": {"message": "hello"}},
)
async def test_action(call: Call, type: Type, body: TestAction) -> EncodedAnswer:
    """Simulate one action outside a workflow: only reads leave the server.

    The same as running it with `simulate`. `effects` tells what would have been sent."""
    return await _answer(call, replace(body.call(type, simulate=True), is_test=True), body.wait_s)


async def _answer(call: Call, wanted: ActionCall, wait_s: float) -> EncodedAnswer:
    replay_as_begun(call)
    created = await call.parts.action_calls.start(call.principal, wanted)
    runs = call.parts.runs
    found = await runs.conclude(call.principal.org_id, created.run_id, created.events, wait_s, for_answer=False)
    is_reader, is_simulated = call.principal.may("run:read"), found.row.mode == Mode.SIMULATE.value
    effects = None
    if found.is_due and is_reader and is_simulated:
        effects = await call.parts.run_reports.effects(call.principal, created.run_id)
    shown = functools.partial(with_warnings, ignored=call.ignored)

    def shape() -> EncodedAnswer:
        data = action_shape(wanted.type, found, effects, is_reader=is_reader)
        return EncodedAnswer(success_body(shown(data), call.request_id), 200 if found.is_due else 202)

    return await run_sized((found.results, effects), shape)
