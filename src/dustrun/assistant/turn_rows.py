"""What a turn begins with, and what it goes on from: all of it is on disk."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from dustrun import clock
from dustrun.assistant.budget import Budget
from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass
from dustrun.sdk.llm.messages import Called
from dustrun.services.access import audit
from dustrun.services.access.principal import Principal
from dustrun.services.data.conversations import next_message_id
from dustrun.settings import Settings
from dustrun.storage.data import conversation_turns as turns
from dustrun.storage.data import conversations
from dustrun.storage.data.conversation_turns import TurnRow
from dustrun.storage.data.conversations import MessageRow
from dustrun.storage.db.statement import Tx

_DAY_MS: Final = 86_400_000
_EMPTY: Final = {"requests": 0, "calls": 0, "inputTokens": 0, "outputTokens": 0, "costUsd": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person asks."""

    text: str
    connector_id: str | None = None
    model: str | None = None
    workflow_id: str | None = None


def insert_turn(tx: Tx, principal: Principal, conversation_id: str, asked: Asked) -> TurnRow:
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
    turns.add_event(tx, conversation_id, answer.id, "turn_started", now, {"questionId": question.id})
    audit.record(tx, principal, "turn.start", answer.id, conversationId=conversation_id)
    return turn


def open_calls(parts: list[dict[str, Any]]) -> tuple[Called, ...]:
    """The calls that have no result yet."""
    answered = {part["callId"] for part in parts if part["type"] == "tool_result"}
    return tuple(
        Called(part["callId"], part["tool"], part["args"])
        for part in parts
        if part["type"] == "tool_call" and part["callId"] not in answered
    )


def cost_of_others(tx: Tx, turn: TurnRow) -> Decimal:
    """What the other turns of the key have cost or reserved today."""
    since = clock.now_ms() - _DAY_MS
    return sum(map(Decimal, turns.list_costs(tx, turn.key_id, since, but=turn.message_id)), Decimal(0))


def stored_budget(tx: Tx, turn: TurnRow, settings: Settings) -> Budget:
    """What the turn has used so far, and what the other turns of its key have cost today."""
    row = turns.find(tx, turn.message_id)
    parts = turns.list_parts(tx, turn.message_id)
    left = {call.call_id for call in open_calls(parts)}
    made = [part for part in parts if part["type"] == "tool_call" and part["callId"] not in left]
    budget = Budget(settings, cost_of_others(tx, turn))
    budget.restore((row or turn).usage, (dumps_text([part["tool"], part["args"]]) for part in made))
    return budget
