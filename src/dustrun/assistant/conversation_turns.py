"""Use cases of turns: begin one, read what it said, and watch a conversation."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from dustrun import clock, log
from dustrun.assistant import loop
from dustrun.assistant.budget import Budget
from dustrun.assistant.model_access import find_connector, open_model
from dustrun.assistant.record import Record, end_turn
from dustrun.assistant.toolbox import Toolbox, narrowed
from dustrun.errors import Code, Conflict, Temporary
from dustrun.sdk.llm.connection import ModelData
from dustrun.services.access import audit, idempotency
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.connections import Connections
from dustrun.services.data.conversations import get_conversation, next_message_id
from dustrun.services.streaming.broadcaster import Subscription
from dustrun.settings import Settings
from dustrun.storage.data import conversation_turns as turns
from dustrun.storage.data import conversations
from dustrun.storage.data.conversation_turns import TurnEvent, TurnRow
from dustrun.storage.data.conversations import MessageRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

_logger = log.get(__name__)
_DAY_MS: Final = 86_400_000
_PAGE: Final = 200
_EMPTY: Final = {"requests": 0, "calls": 0, "inputTokens": 0, "outputTokens": 0, "costUsd": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person asks."""

    text: str
    connector_id: str | None = None
    model: str | None = None
    workflow_id: str | None = None


class Turns:
    """Begins turns and carries them out; `stop` ends those under way."""

    def __init__(self, database: Database, writer: Writer, connections: Connections, settings: Settings) -> None:
        self._database = database
        self._writer = writer
        self._connections = connections
        self._settings = settings
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watching: dict[str, set[Subscription[TurnEvent]]] = {}
        self._is_stopping = False

    async def start(self) -> None:
        """Ends the turns that a crash cut off: no model is asked twice."""

        def unit(tx: Tx) -> None:
            for turn in turns.list_open(tx):
                _interrupt(tx, turn)

        await self._writer.write(unit)

    async def stop(self) -> None:
        """Ends the turns under way as interrupted, and all streams."""
        self._is_stopping = True
        tasks = self.tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Temporary):  # the store has stopped already; the next start ends them
            await self.start()
        self.wake_all()

    def tasks(self) -> list[asyncio.Task[None]]:
        """What carries the turns under way out."""
        return list(self._tasks.values())

    def wake_all(self) -> None:
        """Wakes all readers, so that they see whether they may go on."""
        for readers in self._watching.values():
            for reader in readers:
                reader.wake()

    async def begin(self, principal: Principal, conversation_id: str, asked: Asked, toolbox: Toolbox) -> str:
        """Adds the person's message and the assistant's, and begins the turn; returns the assistant's message id.
        Raises `Conflict` while another turn of the conversation is under way."""
        if asked.workflow_id is not None:
            principal.need_workflow(asked.workflow_id)
        await self._database.read(lambda tx: get_conversation(tx, principal, conversation_id))
        row = await find_connector(self._database, principal.org_id, asked.connector_id)
        access = await open_model(self._database, self._connections, row)
        data: ModelData = access.connection.data
        model = asked.model or data.model
        data.price_of(model)
        key_id = principal.key_id

        def unit(tx: Tx) -> tuple[TurnRow, Decimal, list[str]]:
            get_conversation(tx, principal, conversation_id)
            if turns.find_open(tx, conversation_id) is not None:
                raise Conflict("A turn of the conversation is under way; wait for its end.", code=Code.TURN_OPEN)
            now = clock.now_ms()
            others = sum(map(Decimal, turns.list_costs(tx, key_id, now - _DAY_MS)), Decimal(0))
            turn = self._insert(tx, principal, conversation_id, asked.text, now)
            return turn, others, turns.list_questions(tx, conversation_id, key_id)

        turn, others, spoken = await idempotency.write(self._writer, unit)
        budget = Budget(self._settings, others)
        record = Record(self._writer, self._wake, turn, budget)
        about = "" if asked.workflow_id is None else f" The person looks at the workflow {asked.workflow_id}."
        self._spawn(
            loop.Work(self._database, record, toolbox, narrowed(principal), access, model, about, tuple(spoken))
        )
        self._wake(conversation_id)
        return turn.message_id

    def _insert(self, tx: Tx, principal: Principal, conversation_id: str, text: str, now: int) -> TurnRow:
        org_id = principal.org_id
        question = MessageRow(next_message_id(tx, conversation_id), conversation_id, org_id, "user", text, now)
        conversations.insert_message(tx, question)
        answer = MessageRow(next_message_id(tx, conversation_id), conversation_id, org_id, "assistant", "", now)
        conversations.insert_message(tx, answer)
        turn = TurnRow(
            message_id=answer.id,
            question_id=question.id,
            conversation_id=conversation_id,
            org_id=org_id,
            key_id=principal.key_id,
            status=turns.STREAMING,
            failure=None,
            usage=dict(_EMPTY),
            cost="0",
            created_at=now,
            finished_at=None,
        )
        turns.insert(tx, turn)
        started = {"questionId": question.id}
        turns.add_event(tx, conversation_id, answer.id, "turn_started", now, started)
        audit.record(tx, principal, "turn.start", answer.id, conversationId=conversation_id)
        return turn

    def _spawn(self, work: loop.Work) -> None:
        message_id = work.record.turn.message_id
        task = asyncio.get_running_loop().create_task(loop.run(work))
        self._tasks[message_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(message_id, None))

    async def list_events(self, conversation_id: str, after: int) -> list[TurnEvent]:
        """The next events of a conversation."""
        return await self._database.read(lambda tx: turns.list_events(tx, conversation_id, after, _PAGE))

    def watch(self, conversation_id: str) -> Subscription[TurnEvent]:
        """A reader that is woken by each event."""
        reader: Subscription[TurnEvent] = Subscription()
        self._watching.setdefault(conversation_id, set()).add(reader)
        return reader

    def leave(self, conversation_id: str, reader: Subscription[TurnEvent]) -> None:
        """Forgets a reader."""
        readers = self._watching.get(conversation_id, set())
        readers.discard(reader)
        if not readers:
            self._watching.pop(conversation_id, None)

    def _wake(self, conversation_id: str) -> None:
        for reader in self._watching.get(conversation_id, ()):
            reader.wake()


def _interrupt(tx: Tx, turn: TurnRow) -> None:
    message = "The server stopped while the turn was under way. Its runs go on; no model is asked twice."
    end_turn(tx, turn, "INTERRUPTED", message, turn.usage, turn.cost)
