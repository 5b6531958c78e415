"""Event streams, and the tokens with which a browser opens one."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qsl

from pydantic import Field
from starlette.types import Receive, Scope, Send

from dustrun.api import openapi, sse
from dustrun.api.auth import admit_reader
from dustrun.api.routing import RawRoute
from dustrun.core.values.fields import Fields
from dustrun.errors import Code, Invalid, NotFound, Problem
from dustrun.operations.declaration.answers import Answer, From, Time
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call, parts_of
from dustrun.operations.shapes import events
from dustrun.services.streaming.streams import NewToken

noun = Noun("Streams")

_RUN_ID = re.compile(r"run_[A-Za-z0-9_-]{1,64}")
_MOST_IDS = 24


class StreamTokenBody(Fields):
    """The stream that the token opens."""

    stream: str = Field(description="Path of the stream.", max_length=256, examples=["/v1/runs/run_order-17/stream"])


class StreamTokenAnswer(Answer):
    """A token, shown only once."""

    token: str
    stream: str
    url: Annotated[str, From(lambda one: f"{one.stream}?token={one.token}")] = Field(
        description="The stream's path with the token in it."
    )
    use_before: Time = Field(description="The token must be used for the first time before then.")


@noun.post(
    "/v1/stream-tokens",
    permission="run:stream",
    answers=StreamTokenAnswer,
    secret=True,
    example={"stream": "/v1/runs/run_order-17/stream"},
)
async def create_stream_token(call: Call, body: StreamTokenBody) -> NewToken:
    """Create a token for one stream, sent as `?token=`, for clients that cannot set headers such as `EventSource`.

    It must be used within 60 seconds, and then remains valid for reconnects until one hour after the run's end."""
    return await call.parts.streams.make_token(call.principal, body.stream)


def _query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))


async def stream_run(scope: Scope, receive: Receive, send: Send) -> None:
    """Stream the events of one run from the first one. The stream may be opened before the run exists.

    Every event has an `id:`, its number in the run, from 1 without gaps; a reconnect with `Last-Event-ID` continues
    after it. If the run does not exist yet, the stream waits for it up to 10 minutes. `event: end` follows
    `run_finished`."""
    parts, query = parts_of(scope), _query(scope)
    principal = await admit_reader(parts, scope, query.get("token"), "run:stream")
    run_id = scope["path_params"]["id"]
    if not _RUN_ID.fullmatch(run_id):
        raise NotFound(
            f'"{run_id[:80]}" is not a valid run id: run_ and 1 to 64 of A-Z a-z 0-9 _ -.',
            code=Code.RUN_UNKNOWN,
        )
    after = sse.last_event_id(scope, query) or 0
    await sse.stream_run(parts.streams, principal, run_id, after, receive, send)


async def stream_workflow_runs(scope: Scope, receive: Receive, send: Send) -> None:
    """Stream when runs of one workflow start, wait, resume and end.

    Sends `run_started`, `run_waiting`, `run_resumed` and `run_finished` as they happen; `id:` is a cursor of this
    stream. `trigger_skipped`, `transaction_reorged`, `launch_proposed` and `workflow_changed` come without one and are
    not repeated. The stream does not end."""
    parts, query = parts_of(scope), _query(scope)
    principal = await admit_reader(parts, scope, query.get("token"), "run:stream")
    workflow_id = scope["path_params"]["id"]
    await parts.runs.check_workflow(principal, workflow_id)
    after = sse.last_event_id(scope, query)
    await sse.stream_activity(parts.streams, principal, [workflow_id], after, receive, send)


async def stream_workflows(scope: Scope, receive: Receive, send: Send) -> None:
    """Stream when runs of up to 24 workflows start, wait, resume and end.

    Sends `run_started`, `run_waiting`, `run_resumed` and `run_finished` as they happen; `id:` is a cursor of this
    stream. `trigger_skipped`, `transaction_reorged`, `launch_proposed` and `workflow_changed` come without one and are
    not repeated. The stream does not end. Workflows that the key cannot read are ignored."""
    parts, query = parts_of(scope), _query(scope)
    principal = await admit_reader(parts, scope, query.get("token"), "run:stream")
    wanted = [part.strip() for part in query.get("ids", "").split(",") if part.strip()]
    if not 1 <= len(wanted) <= _MOST_IDS:
        problem = Problem("ids", f"must contain 1 to {_MOST_IDS} workflow ids, separated by commas")
        raise Invalid("The list of workflows is not valid.", code=Code.PARAMETER_INVALID, details=[problem])
    after = sse.last_event_id(scope, query)
    await sse.stream_activity(parts.streams, principal, wanted, after, receive, send)


async def stream_activity(scope: Scope, receive: Receive, send: Send) -> None:
    """Stream when any run of the organisation starts, waits, resumes or ends.

    Sends `run_started`, `run_waiting`, `run_resumed` and `run_finished` as they happen; `id:` is a cursor of this
    stream. `trigger_skipped`, `transaction_reorged`, `launch_proposed` and `workflow_changed` come without one and are
    not repeated. The stream does not end."""
    parts, query = parts_of(scope), _query(scope)
    principal = await admit_reader(parts, scope, query.get("token"), "run:stream")
    after = sse.last_event_id(scope, query)
    await sse.stream_activity(parts.streams, principal, None, after, receive, send)


raw_routes = [
    RawRoute("/v1/runs/{id}/stream", stream_run, permission="run:stream"),
    RawRoute("/v1/workflows/{id}/runs/stream", stream_workflow_runs, permission="run:stream"),
    RawRoute("/v1/workflow-runs/stream", stream_workflows, permission="run:stream"),
    RawRoute("/v1/activity/stream", stream_activity, permission="run:stream"),
]

_PLACE = [
    {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "Continue after this event.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 2**53},
    },
    {
        "name": "lastEventId",
        "in": "query",
        "description": "The same, for clients that cannot set headers.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 2**53},
    },
    {
        "name": "token",
        "in": "query",
        "description": "A stream token; replaces a key.",
        "schema": {"type": "string"},
    },
]
_IDS = {
    "name": "ids",
    "in": "query",
    "required": True,
    "description": "1 to 24 workflow ids, separated by commas.",
    "schema": {"type": "string"},
}


_EVENTS = [{"$ref": f"#/components/schemas/{schema}"} for schema in events.NAMES.values()]


_STREAM = {
    "description": "Server-Sent Events: `event:` is the type, `data:` one object as below, `id:` the cursor.",
    "content": {"text/event-stream": {"schema": {"type": "string", "contentSchema": {"oneOf": _EVENTS}}}},
}
_OVER = {"description": "The run has ended; there are no events after the cursor."}


@openapi.later
def _describe() -> None:
    of_run, of_workflow, of_workflows, of_all = raw_routes
    named = {"x-events": dict(zip(events.NAMES, _EVENTS, strict=True))}
    refusals = [Code.RUN_UNKNOWN, Code.TOO_MANY_STREAMS]
    openapi.add(of_run, "Streams", {200: _STREAM, 204: _OVER}, refusals, _PLACE, **named)
    openapi.add(of_workflow, "Streams", {200: _STREAM}, [Code.WORKFLOW_UNKNOWN], _PLACE, **named)
    openapi.add(of_workflows, "Streams", {200: _STREAM}, [], [_IDS, *_PLACE], **named)
    openapi.add(of_all, "Streams", {200: _STREAM}, [], _PLACE, **named)
    for name, schema in events.schemas().items():
        openapi.add_schema(name, schema)
