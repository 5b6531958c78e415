"""`/v1/conversations`: conversations and their messages."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import MADE, Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import Paged, Text
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page
from dustrun.services.data.conversations import Message
from dustrun.storage.data.conversations import ConversationRow

noun = Noun("Conversations")

Role = Literal["user", "assistant", "system", "tool"]
MessageId = Annotated[str, Named("messageId"), Field(description="Id of the message.")]
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
    organization_id: Annotated[str, From("org_id")]
    title: str
    created_at: Time
    updated_at: Time


class Usage(Answer):
    """The tokens and the cost of a turn."""

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

    id: Annotated[str, From("row.id")]
    conversation_id: Annotated[str, From("row.conversation_id")]
    role: Annotated[Role, From("row.role")]
    content: Annotated[str, From("row.content")]
    run_ids: list[str]
    status: Annotated[
        Literal["streaming", "waiting", "complete", "failed"],
        From(lambda one: "complete" if one.turn is None else one.turn.status),
    ] = Field(
        description="`streaming` while the assistant writes it, `waiting` while a person decides about a launch; "
        "messages of others are `complete`."
    )
    failure: Annotated[TurnFailure | None, From("turn.failure")] = Field(description="Why the assistant's turn failed.")
    usage: Annotated[Usage | None, From("turn.usage"), MADE] = Field(description="What the assistant's turn has used.")
    parts: list[dict[str, Any]] = Field(
        description="What the assistant's message is made of, in order: `text`, `tool_call`, `tool_result`, `run`, "
        "and `approval`, whose `decision` is null while it is open. "
        "What a tool was asked (`args`) and returned (`content`, text of others) is null for keys that may not read it."
    )
    is_posted: Annotated[bool, From(lambda one: one.row.role != "user" and one.turn is None)] = Field(
        description="Whether a key wrote it in another's name (`role`): what the assistant itself wrote is false."
    )
    created_at: Annotated[Time, From("row.created_at")]


@noun.post(
    "/v1/conversations",
    permission="chat:write",
    answers=ConversationAnswer,
    example={"title": "Invoices"},
)
async def create_conversation(call: Call, body: CreateConversation | None = None) -> ConversationRow:
    """Create a conversation."""
    return await call.parts.data.conversations.create(call.principal, body.title if body else "")


@noun.get(
    "/v1/conversations",
    permission="chat:read",
    answers=PageAnswer[ConversationAnswer],
)
async def list_conversations(call: Call, paging: Paged) -> Page[ConversationRow]:
    """List conversations, most recently used first."""
    return await call.parts.data.conversations.list_page(call.principal, paging)


@noun.get(
    "/v1/conversations/{id}",
    permission="chat:read",
    answers=ConversationAnswer,
    refusals=_UNKNOWN,
)
async def get_conversation(call: Call, id: str) -> ConversationRow:
    """Get one conversation."""
    return await call.parts.data.conversations.get(call.principal, id)


@noun.post(
    "/v1/conversations/{id}/messages",
    permission="chat:write",
    answers=MessageAnswer,
    refusals=_UNKNOWN,
    example={"role": "user", "content": "Pay what is open."},
)
async def create_message(call: Call, id: str, body: CreateMessage) -> Message:
    """Add a message to a conversation.

    Runs started with this message's id as `chatMessageId` are listed in `runIds`. A message in the assistant's name
    says so (`isPosted`), and the assistant does not take it for its own.
    """
    return await call.parts.data.conversations.add_message(call.principal, id, body.role, body.content)


@noun.get(
    "/v1/conversations/{id}/messages",
    permission="chat:read",
    answers=PageAnswer[MessageAnswer],
    refusals=_UNKNOWN,
)
async def list_messages(call: Call, id: str, paging: Paged) -> Page[Message]:
    """List the messages of a conversation, oldest first."""
    return await call.parts.data.conversations.list_messages(call.principal, id, paging)


@noun.get(
    "/v1/conversations/{id}/messages/{messageId}",
    permission="chat:read",
    answers=MessageAnswer,
    refusals=[*_UNKNOWN, Code.MESSAGE_UNKNOWN],
)
async def get_message(call: Call, id: str, message_id: MessageId) -> Message:
    """Get one message with the runs that it started."""
    return await call.parts.data.conversations.get_message(call.principal, id, message_id)
