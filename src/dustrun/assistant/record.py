"""Writes what happens in a turn: a part is on disk before it is shown, and a call before it runs."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from dustrun import clock
from dustrun.assistant.budget import TurnBudget
from dustrun.assistant.toolbox import LaunchQuestion
from dustrun.core.stream_events import APPROVAL_REQUESTED, TEXT_DELTA, TURN_FAILED, TURN_FINISHED, TURN_STARTED
from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass
from dustrun.sdk.llm.connection import usd
from dustrun.sdk.llm.messages import ModelToolCall
from dustrun.services.access import audit
from dustrun.services.access.principal import Principal
from dustrun.services.data.conversations import next_message_id
from dustrun.settings import Settings
from dustrun.storage.access import keys
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.data import conversation_turns as rows
from dustrun.storage.data import conversation_turns as turns
from dustrun.storage.data import conversations
from dustrun.storage.data.conversation_turns import TurnRow
from dustrun.storage.data.conversations import MessageRow
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

Json = dict[str, Any]
Event = tuple[str, Json]
Wake = Callable[[str], None]


class KeyEnded(Exception):
    """The key in whose name the turn runs was revoked or has expired."""


class TurnEnded(Exception):
    """Somebody has ended the turn, maybe by way of another process; nothing more is written."""


class Record:
    """The writes of one turn."""

    def __init__(self, writer: Writer, wake: Wake, turn: TurnRow, budget: TurnBudget) -> None:
        self.turn = turn
        self.budget = budget
        self._writer = writer
        self._wake = wake

    async def begin_request(self, most: Decimal, others: Callable[[Tx, TurnRow], Decimal]) -> None:
        """Reserves what a request may cost, in the transaction that sees what the key's other turns have reserved;
        raises `Exceeded` and `KeyEnded`."""
        turn, number = self.turn, self.budget.requests + 1

        def unit(tx: Tx) -> None:
            check_key(tx, turn)
            self.budget.begin_request(number, others(tx, turn), most)
            self._update(tx, rows.STREAMING)

        await self._writer.write(unit)

    async def add(self, parts: list[Json], events: list[Event]) -> None:
        """Adds parts and events to the message; raises `KeyEnded` if its key is no longer good."""
        turn = self.turn

        def unit(tx: Tx) -> None:
            check_key(tx, turn)
            for part in parts:
                rows.add_part(tx, turn.message_id, part)
            self._tell(tx, events)
            self._update(tx, rows.STREAMING)

        await self._writer.write(unit)
        self._wake(turn.conversation_id)

    async def say(self, text: str, more: str, seq: int | None) -> int:
        """Makes a part of the message say `text`, by which it grows by `more`; returns the part's number."""
        turn, part = self.turn, {"type": "text", "text": text}

        def unit(tx: Tx) -> int:
            check_key(tx, turn)
            if seq is not None:
                rows.set_part(tx, turn.message_id, seq, part)
            if more:
                self._tell(tx, [(TEXT_DELTA, {"text": more})])
            return rows.add_part(tx, turn.message_id, part) if seq is None else seq

        found = await self._writer.write(unit)
        self._wake(turn.conversation_id)
        return found

    def ask_person(self, tx: Tx, call_id: str, question: LaunchQuestion) -> None:
        """Makes the turn wait for a person, in the transaction that stores the question."""
        check_key(tx, self.turn)
        asked = {"approvalId": question.approval_id, "binding": question.binding}
        more = {"runId": question.run_id, "mode": question.mode, "rehearsalRunId": question.rehearsal_run_id}
        part = {"type": "approval", "callId": call_id, **asked, **more, "decision": None}
        rows.add_part(tx, self.turn.message_id, part)
        self._tell(tx, [(APPROVAL_REQUESTED, {"callId": call_id, **asked, **more})])
        self._update(tx, rows.WAITING)

    def _tell(self, tx: Tx, events: list[Event]) -> None:
        now = clock.now_ms()
        for type_, data in events:
            rows.add_event(tx, self.turn.conversation_id, self.turn.message_id, type_, now, data)

    def show(self) -> None:
        """Wakes who follows the conversation."""
        self._wake(self.turn.conversation_id)

    async def finish(self, failure: str | None, message: str = "") -> None:
        """Ends the turn, as complete or failed."""
        turn = self.turn

        def unit(tx: Tx) -> None:
            end_turn(tx, turn, failure, message, self.budget.usage(), usd(self.budget.cost))

        await self._writer.write(unit)
        self._wake(turn.conversation_id)

    def _update(self, tx: Tx, status: str) -> None:
        budget = self.budget
        cost = usd(budget.cost + budget.reserved)
        rows.update(tx, self.turn.message_id, status=status, failure=None, usage=budget.usage(), cost=cost, at=None)


