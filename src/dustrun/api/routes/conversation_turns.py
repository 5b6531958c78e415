"""`/v1/conversations/{id}/turns`: the assistant answers, and its stream."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import parse_qsl

from pydantic import Field
from starlette.types import Receive, Scope, Send

from dustrun.api import openapi, sse
from dustrun.api.auth import admit_reader
from dustrun.api.routing import RawRoute
from dustrun.assistant.conversation_turns import TurnRequest
from dustrun.core.stream_events import OF_TURNS
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer
from dustrun.operations.declaration.encoding import as_it_is
from dustrun.operations.declaration.fields import Text
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call, parts_of
from dustrun.sdk.llm.connection import ModelName

noun = Noun("Conversations")


class TurnBody(Fields):
    """The person's message."""

    text: Text = Field(
        description="What the person says.", min_length=1, max_length=20_000, examples=["Which workflows failed?"]
    )
    connector_id: str | None = Field(
        None, description="The connector of the model; needed if the organisation has several.", max_length=128
    )
    model: ModelName | None = Field(None, description="The model; by default that of the connector.")
    workflow_id: str | None = Field(None, description="The workflow that the person looks at.", max_length=128)


class TurnAnswer(Answer):
    """The message in which the assistant answers."""

    message_id: str


@noun.post(
    "/v1/conversations/{id}/turns",
    permission="assistant:use",
    answers=TurnAnswer,
    refusals=[
        Code.CONVERSATION_UNKNOWN,
        Code.WORKFLOW_UNKNOWN,
        Code.TURN_OPEN,
        Code.MODEL_TOKEN_LIMIT,
        Code.MODEL_UNPRICED,
    ],
    shape=as_it_is,
    example={"text": "Which workflows failed last night?"},
)
async def create_turn(call: Call, id: str, body: TurnBody) -> dict[str, str]:
    """Ask the assistant, which answers in a message of its own.

    It calls the tools of `/mcp` with the rights of the key, without those to publish, approve, spend, or start a run
    that is no simulation. With `launch` it asks a person, and waits for the decision. One turn of a conversation goes
    on at a time. The stream of the conversation shows it, and the message has it: `status` is `streaming` or `waiting`
    until it is `complete` or `failed`."""
    asked = TurnRequest(text=body.text, connector_id=body.connector_id, model=body.model, workflow_id=body.workflow_id)
    call.answer_around(lambda turn: {"messageId": turn.message_id})
    return {"messageId": await call.parts.data.turns.begin(call.principal, id, asked)}


class StoppedTurn(Answer):
    """A turn that has ended."""

    message_id: str
    status: Literal["complete", "failed"] = Field(description="How it has ended.")
    failure: str | None = Field(description="`STOPPED`, or why it had failed before; null if it was complete.")


@noun.post(
    "/v1/conversations/{id}/turns/{messageId}/stop",
    permission="assistant:use",
    answers=StoppedTurn,
    refusals=[Code.CONVERSATION_UNKNOWN, Code.MESSAGE_UNKNOWN],
    shape=as_it_is,
)
async def stop_turn(call: Call, id: str, messageId: str) -> dict[str, Any]:
    """Stop the assistant's turn.

    The model is asked no more, and what the turn has proposed to a person is withdrawn. Runs that it has started go on.
    A turn that has ended stays as it is. Only the key that asked, or an administrator's, stops a turn."""
    turn = await call.parts.data.turns.stop_turn(call.principal, id, messageId)
    return {"messageId": turn.message_id, "status": turn.status, "failure": turn.failure}


async def stream_conversation(scope: Scope, receive: Receive, send: Send) -> None:
    """Stream the turns of a conversation, from its first.

    Every event has an `id:`, its number in the conversation, from 1 without gaps; a reconnect with `Last-Event-ID`
    continues after it. The stream does not end."""
    parts = parts_of(scope)
    query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True))
    principal = await admit_reader(parts, scope, query.get("token"), "chat:read")
    conversation_id = scope["path_params"]["id"]
    await parts.data.conversations.get(principal, conversation_id)
    after = sse.last_event_id(scope, query) or 0
    await sse.stream_conversation(parts.streams, parts.data.turns, principal, conversation_id, after, receive, send)


raw_routes = [RawRoute("/v1/conversations/{id}/stream", stream_conversation, permission="chat:read")]

_PLACE: list[dict[str, Any]] = [
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
_EVENT = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "enum": list(OF_TURNS)},
        "seq": {"type": "integer", "description": "Number of the event in the conversation."},
        "messageId": {"type": "string", "description": "The assistant's message."},
        "at": {"type": "string", "format": "date-time"},
    },
    "required": ["type", "seq", "messageId", "at"],
}
_STREAM = {
    "description": "Server-Sent Events: `event:` is the type, `data:` one object as below, `id:` its number.",
    "content": {"text/event-stream": {"schema": {"type": "string", "contentSchema": _EVENT}}},
}


@openapi.later
def _describe() -> None:
    openapi.add(raw_routes[0], "Conversations", {200: _STREAM}, [Code.CONVERSATION_UNKNOWN], _PLACE)
