"""`/v1/conversations`: conversations and their messages."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import Field, StringConstraints

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.wire import Answer, PageAnswer, Paged, Text, Time, page_shape, time
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.services.access.paging import Page
from dustrun.services.data.conversations import Message
from dustrun.storage.data.conversations import ConversationRow

routes = Routes("Conversations")
router = routes.router

Role = Literal["user", "assistant", "system", "tool"]
MessageId = Annotated[str, Path(alias="messageId", description="Id of the message.")]
Title = Annotated[Text, StringConstraints(max_length=255)]
_UNKNOWN = [Code.CONVERSATION_UNKNOWN]


class CreateConversation(Fields):
    """A new conversation."""

    title: Title = Field("", description="Display name.", examples=["Build a price alert"])


class CreateMessage(Fields):
    """A new message."""

    role: Role = Field(description="Who wrote it.", examples=["user"])
    content: Text = Field(description="Text of the message.", examples=["Run it once a day."])


class ConversationAnswer(Answer):
    """A conversation."""

    id: str
    organization_id: str
    title: str
    created_at: Time
    updated_at: Time


class Usage(Answer):
    """What a turn has used."""

    requests: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: str


class TurnFailure(enum.StrEnum):
    """Why a turn of the assistant failed."""

    BUDGET = "BUDGET"
    MODEL = "MODEL"
    INTERRUPTED = "INTERRUPTED"
    TOOL_LOOP = "TOOL_LOOP"
    STOPPED = "STOPPED"


class MessageAnswer(Answer):
    """A message, and the runs that it started."""

    id: str
    conversation_id: str
    role: Role
    content: str
    run_ids: list[str]
    status: Literal["streaming", "waiting", "complete", "failed"] = Field(
        description="`streaming` while the assistant writes it, `waiting` while a person decides about a launch; "
        "messages of others are `complete`."
    )
    failure: TurnFailure | None = Field(description="Why the assistant's turn failed.")
    usage: Usage | None = Field(description="What the assistant's turn has used.")
    parts: list[dict[str, Any]] = Field(
        description="What the assistant's message is made of, in order: `text`, `tool_call`, `tool_result`, `run`, "
        "and `approval`, whose `decision` is null while it is open. "
        "What a tool was asked (`args`) and returned (`content`, text of others) is null for keys that may not read it."
    )
    is_posted: bool = Field(
        description="Whether a key wrote it in another's name (`role`): what the assistant itself wrote is false."
    )
    created_at: Time


def _conversation(row: ConversationRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "organizationId": row.org_id,
        "title": row.title,
        "createdAt": time(row.created_at),
        "updatedAt": time(row.updated_at),
    }


def _message(message: Message) -> dict[str, Any]:
    row = message.row
    return {
        "id": row.id,
        "conversationId": row.conversation_id,
        "role": row.role,
        "content": row.content,
        "runIds": message.run_ids,
        "status": "complete" if message.turn is None else message.turn.status,
        "failure": None if message.turn is None else message.turn.failure,
        "usage": None if message.turn is None else message.turn.usage,
        "parts": message.parts,
        "isPosted": row.role != "user" and message.turn is None,
        "createdAt": time(row.created_at),
    }


@routes.post("/v1/conversations", permission="chat:write", answers=ConversationAnswer, shape=_conversation)
async def create_conversation(call: Call, body: CreateConversation | None = None) -> ConversationRow:
    """Create a conversation."""
    return await call.parts.data.conversations.create(call.principal, body.title if body else "")


@routes.get(
    "/v1/conversations",
    permission="chat:read",
    answers=PageAnswer[ConversationAnswer],
    shape=page_shape(_conversation),
)
async def list_conversations(call: Call, paging: Paged) -> Page[ConversationRow]:
    """List conversations, most recently used first."""
    return await call.parts.data.conversations.list_page(call.principal, paging)


@routes.get(
    "/v1/conversations/{id}",
    permission="chat:read",
    answers=ConversationAnswer,
    shape=_conversation,
    refusals=_UNKNOWN,
)
async def get_conversation(call: Call, id: str) -> ConversationRow:
    """Get one conversation."""
    return await call.parts.data.conversations.get(call.principal, id)


@routes.post(
    "/v1/conversations/{id}/messages",
    permission="chat:write",
    answers=MessageAnswer,
    shape=_message,
    refusals=_UNKNOWN,
)
async def create_message(call: Call, id: str, body: CreateMessage) -> Message:
    """Add a message to a conversation.

    Runs started with this message's id as `chatMessageId` are listed in `runIds`. A message in the assistant's name
    says so (`isPosted`), and the assistant does not take it for its own.
    """
    return await call.parts.data.conversations.add_message(call.principal, id, body.role, body.content)


@routes.get(
    "/v1/conversations/{id}/messages",
    permission="chat:read",
    answers=PageAnswer[MessageAnswer],
    shape=page_shape(_message),
    refusals=_UNKNOWN,
)
async def list_messages(call: Call, id: str, paging: Paged) -> Page[Message]:
    """List the messages of a conversation, oldest first."""
    return await call.parts.data.conversations.list_messages(call.principal, id, paging)


@routes.get(
    "/v1/conversations/{id}/messages/{messageId}",
    permission="chat:read",
    answers=MessageAnswer,
    shape=_message,
    refusals=[*_UNKNOWN, Code.MESSAGE_UNKNOWN],
)
async def get_message(call: Call, id: str, message_id: MessageId) -> Message:
    """Get one message with the runs that it started."""
    return await call.parts.data.conversations.get_message(call.principal, id, message_id)