def check_key(tx: Tx, turn: TurnRow) -> KeyRow:
    """The key in whose name the turn runs; raises `KeyEnded` if it is no longer good, and `TurnEnded`."""
    row = rows.find(tx, turn.message_id)
    if row is not None and row.finished_at is not None:
        raise TurnEnded
    key = keys.find(tx, turn.org_id, turn.key_id)
    is_good = key is not None and key.revoked_at is None
    if key is None or not is_good or (key.expires_at is not None and key.expires_at <= clock.now_ms()):
        raise KeyEnded
    return key


def end_turn(tx: Tx, turn: TurnRow, failure: str | None, message: str, usage: Json, cost: str) -> None:
    """Ends a turn in its transaction: its state, its message's text, and the last event."""
    now = clock.now_ms()
    texts = [part["text"] for part in rows.list_parts(tx, turn.message_id) if part["type"] == "text"]
    rows.set_content(tx, turn.message_id, "\n\n".join(texts))
    status = "complete" if failure is None else "failed"
    rows.update(tx, turn.message_id, status=status, failure=failure, usage=usage, cost=cost, at=now)
    event: Event = (TURN_FINISHED, {"usage": usage})
    if failure is not None:
        event = (TURN_FAILED, {"code": failure, "message": message, "usage": usage})
    rows.add_event(tx, turn.conversation_id, turn.message_id, event[0], now, event[1])


# What a turn begins with, and what it goes on from: all of it is on disk.


_DAY_MS: Final = 86_400_000
_EMPTY: Final = {"requests": 0, "calls": 0, "inputTokens": 0, "outputTokens": 0, "costUsd": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """A person's request."""

    text: str
    connector_id: str | None = None
    model: str | None = None
    workflow_id: str | None = None


def insert_turn(tx: Tx, principal: Principal, conversation_id: str, asked: TurnRequest) -> TurnRow:
    """Adds the person's message and the assistant's, whose turn begins."""
    org_id, now = principal.org_id, clock.now_ms()
    question = MessageRow(next_message_id(tx, conversation_id), conversation_id, org_id, "user", asked.text, now)
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
        connector_id=asked.connector_id,
        model=asked.model,
        workflow_id=asked.workflow_id,
    )
    turns.insert(tx, turn)
    turns.add_event(tx, conversation_id, answer.id, TURN_STARTED, now, {"questionId": question.id})
    audit.record(tx, principal, "turn.start", answer.id, conversationId=conversation_id)
    return turn


def open_calls(parts: list[dict[str, Any]]) -> tuple[ModelToolCall, ...]:
    """The calls that have no result yet."""
    answered = {part["callId"] for part in parts if part["type"] == "tool_result"}
    return tuple(
        ModelToolCall(part["callId"], part["tool"], part["args"])
        for part in parts
        if part["type"] == "tool_call" and part["callId"] not in answered
    )


def cost_of_others(tx: Tx, turn: TurnRow) -> Decimal:
    """The cost of the key's other turns today, paid or reserved."""
    since = clock.now_ms() - _DAY_MS
    return sum(map(Decimal, turns.list_costs(tx, turn.key_id, since, but=turn.message_id)), Decimal(0))


def stored_budget(tx: Tx, turn: TurnRow, settings: Settings) -> TurnBudget:
    """The use of the turn so far, and what the other turns of its key have cost today."""
    row = turns.find(tx, turn.message_id)
    parts = turns.list_parts(tx, turn.message_id)
    left = {call.call_id for call in open_calls(parts)}
    made = [part for part in parts if part["type"] == "tool_call" and part["callId"] not in left]
    budget = TurnBudget(settings, cost_of_others(tx, turn))
    budget.restore((row or turn).usage, (dumps_text([part["tool"], part["args"]]) for part in made))
    return budget
