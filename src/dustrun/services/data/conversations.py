"""Conversations and their messages; a message lists the runs that it started."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Final

from dustrun import clock, ids
from dustrun.errors import Code, NotFound
from dustrun.records import dataclass
from dustrun.services.access import audit, idempotency
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.principal import Principal
from dustrun.storage.data import conversation_turns as turns
from dustrun.storage.data import conversations as rows
from dustrun.storage.data.conversation_turns import TurnRow
from dustrun.storage.data.conversations import ConversationRow, MessageRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import runs

_OF_RUNS: Final = ("runId", "rehearsalRunId", "approvalId", "binding")


@dataclass(frozen=True, slots=True)
class Message:
    """A message with the ids of the runs that it started. Of the assistant's: its turn, and the parts it is made of."""

    row: MessageRow
    run_ids: list[str]
    turn: TurnRow | None = None
    parts: list[dict[str, Any]] = field(default_factory=list)


def get_conversation(tx: Tx, principal: Principal, conversation_id: str) -> ConversationRow:
    """A conversation of the caller's organisation; raises `NotFound`."""
    row = rows.find(tx, principal.org_id, conversation_id)
    if row is None:
        raise NotFound(f'There is no conversation "{conversation_id}".', code=Code.CONVERSATION_UNKNOWN)
    return row


def _with_runs(tx: Tx, principal: Principal, row: MessageRow) -> Message:
    """The message with those of its runs that the key can access."""
    found = rows.run_ids(tx, row.id)
    run_ids = [run_id for run_id, workflow_id in found if principal.may_use_workflow(workflow_id)]
    turn = turns.find(tx, row.id)
    parts = [] if turn is None else [shown(tx, principal, turn, part) for part in turns.list_parts(tx, row.id)]
    return Message(row, run_ids, turn, parts)


def shown(tx: Tx, principal: Principal, turn: TurnRow, part: dict[str, Any]) -> dict[str, Any]:
    """A part of a message, or the data of its event. What tools were asked and returned is shown to the key of the
    turn, and to keys that may read all workflows and runs; ids of a run to keys that can access it."""
    may_read = principal.workflow_ids is None and principal.may("workflow:read") and principal.may("run:read")
    if principal.key_id == turn.key_id or may_read:
        return part
    hidden: list[str] = [name for name in ("args", "content") if name in part]
    run_id = part.get("rehearsalRunId") or part.get("runId")
    if run_id is not None and not _reaches(tx, principal, run_id):
        hidden += [name for name in _OF_RUNS if name in part]
    return {**part, **dict.fromkeys(hidden), "hidden": True} if hidden else part


def _reaches(tx: Tx, principal: Principal, run_id: str) -> bool:
    if principal.workflow_ids is None:
        return True
    found = runs.find(tx, principal.org_id, run_id)
    return found is not None and principal.may_use_workflow(found.workflow_id)


def next_message_id(tx: Tx, conversation_id: str) -> str:
    """A new message id above the last one: ids made in the same millisecond are not ordered, messages are."""
    last = rows.last_message_id(tx, conversation_id)
    while (fresh := ids.new_id("msg")) <= (last or ""):
        pass
    return fresh


class Conversations:
    """Use cases of conversations."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def create(self, principal: Principal, title: str) -> ConversationRow:
        """Creates a conversation."""
        now = clock.now_ms()
        row = ConversationRow(ids.new_id("conv"), principal.org_id, title, now, now)

        def unit(tx: Tx) -> ConversationRow:
            rows.insert(tx, row)
            audit.record(tx, principal, "conversation.create", row.id)
            return row

        return await idempotency.write(self._writer, unit, creates=("id", row.id))

    async def get(self, principal: Principal, conversation_id: str) -> ConversationRow:
        """Reads a conversation; raises `NotFound`."""
        return await self._database.read(lambda tx: get_conversation(tx, principal, conversation_id))

    async def list_page(self, principal: Principal, paging: Paging) -> Page[ConversationRow]:
        """Lists the organisation's conversations, most recently used first."""
        found = await self._database.read(
            lambda tx: rows.list_page(tx, principal.org_id, limit=paging.peek, offset=paging.offset)
        )
        return page_of(found, paging)

    async def add_message(self, principal: Principal, conversation_id: str, role: str, content: str) -> Message:
        """Appends a message; raises `NotFound`."""

        def unit(tx: Tx) -> Message:
            get_conversation(tx, principal, conversation_id)
            fresh = next_message_id(tx, conversation_id)
            row = MessageRow(fresh, conversation_id, principal.org_id, role, content, clock.now_ms())
            rows.insert_message(tx, row)
            audit.record(tx, principal, "message.create", row.id, conversationId=conversation_id)
            return Message(row, [])

        return await idempotency.write(self._writer, unit)

    async def get_message(self, principal: Principal, conversation_id: str, message_id: str) -> Message:
        """Reads a message with its runs; raises `NotFound`."""

        def query(tx: Tx) -> Message:
            get_conversation(tx, principal, conversation_id)
            row = rows.find_message(tx, conversation_id, message_id)
            if row is None:
                raise NotFound(f'There is no message "{message_id}".', code=Code.MESSAGE_UNKNOWN)
            return _with_runs(tx, principal, row)

        return await self._database.read(query)

    async def list_messages(self, principal: Principal, conversation_id: str, paging: Paging) -> Page[Message]:
        """Lists a conversation's messages, oldest first; raises `NotFound`."""

        def query(tx: Tx) -> list[Message]:
            get_conversation(tx, principal, conversation_id)
            found = rows.list_messages(tx, conversation_id, limit=paging.peek, offset=paging.offset)
            return [_with_runs(tx, principal, row) for row in found]

        return page_of(await self._database.read(query), paging)
