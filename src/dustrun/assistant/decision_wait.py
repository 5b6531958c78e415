"""What a turn does while a person decides: it waits, and takes the decision as its call's result, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import Final

from dustrun import clock
from dustrun.assistant.loop import returned
from dustrun.assistant.record import Event, Json, check_key
from dustrun.assistant.toolbox import ToolResult
from dustrun.core.values.exact_json import dumps_text
from dustrun.records import dataclass
from dustrun.storage.access.keys import KeyRow
from dustrun.storage.data import conversation_turns as turns
from dustrun.storage.data.conversation_turns import TurnRow
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.runs import approvals
from dustrun.storage.runs.approvals import APPROVED, PENDING, REJECTED, TIMED_OUT, ApprovalRow

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
class Waits:
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
    """What the turn waits for; None if it was deleted with its rehearsal."""
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
    turns.add_event(tx, turn.conversation_id, turn.message_id, "approval_decided", clock.now_ms(), told)


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
    events: list[Event] = [("approval_decided", {"approvalId": part["approvalId"], "decision": decision})]
    parts: list[Json] = []
    if decision == "approved":
        linked = {"runId": part["runId"], "mode": part["mode"]}
        told["runId"] = part["runId"]
        parts.append({"type": "run", **linked})
        events.append(("run_linked", linked))
    if row is not None and row.comment:
        told["untrusted"] = {"comment": row.comment[:_MOST_COMMENT]}
    result, finished = returned(part["callId"], "launch", ToolResult(True, dumps_text(told)))
    for one in (*result, *parts):
        turns.add_part(tx, turn.message_id, one)
    for type_, data in (*events, *finished):
        turns.add_event(tx, turn.conversation_id, turn.message_id, type_, now, data)
    turns.go_on(tx, turn.message_id)
    return key
