"""Use cases of turns: begin one, read what it said, and watch a conversation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import field, replace
from typing import Any, Final

from dustrun import clock
from dustrun.assistant import loop
from dustrun.assistant.loop import returned
from dustrun.assistant.model_access import ModelAccess, find_connector, open_model
from dustrun.assistant.record import (
    Event,
    Json,
    Record,
    TurnRequest,
    check_key,
    end_turn,
    insert_turn,
    open_calls,
    stored_budget,
)
from dustrun.assistant.toolbox import Toolbox, ToolResult, narrowed
from dustrun.core.stream_events import APPROVAL_DECIDED, RUN_LINKED
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.errors import Code, Conflict, DustrunError, Forbidden, NotFound, Temporary
from dustrun.listeners import Listeners
from dustrun.records import dataclass
from dustrun.sdk.llm.connection import ModelData
from dustrun.services.access import audit, idempotency
from dustrun.services.access.api_keys import principal_of
from dustrun.services.access.organizations import need_tokens
from dustrun.services.access.principal import Principal
from dustrun.services.connectors.connections import Connections
from dustrun.services.data import conversations
from dustrun.services.data.conversations import get_conversation
from dustrun.services.streaming.broadcaster import Subscription
from dustrun.settings import Settings
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.data import conversation_turns as turns
from dustrun.storage.data.conversation_turns import TurnEvent, TurnRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import approvals
from dustrun.storage.runs.approvals import APPROVED, PENDING, REJECTED, TIMED_OUT, ApprovalRow
from dustrun.storage.sharing import leases

# What a turn does while a person decides: it waits, and takes the decision as its call's result, once.


_MOST_COMMENT: Final = 500
_TOLD: Final = {
    "approved": "A person has approved it, and the run has started; get_report tells of it.",
    "rejected": "A person has rejected it. Nothing runs. Do not propose the same again without being asked.",
    "expired": "Nobody decided in time. Nothing runs. Simulate again before you propose it again.",
}
_SHOWN: Final = {APPROVED: "approved", TIMED_OUT: "expired"}


@dataclass(slots=True)
class Bell:
    """Wakes the turns that wait for a question."""

    waiting: dict[str, set[asyncio.Event]] = field(default_factory=dict)

    def ring(self, approval_id: str) -> None:
        """The question was decided."""
        for event in self.waiting.get(approval_id, ()):
            event.set()

    def ring_all(self) -> None:
        """Any question may have been decided."""
        for approval_id in list(self.waiting):
            self.ring(approval_id)

    async def wait(self, approval_id: str, is_over: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        """Waits until it rings, or for some time; returns at once if `is_over` already holds."""
        event = asyncio.Event()
        self.waiting.setdefault(approval_id, set()).add(event)
        try:
            if await is_over():
                return
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return
        finally:
            left = self.waiting[approval_id]
            left.discard(event)
            if not left:
                del self.waiting[approval_id]


@dataclass(frozen=True, slots=True)
class DecisionWaits:
    """Waits for decisions, and writes them into the messages that asked for them."""

    database: Database
    writer: Writer
    bell: Bell

    async def decision(self, turn: TurnRow) -> KeyRow:
        """Waits until the turn's question is decided or over, and takes the decision; the key, which is still good.
        Raises `KeyEnded`."""
        while True:
            found = await self.database.read(lambda tx: _question(tx, turn))
            if found is not None and found.status == PENDING:
                left_s = max(0.0, (found.expires_at - clock.now_ms()) / 1000)
                await self.bell.wait(found.id, lambda: self._is_decided(turn), left_s + 0.01)
            key = await self.writer.write(lambda tx: take(tx, turn))
            if key is not None:
                return key

    async def _is_decided(self, turn: TurnRow) -> bool:
        row = await self.database.read(lambda tx: _question(tx, turn))
        return row is None or row.status != PENDING


def _question(tx: Tx, turn: TurnRow) -> ApprovalRow | None:
    """The event that the turn waits for; None if it was deleted with its rehearsal."""
    found = turns.find_question(tx, turn.message_id)
    return None if found is None else approvals.find(tx, turn.org_id, found[1]["approvalId"])


def withdraw(tx: Tx, turn: TurnRow, key_id: str) -> None:
    """Closes the question of a turn that a person has stopped, so that nothing starts later."""
    found = turns.find_question(tx, turn.message_id)
    if found is None:
        return
    seq, part = found
    approvals.close(tx, part["approvalId"], REJECTED, clock.now_ms(), key_id, "The turn was stopped.")
    row = approvals.find(tx, turn.org_id, part["approvalId"])
    decision = "expired" if row is None else _SHOWN.get(row.status, "rejected")
    turns.set_part(tx, turn.message_id, seq, {**part, "decision": decision})
    told = {"approvalId": part["approvalId"], "decision": decision}
    turns.add_event(tx, turn.conversation_id, turn.message_id, APPROVAL_DECIDED, clock.now_ms(), told)


def take(tx: Tx, turn: TurnRow) -> KeyRow | None:
    """Writes the decision as the call's result, and lets the turn go on; None while the question is open."""
    row, now = _question(tx, turn), clock.now_ms()
    if row is not None and row.status == PENDING:
        return None
    key = check_key(tx, turn)
    if row is not None and row.status == TIMED_OUT:
        approvals.close(tx, row.id, TIMED_OUT, now)
    found = turns.find_question(tx, turn.message_id)
    assert found is not None, "a turn that waits has asked"
    seq, part = found
    decision = "expired" if row is None else _SHOWN.get(row.status, "rejected")
    turns.set_part(tx, turn.message_id, seq, {**part, "decision": decision})
    told: Json = {"started": decision == "approved", "decision": decision, "note": _TOLD[decision]}
    events: list[Event] = [(APPROVAL_DECIDED, {"approvalId": part["approvalId"], "decision": decision})]
    parts: list[Json] = []
    if decision == "approved":
        linked = {"runId": part["runId"], "mode": part["mode"]}
        told["runId"] = part["runId"]
        parts.append({"type": "run", **linked})
        events.append((RUN_LINKED, linked))
    if row is not None and row.comment:
        told["untrusted"] = {"comment": row.comment[:_MOST_COMMENT]}
    result, finished = returned(part["callId"], "launch", ToolResult(True, dumps_text(told)))
    for one in (*result, *parts):
        turns.add_part(tx, turn.message_id, one)
    for type_, data in (*events, *finished):
        turns.add_event(tx, turn.conversation_id, turn.message_id, type_, now, data)
    turns.go_on(tx, turn.message_id)
    return key


