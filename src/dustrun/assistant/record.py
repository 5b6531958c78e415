"""Writes what happens in a turn: a part is on disk before it is shown, and a call before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dustrun import clock
from dustrun.assistant.budget import Budget
from dustrun.sdk.llm.asking import usd
from dustrun.storage.access import keys
from dustrun.storage.data import conversation_turns as rows
from dustrun.storage.data.conversation_turns import TurnRow
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer

Json = dict[str, Any]
Event = tuple[str, Json]
Wake = Callable[[str], None]


class KeyEnded(Exception):
    """The key in whose name the turn runs was revoked or has expired."""


class Record:
    """The writes of one turn."""

    def __init__(self, writer: Writer, wake: Wake, turn: TurnRow, budget: Budget) -> None:
        self.turn = turn
        self.budget = budget
        self._writer = writer
        self._wake = wake

    async def add(self, parts: list[Json], events: list[Event]) -> None:
        """Adds parts and events to the message; raises `KeyEnded` if its key is no longer good."""
        turn = self.turn

        def unit(tx: Tx) -> None:
            key, now = keys.find(tx, turn.org_id, turn.key_id), clock.now_ms()
            if key is None or key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
                raise KeyEnded
            for part in parts:
                rows.add_part(tx, turn.message_id, part)
            for type_, data in events:
                rows.add_event(tx, turn.conversation_id, turn.message_id, type_, now, data)
            self._update(tx, rows.STREAMING, None, None)

        await self._writer.write(unit)
        self._wake(turn.conversation_id)

    async def finish(self, failure: str | None, message: str = "") -> None:
        """Ends the turn, as complete or failed."""
        turn = self.turn

        def unit(tx: Tx) -> None:
            end_turn(tx, turn, failure, message, self.budget.usage(), usd(self.budget.cost))

        await self._writer.write(unit)
        self._wake(turn.conversation_id)

    def _update(self, tx: Tx, status: str, failure: str | None, at: int | None) -> None:
        budget = self.budget
        cost = usd(budget.cost + budget.reserved)
        rows.update(tx, self.turn.message_id, status=status, failure=failure, usage=budget.usage(), cost=cost, at=at)


def end_turn(tx: Tx, turn: TurnRow, failure: str | None, message: str, usage: Json, cost: str) -> None:
    """Ends a turn in its transaction: its state, its message's text, and the last event."""
    now = clock.now_ms()
    texts = [part["text"] for part in rows.list_parts(tx, turn.message_id) if part["type"] == "text"]
    rows.set_content(tx, turn.message_id, "\n\n".join(texts))
    status = "complete" if failure is None else "failed"
    rows.update(tx, turn.message_id, status=status, failure=failure, usage=usage, cost=cost, at=now)
    event: Event = ("turn_finished", {"usage": usage})
    if failure is not None:
        event = ("turn_failed", {"code": failure, "message": message, "usage": usage})
    rows.add_event(tx, turn.conversation_id, turn.message_id, event[0], now, event[1])
