"""Takes events of chains: each starts one run, whatever reorgs do to its block; and what was removed is told of.

An event's identity is its transaction and the position in it. A transaction that comes back in another block is the
same event: it starts no second run. Only if a run has told of its removal (`onReorg: retract`), another one tells that
it is back, so that what the workflow did and undid ends as the chain does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from dustrun.core.triggers.chain.cursor import Cursor
from dustrun.core.triggers.chain.watch import ChainEvent, Watch
from dustrun.core.triggers.event import CursorMove, TriggerEvent
from dustrun.core.triggers.limits import Skip
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.services.triggers.intake import FireOptions, Intake
from dustrun.services.triggers.recording import Fired
from dustrun.services.triggers.subscriptions import Subscription
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.triggers import chain_events, events
from dustrun.storage.triggers.chain_events import ChainEventRow
from dustrun.storage.triggers.events import EventRow

RETRACTED: Final = "retracted"
RESTORED: Final = "restored"
_PLACE: Final = frozenset({"blockNumber", "blockHash", "blockTime", "transactionIndex", "logIndex", "foundIn", "reorg"})


class ChainIntake:
    """Records events of chains through the intake, together with the block that each is in."""

    def __init__(self, database: Database, writer: Writer, intake: Intake) -> None:
        self._database = database
        self._writer = writer
        self._intake = intake

    async def move(self, sub: Subscription, version: int, cursor: Cursor) -> int:
        """Moves the cursor alone; its new version."""
        return await self._intake.move(sub, CursorMove(version, cursor.public()))

    async def record(self, sub: Subscription, event: ChainEvent, move: tuple[int, Cursor] | None) -> Fired:
        """Takes an event that is in a canonical block, and moves the cursor (version and new value) with it."""
        known, before = await self._database.read(
            lambda tx: (chain_events.find(tx, sub.pk, event.key), events.find_by_key(tx, sub.pk, event.key))
        )
        place = ChainEventRow(sub.pk, event.key, event.block.number, event.block.hash)
        moved = None if move is None else CursorMove(move[0], move[1].public())
        options = FireOptions(
            given=None if event.failure is None else Skip("filter", event.failure),
            beside=lambda tx: chain_events.save(tx, place),
        )
        key, payload = event.key, dict(event.payload)
        if known is not None and not known.is_live and before is not None:
            place = replace(place, retractions=known.retractions)
            options = FireOptions(beside=_restore(place, known, before, event))
            if known.retractions and before.run_id is not None:
                options = replace(options, is_unlimited=True)
                key, payload = f"{key}:{RESTORED}{known.retractions}", {**payload, "reorg": RESTORED}
        return await self._intake.fire(sub, TriggerEvent(key, payload, event.block.time * 1000), moved, options)

    async def retract(self, sub: Subscription, watch: Watch, row: ChainEventRow) -> None:
        """Marks an event whose block a reorg removed; with `onReorg: retract` a run tells of it."""
        before = await self._database.read(lambda tx: events.find_by_key(tx, sub.pk, row.key))
        if before is None:
            return
        gone = replace(row, is_live=0, was=_outcome_text(before))
        tells = watch.on_reorg == "retract" and before.run_id is not None
        if not tells:
            await self._writer.write(lambda tx: _remove(tx, gone, before))
            return
        gone = replace(gone, retractions=row.retractions + 1)
        payload = {**loads_own(before.payload), "blockNumber": row.block_number, "blockHash": row.block_hash}
        told = TriggerEvent(
            f"{row.key}:{RETRACTED}{gone.retractions}", {**payload, "reorg": RETRACTED}, before.occurred_at
        )
        options = FireOptions(is_unlimited=True, beside=lambda tx: _remove(tx, gone, before))
        await self._intake.fire(sub, told, None, options)


def _outcome_text(row: EventRow) -> str:
    return dumps_text({"outcome": row.outcome, "reason": row.reason, "message": row.message})


def _remove(tx: Tx, gone: ChainEventRow, before: EventRow) -> None:
    chain_events.save(tx, gone)
    message = f"A reorg removed block {gone.block_number} ({gone.block_hash}), which it was in."
    events.orphan(tx, before.pk, "reorg", message)


def _restore(place: ChainEventRow, known: ChainEventRow, before: EventRow, event: ChainEvent) -> Callable[[Tx], None]:
    assert known.was is not None
    was = loads_own(known.was)
    message = f"A reorg removed block {known.block_number}; it came back in block {place.block_number}"
    changed = _content(loads_own(before.payload)) != _content(event.payload)
    message += ", with other values than its run has." if changed else "."

    def unit(tx: Tx) -> None:
        chain_events.save(tx, place)
        events.restore(tx, before.pk, was["outcome"], was["reason"], message)

    return unit


def _content(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in _PLACE}