__all__ = ["TurnRequest", "Turns"]
_PAGE: Final = 200
_STOPPED: Final = "A person has stopped it. What it had started goes on."
_CUT_OFF: Final = "The server stopped while the turn was under way. Its runs go on; no model is asked twice."


class Turns:
    """Begins turns and carries them out; `stop` ends those under way. `holder`: in a shared store this process, which
    holds a lease for each of its turns."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        connections: Connections,
        settings: Settings,
        holder: str | None = None,
    ) -> None:
        self._database = database
        self._writer = writer
        self._connections = connections
        self._settings = settings
        self._holder = holder
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watching: dict[str, set[Subscription[TurnEvent]]] = {}
        self._bell = Bell()
        self._toolbox: Toolbox | None = None
        self.on_event: Listeners[[str]] = Listeners()
        """In a shared store: called with the conversation of each event of this process."""

    async def start(self, toolbox: Toolbox) -> None:
        """Ends the turns that a crash cut off, so that no model is asked twice; those that wait for a person go on
        waiting."""
        self._toolbox = toolbox
        await self.take_over()

    async def take_over(self) -> None:
        """Takes over the turns that a process left when it ended; none that another one carries out."""
        for turn in await self._interrupt(but=frozenset(self._tasks)):
            if turn.message_id not in self._tasks:
                self._spawn(turn.message_id, self._go_on(turn))

    async def stop(self) -> None:
        """Ends the turns under way as interrupted, and all streams. Those that wait for a person go on after a
        restart."""
        tasks = self.tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Temporary):  # the store has stopped already; the next start ends them
            await self._interrupt()
        self.wake_all()

    async def _interrupt(self, but: frozenset[str] = frozenset()) -> list[TurnRow]:
        """Ends the turns that were cut off; the others wait."""

        def unit(tx: Tx) -> list[TurnRow]:
            found = [turn for turn in turns.list_open(tx) if turn.message_id not in but and self._is_ours(tx, turn)]
            for turn in found:
                if turn.status != turns.WAITING:
                    end_turn(tx, turn, "INTERRUPTED", _CUT_OFF, turn.usage, turn.cost)
            return [turn for turn in found if turn.status == turns.WAITING]

        return await self._writer.write(unit)

    def _is_ours(self, tx: Tx, turn: TurnRow) -> bool:
        """Whether no other living process carries the turn out."""
        return self._holder is None or leases.take(tx, _lease_of(turn.message_id), self._holder) is not None

    def tasks(self) -> list[asyncio.Task[None]]:
        """The part that carries the turns under way out."""
        return list(self._tasks.values())

    def decided(self, row: ApprovalRow) -> None:
        """A launch was approved or rejected: a turn may wait for that."""
        self.hear_decided(row.id)

    def hear_decided(self, approval_id: str) -> None:
        """A question was decided, here or in another process."""
        self._bell.ring(approval_id)

    def look(self) -> None:
        """Wake-ups of other processes may have been lost: everybody reads the tables."""
        self._bell.ring_all()
        self.wake_all()

    def wake_all(self) -> None:
        """Wakes all readers, so that they see whether they may go on."""
        for readers in self._watching.values():
            for reader in readers:
                reader.wake()

    async def begin(self, principal: Principal, conversation_id: str, asked: TurnRequest) -> str:
        """Adds the person's message and the assistant's, and begins the turn; returns the assistant's message id.
        Raises `Conflict` while another turn of the conversation is under way."""
        if asked.workflow_id is not None:
            principal.need_workflow(asked.workflow_id)
        await self._database.read(lambda tx: get_conversation(tx, principal, conversation_id))
        row = await find_connector(self._database, principal, asked.connector_id)
        access = await open_model(self._database, self._connections, row)
        data: ModelData = access.connection.data
        model = asked.model or data.model
        data.price_of(model)
        asked = replace(asked, connector_id=row.id, model=model)

        def unit(tx: Tx) -> TurnRow:
            get_conversation(tx, principal, conversation_id)
            if turns.find_open(tx, conversation_id) is not None:
                raise Conflict("A turn of the conversation is under way; wait for its end.", code=Code.TURN_OPEN)
            need_tokens(tx, principal.org_id, self._settings.max_model_tokens)
            turn = insert_turn(tx, principal, conversation_id, asked)
            self._is_ours(tx, turn)
            return turn

        turn = await idempotency.write(self._writer, unit)
        self._spawn(turn.message_id, self._carry_out(turn, narrowed(principal), access))
        self._wake(conversation_id)
        return turn.message_id

    async def stop_turn(self, principal: Principal, conversation_id: str, message_id: str) -> TurnRow:
        """Ends a turn as a person asks; its runs go on, and what it has proposed is withdrawn. One that has ended stays
        as it is. Raises `NotFound`, and `Forbidden` for a turn of another key unless it is an administrator's."""

        def find(tx: Tx) -> TurnRow:
            get_conversation(tx, principal, conversation_id)
            found = turns.find(tx, message_id)
            if found is None or found.conversation_id != conversation_id:
                raise NotFound("The conversation has no such turn.", code=Code.MESSAGE_UNKNOWN)
            if found.key_id != principal.key_id and not principal.may("admin"):
                raise Forbidden("Only the key that asked, or an administrator's, stops a turn of the assistant.")
            return found

        await self._database.read(find)
        task = self._tasks.get(message_id)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

        def unit(tx: Tx) -> TurnRow:
            turn = find(tx)
            if turn.finished_at is None:
                withdraw(tx, turn, principal.key_id)
                end_turn(tx, turn, "STOPPED", _STOPPED, turn.usage, turn.cost)
                audit.record(tx, principal, "turn.stop", message_id, conversationId=conversation_id)
            return find(tx)

        ended = await self._writer.write(unit)
        self._wake(conversation_id)
        return ended

    def _spawn(self, message_id: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._holding(message_id, work))
        self._tasks[message_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(message_id, None))

    async def _holding(self, message_id: str, work: Coroutine[Any, Any, None]) -> None:
        """Carries a turn out, and gives its lease back."""
        holder = self._holder
        try:
            await work
        finally:
            if holder is not None:
                with contextlib.suppress(DustrunError):  # it ends with this process
                    await self._writer.write(lambda tx: leases.forget(tx, _lease_of(message_id), holder))

    async def _carry_out(self, turn: TurnRow, principal: Principal, access: ModelAccess) -> None:
        if await loop.run(await self._work(turn, principal, access)):
            await self._go_on(turn)

    async def _go_on(self, turn: TurnRow) -> None:
        """Waits for a person, and goes on with what they decided; the model's key and price may have changed."""
        waits = DecisionWaits(self._database, self._writer, self._bell)

        async def again() -> bool:
            key = await waits.decision(turn)
            self._wake(turn.conversation_id)
            row = await find_connector(self._database, principal_of(key), turn.connector_id)
            access = await open_model(self._database, self._connections, row)
            return await loop.run(await self._work(turn, narrowed(principal_of(key)), access))

        while await loop.ending(await self._record(turn), again()):
            pass

    async def _record(self, turn: TurnRow) -> Record:
        budget = await self._database.read(lambda tx: stored_budget(tx, turn, self._settings))
        return Record(self._writer, self._wake, turn, budget)

    async def _work(self, turn: TurnRow, principal: Principal, access: ModelAccess) -> loop.Work:
        assert self._toolbox is not None, "turns begin after the start"
        spoken, left = await self._database.read(
            lambda tx: (
                tuple(turns.list_questions(tx, turn.conversation_id, turn.key_id)),
                open_calls(turns.list_parts(tx, turn.message_id)),
            )
        )
        about = "" if turn.workflow_id is None else f" The person looks at the workflow {turn.workflow_id}."
        return loop.Work(
            database=self._database,
            record=await self._record(turn),
            toolbox=self._toolbox,
            principal=principal,
            access=access,
            model=turn.model or access.connection.data.model,
            about=about,
            spoken=spoken,
            left=left,
        )

    async def list_events(self, conversation_id: str, after: int) -> list[TurnEvent]:
        """The next events of a conversation."""
        return await self._database.read(lambda tx: turns.list_events(tx, conversation_id, after, _PAGE))

    async def shown(self, principal: Principal, events: list[TurnEvent]) -> list[TurnEvent]:
        """The events as far as a reader may read them, as the parts of messages are."""

        def query(tx: Tx) -> list[TurnEvent]:
            of = {message_id: turns.find(tx, message_id) for message_id in {one.message_id for one in events}}
            return [_shown(tx, principal, of[one.message_id], one) for one in events]

        return await self._database.read(query)

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
        self.on_event(conversation_id)
        self.hear_event(conversation_id)

    def hear_event(self, conversation_id: str) -> None:
        """An event of the conversation is on disk, from here or another process."""
        for reader in self._watching.get(conversation_id, ()):
            reader.wake()


def _lease_of(message_id: str) -> str:
    return f"{leases.ONCE}turn:{message_id}"


def _shown(tx: Tx, principal: Principal, turn: TurnRow | None, event: TurnEvent) -> TurnEvent:
    if turn is None:
        return event
    data = loads_own(event.data)
    told = conversations.shown(tx, principal, turn, data)
    return event if told is data else replace(event, data=dumps_text(told))
