"""Rows of conversations, their messages, and the runs that a message started."""

from __future__ import annotations

import sqlalchemy as sa

from dustrun.records import dataclass
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.tables import conversations as c
from dustrun.storage.db.tables import message_runs, messages, runs


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """One conversation; times in milliseconds."""

    id: str
    org_id: str
    title: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message; `created_at` in milliseconds."""

    id: str
    conversation_id: str
    org_id: str
    role: str
    content: str
    created_at: int


_CONVERSATION = (c.c.id, c.c.org_id, c.c.title, c.c.created_at, c.c.updated_at)
_MESSAGE = (
    messages.c.id,
    messages.c.conversation_id,
    messages.c.org_id,
    messages.c.role,
    messages.c.content,
    messages.c.created_at,
)
_LIMIT = sa.bindparam("limit", type_=sa.Integer)
_OFFSET = sa.bindparam("offset", type_=sa.Integer)
_OF_CONVERSATION = messages.c.conversation_id == sa.bindparam("conversation_id")
_INSERT = Statement(sa.insert(c))
_INSERT_MESSAGE = Statement(sa.insert(messages))
_FIND = Statement(sa.select(*_CONVERSATION).where(c.c.org_id == sa.bindparam("org_id"), c.c.id == sa.bindparam("id")))
_PAGE = Statement(
    sa.select(*_CONVERSATION)
    .where(c.c.org_id == sa.bindparam("org_id"))
    .order_by(c.c.updated_at.desc(), c.c.id.desc())
    .limit(_LIMIT)
    .offset(_OFFSET)
)
_TOUCH = Statement(sa.update(c).where(c.c.id == sa.bindparam("of_id")).values(updated_at=sa.bindparam("updated_at")))
_FIND_MESSAGE = Statement(sa.select(*_MESSAGE).where(_OF_CONVERSATION, messages.c.id == sa.bindparam("id")))
_MESSAGES = Statement(
    sa.select(*_MESSAGE).where(_OF_CONVERSATION).order_by(messages.c.id).limit(_LIMIT).offset(_OFFSET)
)
_BEFORE = Statement(
    sa.select(*_MESSAGE)
    .where(_OF_CONVERSATION, messages.c.id < sa.bindparam("before"))
    .order_by(messages.c.id.desc())
    .limit(_LIMIT)
)
_LAST = Statement(sa.select(sa.func.max(messages.c.id)).where(_OF_CONVERSATION))
_RUN_IDS = Statement(
    sa.select(runs.c.id, runs.c.workflow_id)
    .select_from(message_runs.join(runs, runs.c.pk == message_runs.c.run_pk))
    .where(message_runs.c.message_id == sa.bindparam("message_id"))
    .order_by(runs.c.pk)
)


def insert(tx: Tx, row: ConversationRow) -> None:
    """Inserts a conversation."""
    tx.do(_INSERT, id=row.id, org_id=row.org_id, title=row.title, created_at=row.created_at, updated_at=row.updated_at)


def find(tx: Tx, org_id: str, conversation_id: str) -> ConversationRow | None:
    """Finds a conversation of the organisation."""
    found = tx.one(_FIND, org_id=org_id, id=conversation_id)
    return ConversationRow(*found) if found else None


def list_page(tx: Tx, org_id: str, *, limit: int, offset: int) -> list[ConversationRow]:
    """Lists one page of conversations, most recently used first."""
    return [ConversationRow(*found) for found in tx.all(_PAGE, org_id=org_id, limit=limit, offset=offset)]


def insert_message(tx: Tx, row: MessageRow) -> None:
    """Inserts a message and updates its conversation's last use."""
    tx.do(
        _INSERT_MESSAGE,
        id=row.id,
        conversation_id=row.conversation_id,
        org_id=row.org_id,
        role=row.role,
        content=row.content,
        created_at=row.created_at,
    )
    tx.do(_TOUCH, of_id=row.conversation_id, updated_at=row.created_at)


def find_message(tx: Tx, conversation_id: str, message_id: str) -> MessageRow | None:
    """Finds a message of the conversation."""
    found = tx.one(_FIND_MESSAGE, conversation_id=conversation_id, id=message_id)
    return MessageRow(*found) if found else None


def last_message_id(tx: Tx, conversation_id: str) -> str | None:
    """The highest message id of the conversation."""
    found = tx.one(_LAST, conversation_id=conversation_id)
    return found[0] if found else None


def list_messages(tx: Tx, conversation_id: str, *, limit: int, offset: int) -> list[MessageRow]:
    """Lists one page of messages, oldest first."""
    found = tx.all(_MESSAGES, conversation_id=conversation_id, limit=limit, offset=offset)
    return [MessageRow(*row) for row in found]


def list_before(tx: Tx, conversation_id: str, before: str, limit: int) -> list[MessageRow]:
    """Lists the messages before one, newest first."""
    found = tx.all(_BEFORE, conversation_id=conversation_id, before=before, limit=limit)
    return [MessageRow(*row) for row in found]


def run_ids(tx: Tx, message_id: str) -> list[tuple[str, str | None]]:
    """(id, workflow) of the runs that the message started, in order."""
    return [(row[0], row[1]) for row in tx.all(_RUN_IDS, message_id=message_id)]
